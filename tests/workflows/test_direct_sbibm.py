"""The benchmark of direct ratios: what is sampled, what counts as a win, and what it is told."""

from types import SimpleNamespace

import numpy as np
from benchmarks import direct_sbibm
from benchmarks.sbibm.catalog import TASKS

import pymc_nre as nre

OPTIONS = SimpleNamespace(
    losses=["NRE-A", "BNRE", "plain, 2", "default"],
    simulations=10_000,
    draws=2_000,
    epochs=None,
    rates=[1e-3, 1e-2],
)


def records(way="particles", **values):
    key = {"way": way, "draws": 2_000, "seed": 1, "observation": 1}
    return [
        key | {"task": task, "loss": loss, "c2st": c2st}
        for loss, by_task in values.items()
        for task, c2st in zip(("sir", "two_moons"), by_task, strict=True)
    ]


def test_a_win_is_over_both_rivals_where_all_were_measured():
    values = {"NRE-A": [0.6, 0.7], "BNRE": [0.7, 0.6], "default": [0.5, 0.5]}
    found = records(**values, **{"plain, 2": [0.59, 0.65]})
    [table] = direct_sbibm.tables(found, OPTIONS)
    text = table.markdown()
    assert "| sir | 0.600 | 0.700 | 0.590 | 0.500 | 1 |" in text
    assert "| mean | 0.650 | 0.650 | 0.620 | 0.500 |  |" in text
    assert "| wins | - | - | 1 of 2 | - |  |" in text
    assert "| clear wins | - | - | 0 of 2 | - |  |" in text
    assert "| clear losses | - | - | 1 of 2 | - |  |" in text
    [fewer] = direct_sbibm.tables([r for r in found if r["c2st"] not in (0.59, 0.5)], OPTIONS)
    text = fewer.markdown()
    assert "| sir | 0.600 | 0.700 | - | 1 |" in text
    assert "| mean | 0.650 | 0.650 | - |  |\n| wins | - | - | 0 of 1 |  |" in text


def test_other_ways_stand_beside_the_same_ratio():
    both = records(**{"plain, 2": [0.6, 0.7]}), records("NUTS", **{"plain, 2": [0.61, 0.72]})
    another = both[0][1] | {"observation": 2, "c2st": 0.9}  # which NUTS was not asked for
    *_, table = direct_sbibm.tables([*both[0], another, *both[1]], OPTIONS)
    assert "| two_moons: DNRE plain, 2 | 0.700 | 0.720 | 1 |" in table.markdown()


def test_particles_and_their_marginal_agree_on_a_direct_ratio():
    task, rng = TASKS["gaussian_mixture"], np.random.default_rng(1)
    theta = task.prior.draw(rng, 2_000)
    ratio = nre.train(
        nre.Simulations({"theta": theta}, task.simulator(rng, theta)),
        loss=nre.losses.DNRE(candidates=2),
        epochs=10,
        random_seed=1,
        progressbar=False,
    )
    x = np.array([1.0, -2.0])
    one, other = (
        direct_sbibm.posterior(way, ratio, task, x, 500, np.random.default_rng(2))
        for way in ("particles", "marginal(32)")
    )
    # A standard deviation of the posterior is about one.
    np.testing.assert_allclose(one.mean(0), x, atol=1.0)
    np.testing.assert_allclose(one.mean(0), other.mean(0), atol=0.5)
