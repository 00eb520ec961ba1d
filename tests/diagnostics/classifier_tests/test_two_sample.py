"""L-C2ST: is the posterior right at the observed data?"""

import numpy as np
import pytest
from controls import changed

import pymc_nre as nre
from pymc_nre.diagnostics import lc2st

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(1_000, random_seed=1)


def found_by(ratio, observed=(-3.0, 2.0), seed=2, **options):
    return lc2st(ratio, PAIRS, np.array(observed), draws=200, random_seed=seed, **options)


def test_the_exact_ratio_is_right():
    found = found_by(TASK.estimator())
    assert found.attrs["verdict"] == "right"
    assert dict(found.sizes) == {"observation": 2, "shuffle": 100}


@pytest.mark.parametrize("how", [{"power": 0.5}, {"power": 2.0}, {"of_theta": 0.7}])
def test_controls_are_found(how):
    assert found_by(changed(TASK.estimator(), **how)).attrs["verdict"] == "wrong"


class BadOnOneSide(type(TASK.estimator().network)):
    """Exact where x is negative, and shifted where it is not."""

    def head(self, theta, features):
        x = features[..., :1]
        return super().head(theta + 1.5 * (x > 0), features)


def test_it_is_local():
    exact = TASK.estimator()
    network = BadOnOneSide.__new__(BadOnOneSide)
    network.__dict__.update(exact.network.__dict__)
    ratio = exact.replace(network=network)
    found = found_by(ratio, observed=(-5.0, 5.0), seed=3)
    right, wrong = found["statistic"].to_numpy()
    assert wrong > 4 * right
    right, wrong = found["p_value"].to_numpy()
    assert wrong == pytest.approx(1 / 101)
    assert right > 1 / 101
    assert found.attrs["verdict"] == "wrong"


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_false_alarms_are_as_rare_as_they_say():
    # With 39 shuffles p is 1/40, 2/40, ...: at most 0.05 in 5 % of runs.
    p_values = [
        lc2st(
            TASK.estimator(),
            TASK.simulate(400, random_seed=seed),
            np.array([-3.0, 2.0]),
            draws=200,
            shuffles=39,
            random_seed=seed,
        ).attrs["p_value"]
        for seed in range(200)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_of_many_observations_some_are_looked_at():
    found = found_by(TASK.estimator(), observed=np.zeros(30), shuffles=20)["observation"].to_numpy()
    assert len(set(found)) == 20
    assert set(found) < set(range(30))
    assert found.max() >= 20  # not merely the first of them


def test_bad_input():
    with pytest.raises(ValueError, match="lc2st: observed: 1 of 2 values are NaN"):
        found_by(TASK.estimator(), observed=(1.0, np.nan))
    with pytest.raises(ValueError, match="lc2st: shuffles: expected at least 20, got 5"):
        found_by(TASK.estimator(), shuffles=5)
    with pytest.raises(TypeError, match="lc2st: shuffles: expected a whole number, got 20"):
        found_by(TASK.estimator(), shuffles=20.5)
    with pytest.raises(TypeError, match="lc2st: draws: expected a whole number"):
        lc2st(TASK.estimator(), TASK.simulate(100, random_seed=1), 1.0, draws=None)
    with pytest.raises(ValueError, match="at least 100 pairs"):
        lc2st(TASK.estimator(), TASK.simulate(50, random_seed=1), 1.0)
