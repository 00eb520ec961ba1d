"""A ratio inside PyTensor graphs: values, gradients and second derivatives.

Three operations (`ratio_ops`) ask an engine for them: torch, which takes any network
(`torch_engine`), or compiled code for the known family (`compiled_engine`); `engines` chooses. An
engine says how it evaluates, and how Numba and JAX get it; all are differentiated alike
(`gradients`). Observations that may change are embedded on the way (`embedding`), JAX calls torch
back (`jax_callbacks`), and `guards` asks whether a model asks of its ratio only what a ratio can
answer.
"""
