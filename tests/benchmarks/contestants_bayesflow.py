"""BayesFlow: the Op of its ratio estimation notebook, and its `NeuralDistribution`.

``contestants_bayesflow.py FOLDER notebook|neural``, with the backend in KERAS_BACKEND.
`NeuralDistribution` exists for JAX only, and sets PyTensor's precision to that of Keras, which
is single; so it has a process of its own.
"""

import importlib.util
import os
import sys
from functools import partial
from pathlib import Path

import bayesflow as bf
import keras
import models
import numpy as np
import problem
import pymc as pm
import pytensor.tensor as pt
import weights
from contest import Contest
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op

BACKEND = os.environ["KERAS_BACKEND"]


def untrained(**options):
    """The network in BayesFlow's class."""
    network = bf.networks.MLP(problem.HIDDEN, activation="silu", residual=False, dropout=None)
    kind = bf.approximators.RatioApproximator
    adapter = kind.build_adapter(inference_variables=["mu"], inference_conditions=["x"])
    return kind(inference_network=network, adapter=adapter, **options)


def approximator(layers):
    """The same with weights; they stand for the standardization too."""
    result = untrained(standardize=None)
    adapter = result.adapter
    adapter({"mu": np.zeros((2, 1)), "x": np.zeros((2, 1))}, strict=True)  # as training does
    result.build({"inference_variables": (None, 1), "inference_conditions": (None, 1)})
    dense = [*(block.dense for block in result.inference_network.blocks), result.projector]
    for layer, (weight, bias) in zip(dense, layers, strict=True):
        layer.set_weights([weight.T, bias])
    return result


def train(mu, x, batch, epochs):
    """Without validation, which the others have: a tenth less to do."""
    result = untrained(standardize="all", K=5, gamma=1.0)
    held_out = len(mu) // 10
    data = {"mu": mu[held_out:, None], "x": x[held_out:, None]}
    dataset = bf.OfflineDataset(data, batch_size=batch, adapter=result.adapter)
    result.compile(optimizer="adam")
    result.fit(dataset=dataset, epochs=epochs, verbose=0)
    return epochs


class LogRatioOp(Op):
    """The sum of log ratios by `RatioApproximator.log_ratio`, as in the notebook."""

    def __init__(self, approximator, x):
        self.approximator, self.x = approximator, x[:, None]
        self.gradient = LogRatioGradientOp(approximator, self.x)

    def make_node(self, mu):
        return Apply(self, [pt.as_tensor_variable(mu)], [pt.dscalar()])

    def perform(self, node, inputs, outputs):
        mu = np.full_like(self.x, inputs[0])
        ratios = self.approximator.log_ratio({"mu": mu, "x": self.x})
        outputs[0][0] = np.asarray(keras.ops.convert_to_numpy(ratios).sum(), "float64")

    def grad(self, inputs, cotangents):
        return [cotangents[0] * self.gradient(inputs[0])]


class LogRatioGradientOp(Op):
    """Its gradient, by the backend; the notebook has none, and samples without."""

    def __init__(self, approximator, x):
        self.derivative = DERIVATIVES[BACKEND](approximator, x.astype("float32"))

    def make_node(self, mu):
        return Apply(self, [pt.as_tensor_variable(mu)], [pt.dscalar()])

    def perform(self, node, inputs, outputs):
        outputs[0][0] = np.asarray(self.derivative(inputs[0]), "float64")


def torch_derivative(approximator, x):
    import torch

    x = torch.tensor(x)

    def derivative(mu):
        with torch.enable_grad():
            leaf = torch.tensor(float(mu), dtype=x.dtype, requires_grad=True)
            logits = approximator.logits(leaf.expand(x.shape), x, stage="inference")
            logits.sum().backward()
        return leaf.grad.numpy()

    return derivative


def jax_derivative(approximator, x):
    import jax
    import jax.numpy as jnp

    def total(mu):
        return approximator.logits(jnp.full(x.shape, mu), x, stage="inference").sum()

    compiled = jax.jit(jax.grad(total))
    return lambda mu: compiled(np.float32(mu))


DERIVATIVES = {"torch": torch_derivative, "jax": jax_derivative}


def notebook(given):
    """The Op, with its backend."""
    name = f"BayesFlow, notebook's Op ({BACKEND})"

    def likelihood(mu, x):
        pm.Potential("x", LogRatioOp(given, x)(mu))

    evaluators = {name: models.evaluator(likelihood)}
    return evaluators, {f"{name} | slice": models.sampler(likelihood, "Slice")}


def neural(given):
    """`NeuralDistribution`, mended where it fails with one parameter.

    Its gradient Op then returns a tensor where its caller unpacks a list.
    """
    from bayesflow.wrappers.pymc import NeuralDistribution

    distribution = NeuralDistribution(given, ["mu"])
    op = distribution.backend.logp_op
    op.vjp_op = partial(op.vjp_op, return_list=True)

    def likelihood(mu, x):
        each = mu if x.ndim == 1 else pt.broadcast_to(mu, x.shape).ravel()
        distribution("x", mu=each, observed=x.ravel().astype("float32"))

    name = "BayesFlow, NeuralDistribution"
    samplers = {
        f"{name} | slice": models.sampler(likelihood, "Slice"),
        f"{name} | NUTS": models.sampler(likelihood, "NUTS"),
    }
    if importlib.util.find_spec("numpyro"):
        of_numpyro = models.sampler(likelihood, "NUTS", nuts_sampler="numpyro")
        samplers[f"{name} | NUTS of numpyro"] = of_numpyro
    return {name: models.evaluator(likelihood)}, samplers


def main(folder, kind):
    given = approximator(weights.load(folder / "network.npz"))
    evaluators, samplers = {"notebook": notebook, "neural": neural}[kind](given)
    libraries = ("bayesflow", "keras", BACKEND, "pymc", "pytensor", "numpyro")
    trainers = {f"BayesFlow ({BACKEND})": train} if kind == "notebook" else {}
    Contest(evaluators, samplers, trainers, libraries).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
