"""Log ratios as machine code, whatever the network.

`traced` turns a network into a program for its architecture and a vector of weights, and makes
code of it, which Python calls by itself and what Numba compiles by an address (`entries`). What is
made stays on disk (`code_folder`).

`steps` has what training needs: gradient steps of small networks, but for matrix products.

PyTensor is not known here: arrays go in, arrays come out.
"""
