"""Checks that ask a classifier: where it can tell two samples apart, they differ.

`classifiers` trains many small ones side by side. `roc` gives them reweighted and simulated
observations, `two_sample` true parameters and draws of their posteriors.
"""
