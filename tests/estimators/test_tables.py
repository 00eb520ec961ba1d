"""Many parameters for many observations: the table against one log ratio after another."""

import numpy as np
import pytest
import torch
from torch import nn
from untrained import make_estimator

from pymc_nre.estimators import evaluator
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.networks.ensemble import Ensemble

RNG = np.random.default_rng(1)


class Own(nn.Module):
    """A network of a user's own, which joins parameters and observations itself."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layer = nn.Linear(theta_size + int(np.prod(event_shape)), 1)

    def forward(self, theta, x):
        return self.layer(torch.cat([theta, x.flatten(1)], 1))


def ensemble():
    members = [make_estimator(event_shape=(4,), seed=seed).network for seed in (1, 2)]
    return make_estimator(event_shape=(4,)).replace(network=Ensemble(members, "ratios"))


ESTIMATORS = {
    "mlp": lambda: make_estimator(event_shape=(4,)),
    "set": lambda: make_estimator(event_shape=(4,), network=MLP((8,), embedding=DeepSet((8, 3)))),
    "own": lambda: make_estimator(event_shape=(4,), network=Own),
    "ensemble": ensemble,
}


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("numbers", [1, 64 * 7, 64 * 40, 2**18])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_table_is_made_of_single_log_ratios(name, numbers, shared, monkeypatch):
    ratio = ESTIMATORS[name]()
    x, theta = RNG.normal(size=(9, 4)), RNG.normal(size=(1 if shared else 9, 11, 3))
    monkeypatch.setattr(evaluator, "_TABLE_NUMBERS", numbers)
    monkeypatch.setattr(evaluator, "_TABLE_ROWS", 5)
    table = ratio.evaluator.table(theta, x)
    for i, row in enumerate(np.broadcast_to(theta, (9, 11, 3))):
        expected = ratio.evaluator.value(row, np.tile(x[i], (11, 1)))
        np.testing.assert_allclose(table[i], expected, rtol=1e-12, atol=1e-12)


def test_each_observation_is_embedded_once(monkeypatch):
    ratio, seen = make_estimator(event_shape=(4,)), []
    embed = type(ratio.network).embed
    monkeypatch.setattr(
        type(ratio.network), "embed", lambda net, x: seen.append(len(x)) or embed(net, x)
    )
    monkeypatch.setattr(evaluator, "_TABLE_NUMBERS", 64 * 7)
    ratio.evaluator.table(RNG.normal(size=(1, 20, 3)), RNG.normal(size=(30, 4)))
    assert seen == [30]


def test_rows_must_fit(estimator):
    with pytest.raises(ValueError, match="theta has 2 rows and x has 3"):
        estimator.evaluator.table(np.zeros((2, 5, 3)), np.zeros((3, 3)))
    assert estimator.evaluator.table(np.zeros((1, 5, 3)), np.zeros((0, 3))).shape == (0, 5)
    assert estimator.evaluator.table(np.zeros((1, 0, 3)), np.zeros((2, 3))).shape == (2, 0)
