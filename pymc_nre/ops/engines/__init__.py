"""What evaluates a ratio in graphs.

`choice` takes compiled kernels for the known family of networks (`compiled_engine`), the code of a
network that could be traced (`traced_engine`), or torch for any other (`torch_engine`). JAX gets
functions that it compiles itself, or calls back (`jax_callbacks`).
"""
