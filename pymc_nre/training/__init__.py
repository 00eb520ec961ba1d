"""Learn a ratio: simulations and a loss in, a `RatioEstimator` out.

`settings` fills in what a user left open, `batches` deals out pairs, `trainer` takes gradient steps
and averages the weights, and `loop` runs the epochs until held-out simulations say stop.
"""
