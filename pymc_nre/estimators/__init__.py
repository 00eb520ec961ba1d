"""The artifact: a trained network, what it estimates, and where it may be trusted.

Everything that trains ends in a `RatioEstimator`, and everything that infers begins with one. It is
a value: what changes it makes another. It knows its domain, the region of parameters it was
trained in (`domain`), is evaluated by torch on NumPy arrays (`evaluator`), is saved and loaded
without pickle (`files`), may be the mean of several (`ensemble`) or be calibrated on simulations
(`calibration`), and may know how many trials it bears, which its own scores on simulations tell
(`trial_budgets`). Likelihoods and posteriors that others trained become one too (`arrivals`).
"""
