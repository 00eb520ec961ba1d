"""Coverage at fixed parameters."""

import numpy as np
import pytest
import xarray as xr

import pymc_nre as nre
from pymc_nre.diagnostics import coverage_at

TASK = nre.tasks.GaussianMean()
N = 2_000


def at(*mu, **options):
    pairs = TASK.simulate(500, random_seed=1)
    return coverage_at(
        TASK.estimator(),
        pairs,
        {"mu": list(mu)},
        n=N,
        levels=[0.68, 0.95],
        random_seed=2,
        **options,
    )


def test_in_the_middle_it_is_the_level_and_at_the_edge_it_is_not():
    found = at(0.0, 10.0)
    shares = found["coverage"].to_numpy()
    # 1,000 draws of which 177 count: the level of a truth is off by 0.035 at most, mean 0.
    assert np.all(np.abs(shares[0] - [0.68, 0.95]) < 4 * found["error"][0] + 0.01)
    # At the edge, for x = 10 + d: d > 0 makes mu = 10 the densest of all, and else the denser ones
    # have the mass (2 F - 1) / F with F = Phi(-d). So a share of 1 / (2 - level) is in.
    edge = 1 / (2 - np.array([0.68, 0.95]))
    assert np.all(np.abs(shares[1] - edge) < 4 * found["error"][1] + 0.01)
    assert abs(shares[1, 0] - 0.68) > 0.05
    binomial = np.sqrt(np.array([0.68 * 0.32, 0.95 * 0.05]) / N)
    np.testing.assert_allclose(found["error"][0], binomial, rtol=0.2)


def test_few_draws_do_not_pull_it_to_the_level():
    # With 30 draws 3 count; a truth with a weight of its own had 0.40 here.
    pairs = TASK.simulate(500, random_seed=1)
    options = {"n": N, "levels": [0.3], "draws": 30, "random_seed": 2}
    with pytest.warns(nre.PosteriorWarning, match="effective draws of 30"):
        found = coverage_at(TASK.estimator(), pairs, {"mu": [10.0]}, **options)
    assert dict(found["ess"].sizes) == {"point": 1, "pair": N}
    assert found["coverage"].item() > 1 / (2 - 0.3) - 0.08


def test_bad_input():
    made = TASK.simulate(500, random_seed=1)
    bare = nre.Simulations(made.parameters, made.x)
    with pytest.raises(ValueError, match="coverage_at needs the simulator"):
        coverage_at(TASK.estimator().for_evaluation(), bare, {"mu": 0})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"n": 2.5}, "n: expected a whole number, got 2.5"),
        ({"draws": 5}, "draws: expected at least 10, got 5"),
        ({"levels": [50, 95]}, "levels: expected numbers between 0 and 1"),
        ({"at": {"mu": np.nan}}, "at: 1 of 1 values are NaN"),
        ({"at": {"mu": []}}, "at: expected one point, or several"),
        ({"at": {"mu": None}}, "mu: expected real numbers, got None"),
        ({"at": 0.5}, "expected the parameters by name"),
    ],
)
def test_what_does_not_count_is_refused(options, said):
    at = options.pop("at", {"mu": 0.0})
    with pytest.raises((TypeError, ValueError), match=f"^coverage_at: {said}"):
        coverage_at(TASK.estimator(), TASK.simulate(100, random_seed=1), at, **options)


def test_counts_may_be_floats_and_points_of_any_kind():
    pairs = TASK.simulate(100, random_seed=1)
    options = {"draws": 200.0, "n": 1e1, "random_seed": 2}
    expected = coverage_at(TASK.estimator(), pairs, {"mu": [0.0, 1.0]}, **options)
    at = {"mu": xr.DataArray(np.array([0, 1], dtype=np.float32), dims="where")}
    xr.testing.assert_identical(coverage_at(TASK.estimator(), pairs, at, **options), expected)
