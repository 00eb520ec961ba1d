"""Learn a ratio: simulations and a loss in, a `RatioEstimator` out.

`settings` fills in what a user left open, `batching` deals out pairs, `trainer` takes gradient
steps and averages the weights (gradients are torch's, or written out in `by_hand`; `adamw` moves
them), `loop` runs the epochs of one network until held-out simulations say stop, and
`members` trains as many as are wanted, each of them as suits the simulations. Where training goes
on from a trained ratio, `start` says what is taken from it.
"""
