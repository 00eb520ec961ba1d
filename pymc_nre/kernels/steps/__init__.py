"""What a gradient step of a small network does beside matrix products, as machine code.

Parameters are put beside each other (`candidates`). Between products values are activated and
gradients bent (`activated`); of logits there is a loss and its slopes (`answers`); and weights go a
step (`descent`). Each is one pass over its arrays, written with vectors of neighbors (`passes`).
"""
