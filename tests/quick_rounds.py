"""Rounds of few simulations and epochs, of a mean that is known."""

import numpy as np
import pymc as pm

import pymc_nre as nre

PRIOR = {"mu": pm.Uniform.dist(-10, 10)}
X = np.array([2.5, 1.5, 2.0, 3.0])  # trials: the posterior of mu is N(2.25, 1 / 4)
OPTIONS = {"observed": X, "rounds": 3, "batched": True, "random_seed": 1, "progressbar": False}
OPTIONS |= {"epochs": 80, "network": nre.networks.MLP((32, 32))}


def simulator(rng, mu):
    return rng.normal(mu, 1.0)


def quick(n=1_200, prior=PRIOR, simulator=simulator, **options):
    return nre.rounds(prior, simulator, n, **OPTIONS | options)


def bits(found):
    """All that rounds found, to the last bit."""
    weights = [w.numpy().tobytes() for w in found.ratio.network.state_dict().values()]
    arrays = [found.ratio.domain.draws, *(v.to_numpy() for v in found.posterior.values())]
    arrays += [v.to_numpy() for v in found.table.values()]
    return weights + [array.tobytes() for array in arrays]
