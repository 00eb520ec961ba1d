"""How a ratio is trained for the benchmark, and how several of them are one.

By the defaults of `pymc_nre.train`, the same for all tasks. Members differ in seed, and so in the
simulations that they hold out. They are combined by the mean of their logits: the errors that each
makes by itself partly cancel.
"""

import copy
import warnings
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

import pymc_nre as nre


@dataclass(frozen=True)
class Recipe:
    """How many networks are trained, and arguments of `pymc_nre.train`.

    With ``iid`` the ratio of a single point is trained, of those that an observation consists of.
    """

    members: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    iid: bool = False


RECIPES = {
    "default": Recipe(),
    "default_five": Recipe(5),
    "points": Recipe(iid=True),
    "points_five": Recipe(5, iid=True),
}


@lru_cache(maxsize=1)  # several networks learn from the same ones
def simulations(task, n, seed, iid=False):
    """``n`` training simulations; those that fail are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.SimulationWarning)
        return nre.simulate(
            task.training_prior(),
            task.point_simulator if iid else task.simulator,
            n,
            batched=True,
            iid=iid,
            random_seed=seed,
            progressbar=False,
        )


def trained(task, n, recipe, folder, seed=1):
    """Ratios of all members; those that are in the folder already are not trained again."""
    source = partial(simulations, task, n, seed, recipe.iid)
    paths = ((folder / f"default_{k}.nre", seed + k) for k in range(recipe.members))
    return [_member(source, recipe.options, *path) for path in paths]


def _member(source, options, path, seed):
    """A ratio, from the file if there is one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        nre.train(source(), **options, random_seed=seed, progressbar=False).save(path)
    return nre.load(path)


def combined(ratios, features):
    """The mean logit at one observation: a function of parameters ``(m, D)``.

    In single precision, which is what they were trained in. The observation is ``(E,)``, or has
    several points ``(k, E)``, whose logits are added up.
    """
    x = torch.tensor(np.atleast_2d(features), dtype=torch.float32)
    networks = [copy.deepcopy(ratio.network).float() for ratio in ratios]
    with torch.no_grad():
        embedded = [network.embed(x) for network in networks]

    @torch.no_grad()
    def log_ratio(theta):
        theta = torch.tensor(theta, dtype=torch.float32)
        pairs = zip(networks, embedded, strict=True)
        # Point by point: a body over all pairs at once would be as large as their number.
        logits = [sum(network.head(theta, point[None]) for point in h) for network, h in pairs]
        return torch.stack(logits).mean(0).numpy().astype(np.float64)

    return log_ratio
