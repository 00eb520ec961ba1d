"""The same network without pymc_nre's Ops: in torch, in PyTensor, and as matrix products."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import torch
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

_BLOCK = 256  # rows whose layers stay in the cache


def evaluators(ratio, layers):
    """Those that know no PyMC model."""
    return {
        "kernel alone": lambda x: (kernel(ratio, x), float),
        "torch autograd alone": lambda x: (torch_autograd(ratio, x), float),
        "matrix products alone": lambda x: (matrix_products(layers, x), float),
    }


def kernel(ratio, x):
    """What is compiled, called from Python, without PyMC and PyTensor."""
    from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
    from pymc_nre.ops.engines.compilable import whole

    evaluator = CompiledEvaluator.of(whole(ratio, walled=True))
    rows = x[:, None]

    def evaluate(mu):
        values, gradients = evaluator.value_and_gradient(np.array([[mu]]), rows)
        return values.sum(), gradients.sum()

    return evaluate


def torch_autograd(ratio, x):
    """Features of x computed once, one leaf for all rows: as quick as torch gets."""
    network = ratio.network
    with torch.no_grad():
        features = network.embed(torch.tensor(x))

    def evaluate(mu):
        theta = torch.full((1, 1), mu, dtype=torch.float64, requires_grad=True)
        total = network.head(theta, features).sum()
        (gradient,) = torch.autograd.grad(total, theta)
        return total.item(), gradient.item()

    return evaluate


def matrix_products(layers, x):
    """What no kernel can do without: two products with the second layer, and the vectors."""
    (first, _), (second, _), (third, _) = layers
    n, width = len(x), len(second)
    h, z = np.random.default_rng(0).normal(size=(2, min(n, _BLOCK), width))
    second, second_t = np.ascontiguousarray(second), np.ascontiguousarray(second.T)
    of_theta = np.ascontiguousarray(first[:, 0])

    def evaluate(mu):
        for start in range(0, n, _BLOCK):
            m = min(_BLOCK, n - start)
            np.dot(h[:m], second_t, z[:m])
            np.dot(z[:m], third[0])
            np.dot(z[:m], second, h[:m])
            np.dot(h[:m], of_theta)
        h.fill(0.5)  # or it grows without end
        return np.nan, np.nan

    return evaluate


def native_graph(layers):
    """The network written out in PyTensor, differentiated and compiled by it."""
    (first, bias), *hidden, (last, last_bias) = layers

    def likelihood(mu, x):
        h = x[:, None] * first[:, 1] + bias + mu * first[:, 0]
        for weight, shift in hidden:
            h = pt.dot(h * pt.sigmoid(h), weight.T) + shift
        logits = pt.dot(h * pt.sigmoid(h), last[0]) + last_bias
        pm.Potential("x", logits.sum())

    return likelihood


def torch_op(ratio):
    """What a user writes at first: one Op for the value, another for the gradient."""
    return lambda mu, x: pm.Potential("x", _Value(ratio.network, x)(mu))


class _Value(Op):
    def __init__(self, network, x):
        self.network, self.x = network, torch.tensor(x)
        self.gradient = _Gradient(network, self.x)

    def make_node(self, mu):
        return Apply(self, [pt.as_tensor_variable(mu)], [pt.dscalar()])

    def perform(self, node, inputs, outputs):
        with torch.no_grad():
            theta = torch.tensor(inputs[0]).reshape(1, 1)
            outputs[0][0] = self.network(theta, self.x).sum().numpy()

    def pullback(self, inputs, outputs, cotangents):
        return [cotangents[0] * self.gradient(inputs[0])]

    L_op = pullback


class _Gradient(Op):
    def __init__(self, network, x):
        self.network, self.x = network, x

    def make_node(self, mu):
        return Apply(self, [pt.as_tensor_variable(mu)], [pt.dscalar()])

    def perform(self, node, inputs, outputs):
        theta = torch.tensor(inputs[0]).reshape(1, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(self.network(theta, self.x).sum(), theta)
        outputs[0][0] = gradient.reshape(()).numpy()
