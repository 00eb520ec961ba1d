"""Searches for the maximum of a model's density, as `pm.find_MAP` makes them."""

from scipy.optimize import minimize


def searched(model):
    """A function from start to maximum, both ``(D,)``, compiled once for all starts."""
    both = model.logp_dlogp_function(ravel_inputs=True)
    both.set_extra_values({})

    def negative(point):
        value, slope = both(point)
        return -value, -slope

    return lambda start: minimize(negative, start, jac=True, method="L-BFGS-B").x
