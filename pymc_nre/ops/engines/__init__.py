"""What evaluates a ratio in graphs.

`choice` takes the compiled code of a network that could be traced (`compiled_engine`), or torch for
any other (`torch_engine`). JAX gets functions that it compiles itself, or calls back
(`jax_callbacks`).
"""
