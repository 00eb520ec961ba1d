"""setu: its PyMC export, around the given network.

``contestants_setu.py FOLDER``, in an environment of its own: ``setu-sbi[pymc]`` wants PyMC 5 and a
BlackJAX that is not the newest. It computes in JAX's default precision, which is single.
"""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import models
import problem
import weights
from contest import Contest
from setu import NRE, SimulationDataset, fit_nre

# As its documentation samples, and the same with numpyro.
JAX_SAMPLERS = ("blackjax", "numpyro")
VECTORIZED = {"nuts_sampler_kwargs": {"chain_method": "vectorized"}}


def untrained():
    """The architecture of all; setu's own classifier would be a residual network with ReLU."""
    width, depth = problem.HIDDEN[0], len(problem.HIDDEN)
    network = eqx.nn.MLP(2, "scalar", width, depth, jax.nn.silu, key=jax.random.key(1))
    return NRE(classifier=network, x_dim=1)


def estimator(layers):
    """The same with weights; they stand for the standardization too."""
    given = [jnp.asarray(part, "float32") for layer in layers for part in layer]
    return eqx.tree_at(lambda nre: [*_arrays(nre), nre.trained], untrained(), [*given, True])


def _arrays(nre):
    return [part for layer in nre.classifier.layers for part in (layer.weight, layer.bias)]


def train(mu, x, batch, epochs):
    dataset = SimulationDataset(*(jnp.asarray(part, "float32")[:, None] for part in (mu, x)))
    result = fit_nre(
        untrained(),
        dataset,
        batch_size=batch,
        max_epochs=epochs,
        max_patience=epochs,
        num_classes=5,
        gamma=1.0,
        show_progress=False,
        key=jax.random.key(1),
    )
    return len(result.losses)


def main(folder):
    given = estimator(weights.load(folder / "network.npz"))

    def likelihood(mu, x):
        if x.ndim == 1:
            given.to_pymc(mu[None], x[:, None])
        else:
            given.to_pymc_hierarchical(mu, x[..., None], subject_dim="group", trial_dim="trial")

    name = "setu, PyMC export"
    evaluators = {
        name: models.evaluator(likelihood),
        f"{name} in JAX": models.evaluator(likelihood, mode="JAX"),
    }
    samplers = {f"{name} | NUTS": models.sampler(likelihood, "NUTS")}
    for other in JAX_SAMPLERS:
        sampler = models.sampler(likelihood, "NUTS", nuts_sampler=other, **VECTORIZED)
        samplers[f"{name} | NUTS of {other}"] = sampler
    libraries = ("setu-sbi", "jax", "equinox", "pymc", "pytensor", "blackjax", "numpyro")
    Contest(evaluators, samplers, {"setu": train}, libraries).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
