"""What is read off ranks."""

import numpy as np
import pytest
import xarray as xr
from controls import changed, ranked
from scipy.integrate import quad
from scipy.stats import kstest, norm

import pymc_nre as nre
from pymc_nre.diagnostics import coverage, normalization, reliability, sbc, tarp
from pymc_nre.diagnostics.calibration import _judge_evidence, _shape, judge

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(2_000, random_seed=1)


def ranks(ratio, pairs=PAIRS, **options):
    return ranked(ratio, pairs, **options)


def test_the_exact_ratio_is_right(exact_ranks):
    assert coverage(exact_ranks).attrs["verdict"] == "right"
    assert sbc(exact_ranks)["verdict"].item() == "right"
    assert tarp(exact_ranks).attrs["verdict"] == "right"
    assert normalization(exact_ranks).attrs["verdict"] == "right"
    assert reliability(exact_ranks).attrs["verdict"] == "right"
    found = coverage(exact_ranks, np.array([0.5, 0.9]))
    assert np.all(np.abs(found["coverage"] - [0.5, 0.9]) < 4 * found["error"])
    n = 2_000 / 1.05  # pairs that share a pool of 40,000 draws
    np.testing.assert_allclose(found["error"], [(0.25 / n) ** 0.5, (0.09 / n) ** 0.5])


CONTROLS = {
    "sharp": ({"power": 1.5}, "too narrow", "too narrow", "too narrow", "too large", "too sure"),
    "wide": ({"power": 0.67}, "too wide", "too wide", "too wide", "too small", "too unsure"),
    # Shifted in theta regions hold the truth nearly as often.
    "theta": ({"of_theta": 0.3}, "right", "too low", "right", "right", None),
    "x": ({"of_x": 1.0}, "too narrow", "too high", "too narrow", "right", "too low"),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_are_caught_and_named(control):
    how, *expected = CONTROLS[control]
    found = ranks(changed(TASK.estimator(), **how))
    verdicts = [
        coverage(found).attrs["verdict"],
        sbc(found)["verdict"].item(),
        tarp(found).attrs["verdict"],
        normalization(found).attrs["verdict"],
        reliability(found).attrs["verdict"],
    ]
    for verdict, wanted in zip(verdicts, expected, strict=True):
        assert wanted in (None, verdict)
    assert sbc(found)["p_value"].item() < 1e-6


@pytest.mark.parametrize("name", ["LocationScale", "LinearGaussian", "PoissonRate"])
def test_other_exact_ratios_are_right(name):
    task = getattr(nre.tasks, name)()
    found = ranks(task.estimator(), task.simulate(1_000, random_seed=4), draws=300)
    assert coverage(found).attrs["verdict"] == "right"
    assert set(sbc(found)["verdict"].to_numpy()) == {"right"}
    assert tarp(found).attrs["verdict"] == "right"
    wrong = ranks(
        changed(task.estimator(), power=2.0), task.simulate(1_000, random_seed=4), draws=300
    )
    assert coverage(wrong).attrs["verdict"] == "too narrow"


def test_thin_tails_are_named_though_the_middle_is_wide():
    rng = np.random.default_rng(13)
    u = np.concatenate([rng.uniform(0, 0.75, size=2_500), rng.uniform(0.95, 1, size=500)])
    made = xr.Dataset({"density": ("pair", u)}, attrs={"effective_pairs": 3_000})
    found = coverage(made, np.array([0.5, 0.95]))
    assert found["coverage"][0] > 0.53
    assert found["coverage"][1] < 0.94
    assert found.attrs["verdict"] == "too narrow"
    assert "95%" in found.attrs["summary"]


def test_a_ratio_that_is_not_normalized_has_no_evidence():
    ratio = TASK.estimator().replace(normalized=False)
    found = normalization(ranks(ratio))
    assert found.attrs["verdict"] == "not normalized"
    assert np.isnan(found.attrs["p_value"])


def test_reliability_is_what_the_classifier_gets_right(exact_ranks):
    found = reliability(exact_ranks, bins=5)
    assert found["predicted"].sizes == {"bin": 5}
    assert np.all(np.diff(found["predicted"]) > 0)
    assert np.all(np.abs(found["observed"] - found["predicted"]) <= 4 * found["error"] + 1e-3)
    assert abs(found["balance"] - 1) < 4 * found["balance_error"]
    # In a bin are 800 of the 4,000 numbers; the balance is a mean over 2,000.
    assert found["error"].max() <= 0.5 * (1.05 / 800) ** 0.5
    assert found["balance_error"] < 0.5 * (1.05 / 2_000) ** 0.5
    twice = reliability(ranks(changed(TASK.estimator(), power=3.0)), bins=5)
    assert twice["calibration_error"] > 3 * twice["calibration_error_of_chance"]
    shifted = TASK.estimator().replace(normalized=False)
    assert reliability(ranks(shifted)).attrs["verdict"] == "not normalized"
    with pytest.raises(ValueError, match="reliability: bins: expected at least 1, got 0"):
        reliability(exact_ranks, bins=0)
    with pytest.raises(ValueError, match="reliability: bins: expected at most 2000"):
        reliability(exact_ranks, bins=2_001)
    with pytest.raises(TypeError, match="reliability: bins: expected a whole number, got"):
        reliability(exact_ranks, bins=2.5)
    assert reliability(exact_ranks, bins=4.0).sizes["bin"] == 4


def test_probabilities_that_tie_are_told_together():
    # An exact ratio of a binary parameter and a binary observation: two probabilities only.
    rng, n = np.random.default_rng(13), 5_000
    theta, other = rng.integers(2, size=(2, n))
    x = np.where(rng.random(n) < 0.8, theta, 1 - theta)
    values = {
        name: ("pair", np.log(np.where(t == x, 1.6, 0.4)))
        for name, t in (("log_ratio", theta), ("log_ratio_marginal", other))
    }
    found = reliability(xr.Dataset(values, attrs={"effective_pairs": n, "normalized": 1}))
    # An error of bins that share what they count is less than that of bins by themselves.
    assert found["calibration_error"] < 2 * found["calibration_error_of_chance"]
    assert np.all(np.abs(found["observed"] - found["predicted"]) < 4 * found["error"])


def test_bounds_of_the_information(exact_ranks):
    # h(x) - h(x | mu); x has density Phi(t) / 20 at a distance t from either edge.
    edge = quad(lambda t: -norm.cdf(t) * norm.logcdf(t), -8, 8)[0] / 20
    exactly = np.log(20) + 2 * edge - 0.5 * np.log(2 * np.pi * np.e)
    found = normalization(exact_ranks)["information"]
    # log r has an sd of 1 / sqrt(2), from x - mu, in each of 2,000 pairs.
    assert np.all(np.abs(found - exactly) < 4 * 0.5**0.5 / 2_000**0.5)


def test_a_ratio_that_knows_nothing_is_not_seen_but_tells_nothing():
    found = ranks(changed(TASK.estimator(), power=0.0))
    assert coverage(found).attrs["verdict"] == "right"
    assert normalization(found).attrs["verdict"] == "knows nothing"
    assert np.all(np.abs(normalization(found)["information"]) < 1e-6)


def test_p_values_are_those_of_scipy():
    rng = np.random.default_rng(6)
    for n in (100, 2_000):
        for _ in range(50):
            u = rng.uniform(size=n)
            assert _shape(u, n) == pytest.approx(kstest(u, "uniform").pvalue, rel=0.05, abs=1e-3)


def test_false_alarms_are_as_rare_as_they_say():
    # 1 in 100 of uniform ranks at most; the twin, a little too narrow, is found in most.
    rng = np.random.default_rng(9)
    alarms, found = 0, 0
    for _ in range(1_000):
        u = rng.uniform(size=500)
        alarms += judge(u, 500).p_value < 0.01
        found += judge(rng.beta(0.8, 0.8, size=500), 500).p_value < 0.01
    assert alarms <= 10 + 4 * 10**0.5
    assert found > 500


def test_a_ratio_that_is_the_same_everywhere_knows_nothing():
    same = ranks(changed(TASK.estimator(), power=0.0))
    twice = same.assign(log_evidence=same["log_evidence"] + np.log(2))
    for found in map(normalization, (same, twice)):
        assert found.attrs["verdict"] == "knows nothing"
        assert np.isnan(found.attrs["p_value"])
    assert "0 nats" in normalization(same).attrs["summary"]
    # Its evidence has no error.
    assert _judge_evidence(1.0, 0.0, 100.0).p_value == 1
    twice = _judge_evidence(2.0, 0.0, 100.0)
    assert (twice.p_value, twice.verdict) == (0, "too large")


def test_noise_knows_nothing():
    """Log ratios that depend on parameters and observations, and not on both together."""
    found = ranks(TASK.estimator())
    noise = np.random.default_rng(1).normal(size=(2, found.sizes["pair"]))
    found = found.assign(log_ratio=("pair", noise[0] - 0.5), log_evidence=("pair", 0.01 * noise[1]))
    assert normalization(found).attrs["verdict"] == "knows nothing"


def ranks_of_noise(n, **columns):
    """Of n pairs, each column uniform but for what is given."""
    rng = np.random.default_rng(3)
    return xr.Dataset(
        {name: ("pair", rng.uniform(size=n)) for name in ("density", "distance")}
        | {name: ("pair", values) for name, values in columns.items()},
        attrs={"normalized": 1},
    )


def test_what_nobody_would_notice_is_right():
    """A million pairs tell regions that hold half a percent too much."""
    n = 1_000_000
    u = (np.arange(n) + 0.5) / n
    for off, verdict in ((0.99, "right"), (0.8, "too narrow")):
        found = coverage(ranks_of_noise(n, density=u**off))
        assert found.attrs["p_value"] < 1e-6
        assert found.attrs["verdict"] == verdict or verdict != "right"
        assert ("too little to matter" in found.attrs["summary"]) is (verdict == "right")
    shifted = tarp(ranks_of_noise(n, distance=u**0.99))
    assert shifted.attrs["p_value"] < 1e-6
    assert shifted.attrs["verdict"] == "right"


def test_an_evidence_that_is_one_to_a_percent_is_right():
    rng = np.random.default_rng(4)
    n = 10_000
    columns = {"log_ratio": np.ones(n), "ess": np.full(n, 100.0)}
    for mean, verdict in ((0.999, "right"), (0.9, "too small")):
        evidence = np.log(mean) + 1e-4 * rng.normal(size=n)
        found = normalization(ranks_of_noise(n, log_evidence=evidence, **columns))
        assert found.attrs["verdict"] == verdict
        assert found.attrs["p_value"] < 1e-6


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(1.0, "not known"), (2.0, "not known"), (0.5, "too narrow")]
)
def test_few_effective_draws_know_only_of_what_is_too_narrow(exponent, verdict):
    n = 2_000
    u = ((np.arange(n) + 0.5) / n) ** exponent
    found = coverage(ranks_of_noise(n, density=u, ess=np.full(n, 1.2)))
    assert found.attrs["verdict"] == verdict
    assert ("rest on 1.2 effective draws" in found.attrs["summary"]) is (verdict == "not known")
    many = coverage(ranks_of_noise(n, density=u, ess=np.full(n, 100.0)))
    assert many.attrs["verdict"] == {1.0: "right", 2.0: "too wide", 0.5: "too narrow"}[exponent]


@pytest.mark.parametrize("check", [coverage, tarp])
def test_bad_levels(check, exact_ranks):
    for levels in ([0.0, 0.5], [np.nan], [5, 50, 95], [], 0.5, np.ma.array([0.5], mask=[True])):
        with pytest.raises(ValueError, match=f"^{check.__name__}: levels: "):
            check(exact_ranks, levels)
    with pytest.raises(TypeError, match=f"^{check.__name__}: levels: expected numbers"):
        check(exact_ranks, ["0.5"])
    np.testing.assert_array_equal(check(exact_ranks, (0.5,))["level"], [0.5])


CHECKS = [coverage, sbc, tarp, normalization, reliability]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("given", [None, np.ones(3), xr.Dataset(), xr.Dataset({"pit": 1.0})])
def test_what_are_no_ranks_is_refused(check, given):
    with pytest.raises(TypeError, match=rf"^{check.__name__}: ranks: expected .*posterior_ranks"):
        check(given)


VARIABLES = ["density", "pit", "distance", "log_ratio", "log_ratio_marginal"]


@pytest.mark.parametrize(("check", "name"), list(zip(CHECKS, VARIABLES, strict=True)))
def test_ranks_have_no_holes(check, name, exact_ranks):
    with pytest.raises(ValueError, match=rf"^{check.__name__}: ranks: {name} holds NaN"):
        check(exact_ranks.assign({name: exact_ranks[name].where(exact_ranks["density"] > 0.1)}))


def test_ranks_that_count_draws_are_refused(exact_ranks):
    """As other packages have them: from 0 to the number of draws."""
    for check, name in zip(CHECKS[:3], VARIABLES[:3], strict=True):
        with pytest.raises(ValueError, match=rf"{name} must be ranks in \[0, 1\].*Divide ranks"):
            check(exact_ranks.assign({name: 500 * exact_ranks[name]}))


def test_ranks_of_ones_own_need_no_attributes_for_calibration(exact_ranks):
    own = xr.Dataset({"pit": exact_ranks["pit"].transpose("parameter", "pair")})
    assert sbc(own).attrs["verdict"] == "right"
    assert sbc(own).attrs["effective_pairs"] == 2_000
    for check in (normalization, reliability):
        with pytest.raises(ValueError, match=f"{check.__name__}: ranks: .* attribute normalized"):
            check(exact_ranks.drop_attrs())
