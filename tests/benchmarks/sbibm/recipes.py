"""How a ratio is trained for the benchmark, and how several of them are one.

Some posteriors are narrow and bent, and need large weights and many steps; others are nearly
normal in ten dimensions, and there the same network memorizes ten thousand simulations. A recipe
therefore has candidates. One network of each is trained, the best by its loss on held-out
simulations stays, and further members are trained like it. No task is named anywhere.

Members differ in seed, and so in the simulations that they hold out. They are combined by the
mean of their logits: the errors that each makes by itself partly cancel, and what NRE-B leaves
free in a logit, a function of the observation, stays free.
"""

import copy
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

import pymc_nre as nre


@dataclass(frozen=True)
class Recipe:
    """Arguments of `pymc_nre.train`, by candidate, and how many networks are trained.

    Candidates must have the same loss, for their held-out losses are compared. With ``iid`` the
    ratio of a single point is trained, of those that an observation consists of.
    """

    members: int = 1
    candidates: dict[str, dict[str, Any]] = field(default_factory=lambda: {"default": {}})
    iid: bool = False


_LOSS = nre.losses.NREB(candidates=6)
_CANDIDATES = {
    "sharp": {"loss": _LOSS, "network": nre.networks.MLP((64, 64, 64))},
    "smooth": {
        "loss": _LOSS,
        "network": nre.networks.MLP((128, 128)),
        "weight_decay": 1.0,
        "learning_rate": 3e-3,
        "epochs": 20,
        "patience": 20,
    },
}
RECIPES = {
    "default": Recipe(),
    "default_five": Recipe(5),
    "tuned": Recipe(1, _CANDIDATES),
    "tuned_five": Recipe(5, _CANDIDATES),
    "points": Recipe(iid=True),
    "points_five": Recipe(5, iid=True),
}


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
    source = cache(lambda: simulations(task, n, seed, recipe.iid))
    first = {
        name: _member(source, options, folder / f"{name}_0.nre", seed)
        for name, options in recipe.candidates.items()
    }
    best = min(first, key=lambda name: first[name].history.attrs["best_loss"])
    others = (
        _member(source, recipe.candidates[best], folder / f"{best}_{k}.nre", seed + k)
        for k in range(1, recipe.members)
    )
    return [first[best], *others]


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
