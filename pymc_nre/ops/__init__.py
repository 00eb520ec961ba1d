"""A ratio inside PyTensor graphs: values, gradients and second derivatives.

Three operations (`ratio_ops`) ask an engine for them (`engines`): the compiled code of a network
that could be traced, or torch, which takes any. An engine says how it evaluates, and how
Numba and JAX get it; all are differentiated alike (`gradients`). Observations that may change are
embedded on the way (`embedding`), and `guards` asks whether a model asks of its ratio only what a
ratio can answer.
"""
