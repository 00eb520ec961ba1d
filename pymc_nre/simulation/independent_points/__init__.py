r"""Simulations of several points each, which are independent given the parameters.

.. math:: p(x_1, \dots, x_m \mid \theta) = \prod_j p(x_j \mid \theta),

so a ratio of one point is all that has to be learned, and every simulation teaches it m times.
`points` holds them, each with the simulation that it is of, `returned` reads them from what a
simulator gives and puts them together, and `one_point` makes a simulator of single points.
"""
