"""Estimators with random weights, which is all that plumbing needs."""

import numpy as np
import torch
import xarray as xr

from pymc_nre import RatioEstimator
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import MLP, build
from pymc_nre.simulation.parameters import Layout


def make_estimator(
    shapes=None, event_shape=(), network=None, *, seed=0, history=True, **options
) -> RatioEstimator:
    """An untrained estimator: random weights, which is all that plumbing needs."""
    layout = Layout({"mu": (), "beta": (2,)} if shapes is None else shapes)
    specification = MLP((8, 4), activation="tanh") if network is None else network
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(specification, layout.size, event_shape)
    theta = rng.normal(1.0, 2.0, (500, layout.size))
    x = rng.normal(-1.0, 3.0, (500, *event_shape))
    net.fit_standardization(torch.tensor(theta), torch.tensor(x))
    losses = {"train_loss": ("epoch", [1.2, 1.1]), "validation_loss": ("epoch", [1.3, 1.15])}
    facts = {"n_train": 450, "stopped": "all epochs run", "best_loss": 1.15, "chance": 1.5}
    options = {
        "domain": Domain.from_draws(theta, rng.normal(size=500)),
        "probe_x": x[:100],
        "loss": "NREC(candidates=5, gamma=1.0)",
        "specification": specification if hasattr(specification, "build") else None,
        "history": xr.Dataset(losses, attrs=facts) if history else None,
    } | options
    return RatioEstimator(net, layout.shapes, **options)
