"""Single points of the parameters, and data that are simulated there."""

import re

import numpy as np
import pytest
import xarray as xr
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.diagnostics.points import Trials, needed_simulator, points_of
from pymc_nre.exceptions import CheckNotApplicable

RATIO = make_estimator({"mu": (), "beta": (2,)}, (3,))


def test_one_point_or_several():
    one = points_of(RATIO, {"mu": 1.0, "beta": [2.0, 3.0]}, "auc")
    np.testing.assert_array_equal(one, [[1, 2, 3]])
    several = points_of(RATIO, {"mu": [1.0, 4.0], "beta": [[2.0, 3.0], [5.0, 6.0]]}, "auc")
    np.testing.assert_array_equal(several, [[1, 2, 3], [4, 5, 6]])
    broadcast = points_of(RATIO, xr.Dataset({"mu": ("i", [1.0, 4.0]), "beta": ("j", [2, 3])}), "")
    np.testing.assert_array_equal(broadcast, [[1, 2, 3], [4, 2, 3]])


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ({"mu": np.nan, "beta": [2.0, 3.0]}, "auc: at: 1 of 3 values are NaN"),
        ({"mu": np.zeros((2, 2)), "beta": [2.0, 3.0]}, r"auc: at: .*got the batch \(2, 2\)"),
        ({"mu": [], "beta": [2.0, 3.0]}, r"auc: at: .*got the batch \(0,\)"),
        ({"mu": np.ma.array(1.0, mask=True), "beta": [2.0, 3.0]}, "auc: mu: 1 of 1 .* masked"),
        ({"mu": 1.0, "beta": 2.0}, r"auc: parameter 'beta' has own shape \(2,\)"),
    ],
)
def test_what_is_no_point_is_refused(at, said):
    with pytest.raises(ValueError, match=said):
        points_of(RATIO, at, "auc")
    with pytest.raises(TypeError, match=r"auc: expected the parameters by name, .* got ndarray"):
        points_of(RATIO, np.zeros(3), "auc")


def test_an_integer_has_whole_values_only():
    ratio = make_estimator({"k": (), "mu": ()}, (3,), integer=["k"])
    with pytest.raises(ValueError, match="auc: at: k was an integer in training"):
        points_of(ratio, {"k": [1, 2.5], "mu": 0.5}, "auc")
    np.testing.assert_array_equal(points_of(ratio, {"k": 2.0, "mu": 0.5}, "auc"), [[2, 0.5]])


def test_whose_simulator_it_is():
    """The one that is given before the ratio's own, and that before the one of the simulations."""
    given, own, other = (nre.Simulator(lambda rng, mu, k=k: k) for k in range(3))
    x = np.zeros((5, 3))
    parameters = {"mu": np.zeros(5), "beta": np.zeros((5, 2))}
    bare = nre.Simulations(parameters, x)
    pairs = nre.Simulations(parameters, x, simulator=other)
    with_own = RATIO.replace(simulator=own)
    assert needed_simulator("it", given, with_own, pairs) is given
    assert needed_simulator("it", None, with_own, pairs) is own
    assert needed_simulator("it", None, RATIO, pairs) is other
    with pytest.raises(CheckNotApplicable, match=r"it needs the simulator.*simulator=simulator"):
        needed_simulator("it", None, RATIO, bare)


POINT = np.array([1.0, 2.0, 3.0])


def stacked(rng, mu, beta):
    return np.stack([mu, beta[:, 0], beta[:, 1]], 1)


def trials_of(simulator, batched=True):
    return Trials("it", nre.Simulator(simulator, batched), RATIO, np.random.default_rng(1))


def test_trials_are_simulated_at_the_point():
    trials = trials_of(stacked)
    np.testing.assert_array_equal(trials.at(POINT, 4), np.tile(POINT, (4, 1)))
    trials.tell()  # of nothing


@pytest.mark.parametrize("batched", [False, True])
def test_others_take_the_place_of_trials_that_fail(batched):
    def failing(rng, mu, beta):
        x = rng.normal(size=(np.size(mu), 3))
        x[rng.random(len(x)) < 0.3] = np.nan
        return x if batched else x[0]

    trials = trials_of(failing, batched)
    for n in (1, 500):
        x = trials.at(POINT, n)
        assert x.shape == (n, 3)
        assert len(np.unique(x)) == 3 * n
    with pytest.warns(
        nre.SimulationWarning, match=r"^it: (\d+) of (\d+) simulations fai"
    ) as caught:
        trials.tell()
    failed, tried = map(int, re.findall(r"\d+", str(caught[0].message)))
    assert abs(failed / tried - 0.3) < 4 * (0.3 * 0.7 / tried) ** 0.5


@pytest.mark.parametrize(
    "failing",
    [lambda rng, mu, beta: mu[:, None] * np.nan, lambda rng, mu, beta: np.linalg.inv(0 * beta)],
    ids=["NaN", "raises"],
)
def test_a_point_where_nothing_works_is_named(failing):
    message = r"it: 40 of 40 simulations at mu = 1, beta\[0\] = 2, beta\[1\] = 3 failed\. Mend"
    with pytest.raises(CheckNotApplicable, match=message):
        trials_of(failing).at(POINT, 4)


def test_other_observations_than_the_ratio_knows_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\), and the ratio was trained on \(3,\)"):
        trials_of(lambda rng, mu, beta: beta).at(POINT, 4)
