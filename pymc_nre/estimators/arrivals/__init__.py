"""Estimates that were trained elsewhere, as likelihoods or posteriors: they arrive as ratios.

`from_log_density` makes an estimator of a module that gives log densities, and `prior_terms` reads
off PyMC what a posterior is to be divided by.
"""
