"""Sets beside their closed forms, of several pieces, of wrong ratios, and what they are asked."""

import copy
import math
import pickle
import warnings

import conditioned
import numpy as np
import pytest
from formulas import folded_mean, integer_mean, integer_mean_of_unknown_scale, shifted_mean
from scipy.stats import chi2, norm
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP
from pymc_nre.point import confidence_set, critical_values, observed, profile
from pymc_nre.simulation.conditions.layout import Conditions

QUIET = {"progressbar": False, "random_seed": 1}
WILKS = {"method": "wilks", "sets": 0, **QUIET}
MEAN, SCALE, LINEAR = (
    nre.tasks.GaussianMean(),
    nre.tasks.LocationScale(),
    nre.tasks.LinearGaussian(),
)


def test_intervals_of_a_mean():
    x = np.random.default_rng(1).normal(1.0, 1.0, (2, 3, 16))
    found = confidence_set(MEAN.estimator(), x, level=0.95, **WILKS)
    half = norm.ppf(0.975) / 4
    assert found.intervals.shape == (2, 3)
    for pieces, one in zip(found.intervals.ravel(), x.reshape(6, 16), strict=True):
        ((low, high),) = pieces
        np.testing.assert_allclose([low, high], one.mean() + np.array([-half, half]), atol=1e-3)
    np.testing.assert_allclose(found.size, 2 * half, rtol=2e-3)
    assert found.intervals[0, 0] == found.region(0)


@pytest.mark.parametrize("trials", [1, 100_000])
def test_a_set_is_found_however_narrow(trials):
    x = np.full(trials, 3.0)
    found = confidence_set(shifted_mean(0.0), x, **WILKS)
    half = norm.ppf(0.95) / trials**0.5
    ((low, high),) = found.intervals
    np.testing.assert_allclose([low, high], [3 - half, 3 + half], atol=2e-3 * half)


def test_a_set_of_two_pieces_is_two_pieces():
    x = np.full(30, 2.25)
    found = confidence_set(folded_mean(), x, **WILKS)
    edge = np.sqrt(2.25 + np.array([-1, 1]) * norm.ppf(0.95) / 30**0.5)
    np.testing.assert_allclose(found.intervals, [-edge[::-1], edge], atol=2e-3)
    inside = found.contains(a=[-1.5, 0.0, 1.5, 2.9, 3.5])
    np.testing.assert_array_equal(inside, [True, False, True, False, False])
    assert " and " in repr(found)
    at_zero = confidence_set(folded_mean(), np.zeros(30), **WILKS)
    assert len(at_zero.intervals) == 1


def test_nuisance_is_profiled():
    x = np.random.default_rng(2).normal(0.0, 1.0, (3, 12))
    found = confidence_set(SCALE.estimator(), x, "mu", **WILKS)
    half = np.sqrt(x.var(1) * (math.exp(chi2.ppf(0.9, 1) / 12) - 1))
    for pieces, one, h in zip(found.intervals, x, half, strict=True):
        np.testing.assert_allclose(pieces, [[one.mean() - h, one.mean() + h]], atol=3e-3)


def test_an_ellipse_has_its_area_and_contour(closed_figures):
    x = np.random.default_rng(3).normal(size=(30, 4))
    found = confidence_set(LINEAR.estimator(), x, ["theta[0]", "theta[2]"], **WILKS)
    covariance = np.linalg.inv(30 * LINEAR.matrix.T @ LINEAR.matrix)[np.ix_([0, 2], [0, 2])]
    area = math.pi * chi2.ppf(0.9, 2) * np.sqrt(np.linalg.det(covariance))
    np.testing.assert_allclose(found.size, area, rtol=0.02)
    (line,) = found.contours()
    off = line - LINEAR.maximum_likelihood(x)["theta"][[0, 2]]
    radii = ((off @ np.linalg.inv(covariance)) * off).sum(1)
    np.testing.assert_allclose(radii, chi2.ppf(0.9, 2), rtol=0.03)
    grid = found.grid()
    assert grid["inside"].dims == ("theta[0]_point", "theta[2]_point")
    inside = grid["inside"].to_numpy()
    rim = np.concatenate([*inside[[0, -1]], *inside.T[[0, -1]]])
    assert not rim.any()  # nothing is cut off
    assert found.plot().get_ylabel() == "theta[2]"
    assert "area" in repr(found)


def test_what_holds_is_what_contains():
    rng = np.random.default_rng(4)
    mu = rng.uniform(-9, 9, 50)
    x = rng.normal(mu[:, None], 1.0, (50, 5))
    found = confidence_set(MEAN.estimator(), x, **WILKS)
    both = found.contains(mu=mu)
    assert both.shape == (50, 50)
    np.testing.assert_array_equal(np.diag(both), found.holds(mu=mu))
    exact = np.abs(x.mean(1) - mu) < norm.ppf(0.95) / 5**0.5
    np.testing.assert_array_equal(found.holds(mu=mu), exact)
    assert found.contains(mu=0.0).shape == (50,)


def covered(ratio, trials=100, **options):
    rng = np.random.default_rng(5)
    a = rng.uniform(-9, 9, 1_000)
    found = confidence_set(ratio, rng.normal(a[:, None], 1.0, (1_000, trials)), **options, **QUIET)
    return found.holds(a=a).mean()


# 1,000 sets: .0095, of which four; and what 2,000 simulated ones tell of a quantile, .007 more.
WITHIN = 4 * math.hypot(0.0095, 0.007)


@pytest.mark.one_python
@pytest.mark.parametrize("statistic", ["likelihood_ratio", "bayes_factor", "waldo"])
def test_learned_sets_of_a_wrong_ratio_hold_the_truth(statistic):
    assert abs(covered(shifted_mean(0.1), statistic=statistic) - 0.9) < WITHIN


def test_wilks_sets_of_a_wrong_ratio_do_not():
    expected = norm.cdf(norm.ppf(0.95) - 1) - norm.cdf(-norm.ppf(0.95) - 1)
    found = covered(shifted_mean(0.1), method="wilks", sets=0)
    assert abs(found - expected) < 4 * 0.015
    assert abs(found - 0.9) > WITHIN


def test_neyman_at_chosen_points_and_in_intervals():
    ratio, x = shifted_mean(0.1), np.random.default_rng(6).normal(1.0, 1.0, 100)
    found = confidence_set(ratio, x, method="neyman", sets=200, **QUIET)
    ((low, high),) = found.intervals
    assert found.contains(a=[(low + high) / 2, high + 0.1]).tolist() == [True, False]
    # The ratio's estimate is off by a standard error: the set reaches over it to where x is.
    assert low < x.mean() - 0.1 < x.mean() < high


def test_a_set_far_from_the_maximum_is_found_whole():
    x = np.random.default_rng(9).normal(1.0, 1.0, 10_000)
    found = confidence_set(shifted_mean(0.2), x, sets=500, **QUIET)
    ((low, high),) = found.intervals  # twenty standard errors to each side of what is estimated
    np.testing.assert_allclose([low, high], x.mean() - 0.2 + np.array([-0.213, 0.213]), atol=0.01)


def test_points_in_blocks_and_data_sets_alone_are_what_they_are_together(monkeypatch):
    x, points = np.random.default_rng(3).normal(0.0, 1.0, (5, 4)), np.linspace(-2, 2, 23)
    found = confidence_set(MEAN.estimator(), x, **WILKS)
    together, region = found.contains(mu=points), found.region(3)
    monkeypatch.setattr(observed, "_NUMBERS", 8 * 2 * 64)
    monkeypatch.setattr(observed, "_MOST", 2)
    blocks = confidence_set(MEAN.estimator(), x, **WILKS)
    np.testing.assert_array_equal(blocks.contains(mu=points), together)
    np.testing.assert_allclose(blocks.region(3), region, atol=1e-5)
    assert blocks.holds(mu=points[:5]).tolist() == together[np.arange(5), np.arange(5)].tolist()


def test_learned_critical_values_serve_other_data():
    ratio, rng = MEAN.estimator(), np.random.default_rng(7)
    learned = critical_values(ratio, np.zeros(8), levels=[0.8, 0.95], sets=500, **QUIET)
    x = rng.normal(2.0, 1.0, (4, 8))
    sizes = [
        confidence_set(ratio, x, level=level, critical_values=learned, **QUIET).size
        for level in (0.8, 0.95)
    ]
    assert (sizes[0] < sizes[1]).all()
    assert learned.at(0.8, mu=[0.0, 1.0]).shape == (2,)
    with pytest.raises(ValueError, match=r"level: 0.9 was not learned, but 0.8, 0.95"):
        confidence_set(ratio, x, critical_values=learned, **QUIET)
    with pytest.raises(ValueError, match="mu: 1 of 1 values are NaN"):
        learned.at(0.8, mu=np.nan)
    with pytest.raises(ValueError, match="another trials: expected 9, got 8"):
        confidence_set(ratio, np.zeros(9), critical_values=learned, **QUIET)
    other = nre.tasks.GaussianMean(5.0).estimator()
    with pytest.raises(ValueError, match="learned for another ratio"):
        confidence_set(other, x, critical_values=learned, **QUIET)


def test_critical_values_are_kept_beside_a_saved_ratio(tmp_path):
    ratio, x = MEAN.estimator(), np.full(5, 1.5)
    learned = critical_values(ratio, x, levels=[0.9], sets=200, **QUIET)
    (tmp_path / "learned.pkl").write_bytes(pickle.dumps(learned))
    ratio.save(tmp_path / "ratio.nre")
    again = nre.load(tmp_path / "ratio.nre", network=lambda *_: copy.deepcopy(ratio.network))
    kept = pickle.loads((tmp_path / "learned.pkl").read_bytes())
    sizes = [
        confidence_set(own, x, critical_values=values, **QUIET).size
        for own, values in ((ratio, learned), (again, kept))
    ]
    assert sizes[0] == sizes[1]


def test_critical_values_outside_of_the_domain_are_told_of():
    def at(ratio, **asked):
        learned = critical_values(ratio, np.zeros(6), levels=[0.9], sets=200, **QUIET)
        return learned.at(0.9, **asked)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at(MEAN.estimator(), mu=[-9.0, 9.0])
        at(integer_mean_of_unknown_scale(), a=[-9, 9], b=0.0)
    with pytest.warns(nre.DomainWarning, match=r"at: 2 of 3 points .*, mu in \[-10, 10\]: what"):
        assert np.isfinite(at(MEAN.estimator(), mu=[-1e6, 0.0, 11.0])).all()
    with pytest.warns(nre.DomainWarning, match=r"1 of 2 points .*, whole numbers of a: what"):
        at(integer_mean_of_unknown_scale(), a=[2, 2.5], b=0.0)


def test_conditions_are_simulated_with():
    ratio, (dose, x) = conditioned.exact_ratio(), conditioned.doses()
    options = {"conditions": {"dose": dose}, **QUIET}
    learned = confidence_set(ratio, x, sets=1_000, **options)
    half = norm.ppf(0.95) / np.sqrt((dose**2).sum())
    assert abs(learned.size / (2 * half) - 1) < 0.15
    known = {"critical_values": learned.critical_values, **QUIET}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confidence_set(ratio, x[::-1], conditions={"dose": dose[::-1]}, **known)
    with pytest.warns(nre.CoverageWarning, match="data sets of other conditions"):
        confidence_set(ratio, x, conditions={"dose": dose / 2}, **known)


def test_wilks_takes_transitions_and_does_not_simulate_them():
    known = Conditions({"past": (1,)}, (), (-9.0,), (9.0,))
    ratio = make_estimator({"mu": ()}, event_shape=(2,), conditions=known)
    ratio = ratio.replace(simulator=MEAN.simulator)
    steps = nre.transitions([0.1, 0.4, -0.2, 0.3], 1)
    found = confidence_set(ratio, steps, method="wilks", **QUIET)
    assert found.checked is None
    with pytest.raises(ValueError, match=r"not independent trials.*Take method='wilks'"):
        confidence_set(ratio, steps, **QUIET)


def test_integers_are_listed():
    x = np.full(4, 2.3)
    found = confidence_set(integer_mean(), x, sets=500, **QUIET)
    ((low, high),) = found.intervals
    assert low <= 2 <= high
    assert float(low).is_integer()
    assert float(high).is_integer()
    assert found.size == high - low + 1
    assert found.contains(a=[2, 9]).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"Wilks' theorem .* a is an integer"):
        confidence_set(integer_mean(), x, **WILKS)
    with pytest.raises(ValueError, match=r"waldo needs continuous parameters"):
        confidence_set(integer_mean(), x, statistic="waldo", **QUIET)


def test_an_integer_beside_another_number_has_a_cell_for_each_value(closed_figures):
    ratio, x = integer_mean_of_unknown_scale(), np.random.default_rng(2).normal(2.3, 1.5, 6)
    found = confidence_set(ratio, x, sets=500, **QUIET)
    assert found.integers == ["a"]
    grid = found.grid()
    values = grid["a_point"].to_numpy()
    np.testing.assert_array_equal(values, np.arange(values[0], values[-1] + 1))
    step = np.diff(grid["b_point"])[0]
    np.testing.assert_allclose(found.size, grid["inside"].to_numpy().sum() * step)
    assert f"size {found.size:.4g} around a, b = 2, " in repr(found)
    # The grid asks of what contains(...) does, and between whole numbers nothing is contained.
    a, b = (each.ravel() for each in np.meshgrid(values, grid["b_point"], indexing="ij"))
    np.testing.assert_array_equal(found.contains(a=a, b=b), grid["inside"].to_numpy().ravel())
    assert not found.contains(a=a + 0.5, b=b).any()
    edges = np.concatenate(found.contours())[:, 0]
    np.testing.assert_allclose(edges - 0.5, np.rint(edges - 0.5), atol=1e-9)
    (line,) = found.plot(color="C1").get_lines()[:-1]
    assert line.get_color() == "C1"


def test_of_an_integer_beside_a_nuisance_whole_numbers_are_contained():
    ratio, x = integer_mean_of_unknown_scale(), np.random.default_rng(2).normal(2.3, 1.5, 6)
    found = confidence_set(ratio, x, "a", sets=500, **QUIET)
    ((low, high),) = found.intervals
    asked = np.arange(-9, 9.25, 0.25)
    inside = found.contains(a=asked)
    np.testing.assert_array_equal(asked[inside], np.arange(low, high + 1))
    np.testing.assert_array_equal(found.holds(a=low + 0.5), False)
    assert f"a in {low:.0f} to {high:.0f}" in repr(found)
    profiled = profile(ratio, x, {"a": asked}, progressbar=False)["log_ratio"].to_numpy()
    np.testing.assert_array_equal(np.isfinite(profiled), asked == np.rint(asked))


def test_wilks_is_checked_where_a_simulator_is_at_hand():
    x = np.random.default_rng(8).normal(0.0, 1.0, 400)
    options = {"method": "wilks", "sets": 200, **QUIET}
    with pytest.warns(nre.CoverageWarning, match=r"it holds these parameters in \d\d\.\d%, not"):
        found = confidence_set(shifted_mean(0.1), x, **options)
    assert found.checked["coverage"].sizes["point"] == 3
    assert "checked by simulation" in repr(found)
    right = confidence_set(shifted_mean(0.0), x, **options)
    assert abs(right.checked["coverage"] - 0.9).max() < 4 * 0.021
    assert confidence_set(shifted_mean(0.1), x, **WILKS).checked is None


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"level": 90}, ValueError, "level: expected a number between 0 and 1"),
        ({"method": "bootstrap"}, ValueError, "method: expected one of wilks"),
        ({"statistic": "score"}, ValueError, "statistic: expected one of likelihood_ratio"),
        ({"statistic": "waldo", "method": "wilks"}, ValueError, "about the likelihood ratio"),
        ({"parameters": ["sigma"]}, ValueError, "parameters: expected some of mu"),
        ({"parameters": 3}, TypeError, "parameters: expected names"),
        ({"parameters": ["mu", "mu"]}, ValueError, "expected each once"),
        ({"critical_values": 2.7}, TypeError, "critical_values: expected what"),
        ({"sets": 10}, ValueError, "sets: expected at least 100"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, match):
    with pytest.raises(error, match=f"confidence_set: .*{match}"):
        confidence_set(MEAN.estimator(), np.zeros(3), **options | QUIET)


def test_what_a_set_cannot_tell_is_refused():
    found = confidence_set(MEAN.estimator(), np.zeros(3), **WILKS)
    with pytest.raises(ValueError, match="grid: of a set of 2 parameters"):
        found.grid()
    for index in (-1, 1):
        with pytest.raises(ValueError, match=f"region: index: .* {index}"):
            found.region(index)
    with pytest.raises(ValueError, match=r"estimate: index: .* got 1"):
        found.estimate(1)
    with pytest.raises(ValueError, match=r"contains: .* got 'sigma'"):
        found.contains(sigma=1.0)
    three = confidence_set(LINEAR.estimator(), np.zeros((3, 4)), **WILKS)
    assert three.contains(theta=np.zeros(3))
    with pytest.raises(ValueError, match=r"contains\(...\)"):
        three.size  # noqa: B018
    no_simulator = MEAN.estimator().replace(simulator=None)
    with pytest.raises(ValueError, match="needs the simulator"):
        confidence_set(no_simulator, np.zeros(3), **QUIET)


def test_levels_that_simulated_sets_do_not_tell_are_refused():
    ratio, x = MEAN.estimator(), np.zeros(5)
    few = {"sets": 200, **QUIET}
    for method in ("calibrated", "neyman"):
        with pytest.raises(ValueError, match=r"200 .* of 0.99: 2 of them .* sets=500, or"):
            confidence_set(ratio, x, level=0.99, method=method, **few)
    with pytest.raises(ValueError, match=r"of 0.9999: 0.02 of them .* sets=50,000, or lower"):
        critical_values(ratio, x, levels=[0.5, 0.9999], **few)
    assert critical_values(ratio, x, **few).levels == (0.5, 0.68, 0.8, 0.9, 0.95)
    wilks = confidence_set(ratio, x, level=0.9999, **WILKS)
    assert "99.99% confidence set" in repr(wilks)
    assert wilks.size == pytest.approx(2 * norm.isf(0.00005) / 5**0.5, rel=1e-3)


def test_parameters_may_be_called_as_arguments_are():
    network = MLP((4,))
    ratio = make_estimator({"level": (), "self": ()}, network=network)
    learned = critical_values(
        ratio, np.zeros(2), levels=[0.5], sets=100, simulator=lambda rng, **_: rng.normal(), **QUIET
    )
    names = {"level": 0.0, "self": 1.0}
    assert learned.at(0.5, **names).shape == ()
    sets = confidence_set(ratio, np.zeros(2), level=0.5, critical_values=learned, **QUIET)
    assert sets.contains(**names).shape == sets.holds(**names).shape == ()
