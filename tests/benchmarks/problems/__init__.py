"""Five real problems with known answers, followed from the defaults to the end of all advice.

What a new user would do: train with the defaults, sample, read every warning, do what it says, and
again, until nothing more is said or nothing more can be done. At each station the posterior is
compared with the exact one. A posterior that is wrong where nothing is said is a fault of the
library.
"""
