"""A ratio where a likelihood stands in a PyMC model.

`ratio_likelihood` has the distribution and its log ratio as a symbolic tensor; `model_parameters`
tells what a model gives to a ratio as its parameters, draw by draw of a posterior.
"""
