"""A ratio inside PyTensor graphs: values, gradients and second derivatives.

Two engines evaluate it, torch for any network (`torch_ops`) and compiled code for the known family
(`compiled_ops`); `engines` chooses. They are differentiated alike (`gradients`). Observations that
may change are embedded on the way (`embedding`), JAX calls back or traces (`jax_callbacks`), and
`guards` asks whether a model asks of its ratio only what a ratio can answer.
"""
