"""How many independent trials a ratio bears before small errors of each add up.

`trial_budget` is what an estimator remembers of it, `measured_budget` measures it on simulations,
by means of the `scores` of pairs.
"""
