r"""Posteriors of many data sets at once, without MCMC.

A ratio of any parameters and observations costs one pass through a small network, so a posterior
:math:`p(\theta) \prod_i r(\theta, x_i)` of one or two numbers is tabulated (`grid`, on an
`adaptive_grid`), and one of more numbers is made of weighted draws of the prior (`importance`,
`weights`). `data_sets` reads what both take.
"""
