"""Simulation-based calibration of a user's own model, with its MCMC.

`replicates` draws data sets from the model, `chains` samples the model given each, `run` ranks the
true values among the draws, and `records` keeps what is known, in memory and on disk.
"""
