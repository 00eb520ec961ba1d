"""Networks as machine code, without an estimator around them."""

import numpy as np
import torch

from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
from pymc_nre.kernels.traced.network import trace


def traced(network, size, event_shape=(), *, embedded=False):
    """What is compiled of a network with D parameters, compared at random points."""
    rng = np.random.default_rng(99)
    theta, x = rng.normal(size=(20, size)), rng.normal(size=(20, *event_shape))
    return trace(network, theta, x, embedded=embedded)


def evaluator_of(found, precision=np.float64):
    """In one of the precisions."""
    return CompiledEvaluator(found.program, found.moments, found.weights.astype(precision))


def everything(evaluator, theta, x, v):
    """Values, values again, gradients and Hessian products."""
    both = evaluator.value_and_gradient(theta, x)
    return [evaluator.value(theta, x), *both, evaluator.hessian_product(theta, x, v)]


def rows_of(found, network, x):
    """What compiled code takes for observations."""
    if not found.program.embedded:
        return x
    with torch.no_grad():
        return network.embed(torch.tensor(x)).double().numpy()


class Alone(torch.nn.Module):
    """A network that is an activation of its parameter, and nothing of its observations."""

    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def embed(self, x):
        return x

    def head(self, theta, features):
        return self.activation(theta[:, 0])
