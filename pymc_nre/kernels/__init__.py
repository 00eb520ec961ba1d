"""Log ratios as machine code, whatever the network.

`traced` turns a network into a program for its architecture and a vector of weights, and makes
code of it. Around that code are functions that numba compiles (`entries`): they look at what is
given (`inputs`) and build the wall around the training domain (`wall`). `compilation` says how such
functions are compiled and called by name.

`steps` has what training needs: gradient steps of small networks, but for matrix products.

PyTensor is not known here: arrays go in, arrays come out.
"""
