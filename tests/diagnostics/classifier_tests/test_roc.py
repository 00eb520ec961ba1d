"""Can observations that a ratio reweights be told from simulated ones?"""

import numpy as np
import pymc as pm
import pytest
from controls import changed
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

import pymc_nre as nre
from pymc_nre.diagnostics import auc
from pymc_nre.diagnostics.classifier_tests.roc import _area

TASK = nre.tasks.GaussianMean()
SIMULATIONS = TASK.simulate(10_000, random_seed=1)


def found(ratio, seed=2, **options):
    options = {"at": {"mu": 1.0}} | options
    return auc(ratio, SIMULATIONS, random_seed=seed, **options)


def test_the_exact_ratio_is_right():
    result = found(TASK.estimator(), at=None, points=2)
    assert result.attrs["verdict"] == "right"
    assert np.all(np.abs(result["auc"] - 0.5) < 4 * result["auc_error"])
    # A half is tested: of 2,000 that are simulated, and of some 1,750 that count.
    np.testing.assert_allclose(result["auc_error"], ((1 / 1_000 + 1 / 875) / 12) ** 0.5, rtol=0.1)
    assert dict(result.sizes) == {"point": 2, "threshold": 101, "parameter": 1}


@pytest.mark.parametrize("how", [{"power": 2.5}, {"power": 0.3}, {"of_theta": 0.5}])
def test_controls_are_told_apart(how):
    assert found(changed(TASK.estimator(), **how)).attrs["verdict"] == "told apart"


def test_how_large_the_area_is():
    # x ~ N(1.5, 1) by the ratio and N(1, 1) by the simulator: Phi(0.5 / sqrt 2) for the best.
    area = found(changed(TASK.estimator(), of_theta=0.5))
    best = norm.cdf(0.5 / 2**0.5)
    assert best - 0.05 - 4 * area["auc_error"] < area["auc"] < best + 4 * area["auc_error"]


def test_the_area_is_that_of_scikit_learn():
    rng = np.random.default_rng(3)
    labels = rng.random(500) < 0.4
    scores, weights = rng.normal(labels, 1.0).round(), rng.uniform(0.1, 1, 500)  # with ties
    mine = _area(scores, labels, weights, np.linspace(0, 1, 11))["auc"]
    assert mine == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), rel=1e-12)


def test_its_error_is_the_spread_of_repetitions():
    rng = np.random.default_rng(4)
    areas, errors = [], []
    for _ in range(300):
        labels = rng.random(300) < 0.5
        one = _area(rng.normal(labels, 1.0), labels, rng.uniform(0.1, 1, 300), np.ones(1))
        areas.append(one["auc"])
        errors.append(one["auc_error"])
    # The sd of 300 sds is 1 / sqrt(600) of it.
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=4 / 600**0.5 + 0.03)


def test_the_ends_of_the_scale():
    labels, weights = np.arange(100) < 50, np.ones(100)
    assert _area(np.zeros(100), labels, weights, np.ones(1))["p_value"] == pytest.approx(0.5)
    assert _area(labels.astype(float), labels, weights, np.ones(1))["p_value"] < 1e-12


def test_several_points_are_given():
    result = found(TASK.estimator(), at={"mu": [0.0, 5.0]})
    np.testing.assert_array_equal(result["parameters"], [[0.0], [5.0]])


def test_too_few_effective_observations_are_not_judged():
    few = TASK.simulate(150, random_seed=5)
    result = auc(TASK.estimator(), few, at={"mu": 1.0}, random_seed=1)
    assert result.attrs["verdict"] == "not known"
    assert "too few to compare" in result.attrs["summary"]


def test_a_peak_that_no_simulation_is_in_is_missed_by_none():
    # Half of the observations are within 0.03 of the parameter, so that of 2,000 from the whole
    # prior most often not one is. The others alone have an effective number of hundreds.
    task = nre.tasks.GaussianMixture(half_width=5.0, narrow=0.01)
    found = [
        auc(task.estimator(), task.simulate(2_000, random_seed=s), points=1, random_seed=s)
        for s in range(3)
    ]
    assert [one.attrs["verdict"] for one in found] == ["not known"] * 3


def test_bad_input():
    ratio = TASK.estimator().replace(normalized=False)
    with pytest.raises(ValueError, match=r"not normalized.*NREA"):
        found(ratio)
    bare = TASK.estimator().for_evaluation()
    with pytest.raises(ValueError, match="auc needs the simulator"):
        auc(bare, nre.Simulations(SIMULATIONS.parameters, SIMULATIONS.x))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 0}, "points: expected at least 1, got 0"),
        ({"points": 2.5}, "points: expected a whole number, got 2.5"),
        ({"n": 0}, "n: expected at least 1, got 0"),
        ({"n": True}, "n: expected a whole number, got True"),
        ({"at": {"mu": np.ma.array([0.0, -999.0], mask=[0, 1])}}, "mu: 1 of 2 values are masked"),
        ({"at": [0.0]}, "expected the parameters by name"),
    ],
)
def test_what_does_not_count_is_refused(options, said):
    with pytest.raises((TypeError, ValueError), match=f"^auc: {said}"):
        auc(TASK.estimator(), TASK.simulate(100, random_seed=1), **options)


def test_nuisance_parameters_are_drawn():
    def simulator(rng, mu, sigma):
        return rng.normal(mu, sigma)

    prior = {"mu": pm.Uniform.dist(-10, 10), "sigma": pm.Uniform.dist(0.99, 1.01)}
    options = {"parameters": ["mu"], "batched": True, "random_seed": 6, "progressbar": False}
    simulations = nre.simulate(prior, simulator, 10_000, **options)
    ratio = TASK.estimator()
    result = auc(ratio, simulations, simulator=simulations.simulator, random_seed=1)
    assert result.attrs["verdict"] == "right"
