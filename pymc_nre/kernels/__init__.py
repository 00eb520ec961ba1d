"""Log ratios as machine code: for networks of the known family, and for others as they are traced.

A network of the known family becomes a `program` and a vector of weights (`export`), both of them
arguments: one compiled function, kept on disk, serves every network and every data set. `ratio`
gives values and gradients, `hessian` second derivatives; `activations`, `inputs` and `correction`
are compiled into both. `compilation` says how, and `evaluator` calls them. `jax_kernels` runs the
same programs by JAX. Any other network becomes code of its own (`traced`).

PyTensor is not known here: arrays go in, arrays come out.
"""
