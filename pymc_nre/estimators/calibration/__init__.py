"""A ratio whose logits are what a classifier's should be: calibrated on simulations.

`calibrate` makes one of an estimator. What simulations tell is counted in windows of the logit
(`windows`), in each region of the parameters (`regions`).
"""
