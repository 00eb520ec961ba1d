"""pymc_nre with whatever engines it has, and the same network without it.

Run by the runner: ``contestants_ours.py FOLDER``, where the trained network is.
"""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import bare
import models
import problem
import pymc as pm
import weights
from contest import Contest

import pymc_nre as nre

ENGINES = {
    "compiled": {"engine": "compiled"},
    "compiled, single": {"engine": "compiled", "precision": "single"},
    "torch": {"engine": "torch"},
}


def engines(ratio, parameter="mu", at=0.0):
    """Those of `ENGINES` that the installed library accepts."""
    accepted = {}
    for name, options in ENGINES.items():
        try:
            nre.log_ratio(ratio, problem.observations(), **{parameter: at}, **options)
        except (TypeError, ValueError):
            continue
        accepted[name] = options
    return accepted


def ratio_likelihood(ratio, options, mu, x):
    nre.RatioLikelihood("x", ratio, mu=mu, observed=x, **options)


def plain_likelihood(mu, x):
    pm.Normal("x", mu, 1.0, observed=x)


def train(mu, x, batch, epochs):
    ratio = nre.train(
        nre.Simulations({"mu": mu}, x),
        loss=nre.losses.NREC(candidates=5, gamma=1.0),
        network=nre.networks.MLP(problem.HIDDEN),
        batch_size=batch,
        epochs=epochs,
        patience=epochs,
        random_seed=1,
        progressbar=False,
    )
    return ratio.history.sizes["epoch"]


def main(folder):
    ratio = nre.load(folder / "network.nre")
    layers = weights.load(folder / "network.npz")
    likelihoods = {
        f"pymc_nre, {name}": partial(ratio_likelihood, ratio, options)
        for name, options in engines(ratio).items()
    }
    others = {
        "torch Op, value and gradient apart": bare.torch_op(ratio),
        "native PyTensor graph": bare.native_graph(layers),
        "plain model (normal likelihood)": plain_likelihood,
    }
    evaluators = {name: models.evaluator(it) for name, it in (likelihoods | others).items()}
    evaluators |= bare.evaluators(ratio, layers)
    samplers = {}
    for name, likelihood in (likelihoods | {"plain model": plain_likelihood}).items():
        samplers[f"{name} | slice"] = models.sampler(likelihood, "Slice")
        samplers[f"{name} | NUTS"] = models.sampler(likelihood, "NUTS")
        for other in ("nutpie", "numpyro"):
            if name == "pymc_nre, compiled" and importlib.util.find_spec(other):
                samplers[f"{name} | NUTS of {other}"] = models.sampler(
                    likelihood, "NUTS", nuts_sampler=other
                )
    libraries = ("pymc_nre", "pymc", "pytensor", "torch", "numba", "numpy", "nutpie", "numpyro")
    Contest(evaluators, samplers, {"pymc_nre": train}, libraries).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
