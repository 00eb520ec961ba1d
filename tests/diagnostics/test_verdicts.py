"""All that checks can say, and what to do about each."""

import ast
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from controls import changed

import pymc_nre as nre
from pymc_nre import diagnostics
from pymc_nre.diagnostics import Report
from pymc_nre.diagnostics.adding_up import adding_up
from pymc_nre.diagnostics.concentration import _result
from pymc_nre.diagnostics.verdicts import Judgment, Verdict, worst

TASK = nre.tasks.GaussianMean()
RATIO = TASK.estimator()
N = 1_000
RNG = np.random.default_rng(1)
EVEN = (np.arange(N) + 0.5) / N
# Truths rank high among the draws of posteriors that are too low.
RANKS = {
    "right": RNG.permutation(EVEN),
    "too narrow": RNG.beta(0.6, 0.6, N),
    "too wide": RNG.beta(2, 2, N),
    "too low": RNG.beta(2, 1, N),
    "too high": RNG.beta(1, 2, N),
}


def ranks_with(normalized=1, **columns):
    dims = {name: ("pair", "parameter")[: np.ndim(values)] for name, values in columns.items()}
    return xr.Dataset(
        {name: (dims[name], values) for name, values in columns.items()},
        coords={"parameter": ["mu", "sigma"]},
        attrs={"effective_pairs": float(N), "normalized": normalized},
    )


def coverage(level):
    return diagnostics.coverage(ranks_with(density=level))


def sbc(verdict):
    """That of the second parameter; the first is right."""
    return diagnostics.sbc(ranks_with(pit=np.stack([RANKS["right"], RANKS[verdict]], 1)))


def tarp(verdict):
    return diagnostics.tarp(ranks_with(distance=RANKS[verdict]))


def normalization(mean, ess=100.0, nats=1.0, **options):
    evidence = mean * np.exp(0.1 * np.random.default_rng(2).normal(size=N) - 0.005)
    zero = np.zeros(N)
    return diagnostics.normalization(
        ranks_with(log_evidence=np.log(evidence), log_ratio=zero + nats, ess=zero + ess, **options)
    )


def reliability(power=1.0, shift=0.0, **options):
    """Of a coin that is seen rightly four times of five, whose log ratios are made wrong."""
    rng = np.random.default_rng(3)
    theta, other = rng.integers(2, size=(2, N))
    x = np.where(rng.random(N) < 0.8, theta, 1 - theta)
    own, of_other = (power * np.log(np.where(t == x, 1.6, 0.4)) + shift for t in (theta, other))
    return diagnostics.reliability(
        ranks_with(log_ratio=own, log_ratio_marginal=of_other, **options)
    )


def convergence(one, hundred):
    """Of a second parameter with such ranks by one and by a hundred trials; the first is right."""
    ratio = nre.tasks.LocationScale().estimator()
    pit = np.stack([[RANKS["right"], RANKS.get(v, np.full(N, np.nan))] for v in (one, hundred)])
    rows = np.zeros((N, 2, 7))
    rows[..., 4:6] = np.moveaxis(pit, 2, 0)
    return _result(ratio, rows, np.zeros((N, 2)), (1, 100))


def auc(power=1.0, pairs=2_000):
    pairs = TASK.simulate(pairs, random_seed=1)
    return diagnostics.auc(changed(RATIO, power=power), pairs, at={"mu": 1.0}, n=500, random_seed=2)


def lc2st(power=1.0, task=TASK):
    ratio, pairs = changed(task.estimator(), power=power), task.simulate(400, random_seed=1)
    return diagnostics.lc2st(ratio, pairs, 2.0, draws=100, random_seed=2)


def trial_budget(trials, **change):
    return adding_up(changed(RATIO, **change), TASK.simulate(2_000, random_seed=1), trials)


def observation_check(*observed, pairs=1_000):
    pairs = TASK.simulate(pairs, random_seed=1)
    return diagnostics.observation_check(RATIO, pairs, observed, random_seed=2)


CASES = {
    "coverage": {
        "right": partial(coverage, EVEN),
        "too narrow": partial(coverage, EVEN**0.5),
        "too wide": partial(coverage, EVEN**2),
    },
    "sbc": {verdict: partial(sbc, verdict) for verdict in RANKS},
    "tarp": {verdict: partial(tarp, verdict) for verdict in RANKS},
    "normalization": {
        "right": partial(normalization, 1.0),
        "too large": partial(normalization, 1.1),
        "too small": partial(normalization, 0.9),
        "not known": partial(normalization, 1.0, ess=5.0),
        "not normalized": partial(normalization, 1.0, normalized=0),
        "knows nothing": partial(normalization, 1.0, nats=0.0),
    },
    "reliability": {
        "right": reliability,
        "too sure": partial(reliability, power=2.0),
        "too unsure": partial(reliability, power=0.3),
        "too high": partial(reliability, shift=0.5),
        "too low": partial(reliability, shift=-0.5),
        "not normalized": partial(reliability, normalized=0),
    },
    "convergence": {
        **{verdict: partial(convergence, verdict, verdict) for verdict in RANKS},
        "not known": partial(convergence, None, None),
    },
    "auc": {
        "right": auc,
        "told apart": partial(auc, power=0.3),
        "not known": partial(auc, pairs=100),
    },
    "lc2st": {
        "right": lc2st,
        "wrong": partial(lc2st, power=0.3),
        "not known": partial(lc2st, task=nre.tasks.GaussianMean(half_width=1e6)),
    },
    "observation_check": {
        "usual": partial(observation_check, 1.0),
        "foreign": partial(observation_check, 80.0),
        "not known": partial(observation_check, 1.0, 2.0, 3.0, 4.0, 5.0, 80.0),
    },
    "trial_budget": {
        "right": partial(trial_budget, 2),
        "not known": partial(trial_budget, 100),
        "too many trials": partial(trial_budget, 100, of_x=0.3),
    },
}
FINE = {"right", "usual"}
PASSED = FINE | {"not known", "not normalized"}


@pytest.mark.parametrize(
    ("check", "verdict"), [(check, verdict) for check in CASES for verdict in CASES[check]]
)
def test_every_verdict_of_every_check_has_its_advice(check, verdict, tmp_path):
    result = CASES[check][verdict]()
    page = Report({check: result}, {}, ranks_with(density=EVEN), RATIO)
    assert page.verdicts == {check: verdict}
    assert type(result.attrs["verdict"]) is type(page.verdicts[check]) is str
    ((*_, advice),) = page.rows
    assert (advice == "") is (verdict in FINE)
    assert page.passed is (verdict in PASSED)
    mark = {True: "ok", False: "--" if verdict in PASSED else "!!"}[verdict in FINE]
    assert f"\n{mark} {check} " in repr(page)
    result.to_netcdf(tmp_path / "result.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "result.nc", engine="scipy") as read:
        assert read.attrs["verdict"] == verdict


def names_in(node):
    """Verdicts that a piece of code names."""
    return {
        Verdict[one.attr].value
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "Verdict"
    }


def test_the_cases_are_all_that_checks_can_say():
    """By the source: a verdict that a module names must come from one of its checks."""
    assert set().union(*CASES.values()) == set(Verdict)
    modules = {}
    for check, verdicts in CASES.items():
        made_by = adding_up if check == "trial_budget" else getattr(diagnostics, check)
        modules.setdefault(made_by.__module__, set()).update(verdicts)
    for module, said in modules.items():
        name = module.removeprefix("pymc_nre.diagnostics.").replace(".", "/")
        path = Path(diagnostics.__file__).parent / f"{name}.py"
        found = names_in(ast.parse(path.read_text()))
        assert found <= said
        assert found


def test_a_failed_convergence_is_told_with_what_to_do():
    """As many trials as are right leave another way out than none does."""
    found = convergence("right", "too narrow")
    assert found.attrs["verdict"] == "too narrow"
    assert found.attrs["parameter"] == "log_sigma"
    assert list(found["verdict"].to_numpy()) == ["right", "too narrow"]
    assert list(found["worst"].to_numpy()) == ["", "log_sigma"]
    assert found.attrs["trials"] == 1
    assert "up to 1 trial; with 100 those of log_sigma are too narrow" in found.attrs["summary"]
    assert "nre.center" in advice_on(convergence=found)
    none = convergence("too low", "too low")
    assert none.attrs["trials"] == 0
    assert "Posteriors are not right; with 1 those of log_sigma are too low" in none.summary
    assert "Posterior means are off" in advice_on(convergence=none)


def test_advice_is_that_of_the_check():
    """A probability that is too low is no posterior mean."""
    assert "off by a factor" in advice_on(reliability=CASES["reliability"]["too low"]())
    assert "Posterior means" in advice_on(sbc=CASES["sbc"]["too low"]())
    assert "with more draws=" in advice_on(convergence=CASES["convergence"]["not known"]())
    assert "more simulations" in advice_on(auc=CASES["auc"]["not known"]())


def advice_on(**checks):
    ((*_, advice),) = Report(checks, {}, ranks_with(density=EVEN), RATIO).rows
    return advice


def test_the_worst_parameter_is_named_where_something_is_wrong():
    found = sbc("too wide")
    assert found.attrs["parameter"] == "sigma"
    assert list(found["verdict"].to_numpy()) == ["right", "too wide"]
    assert found.attrs["p_value"] == found["p_value"].min()
    assert sbc("right").attrs["parameter"] == ""


def test_judgments():
    small, large = Judgment(1e-5, Verdict.TOO_LOW), Judgment(0.2, Verdict.TOO_WIDE)
    assert (small.verdict, large.verdict) == ("too low", "right")
    assert small.among(1_000).p_value == pytest.approx(0.01)
    assert small.among(2_000).verdict == "right"
    assert large.among(100).p_value == 1
    assert worst([large, small], ["a", "b"]) == Judgment(1e-5, Verdict.TOO_LOW, "b")
    assert worst([large, large], ["a", "b"]).parameter == ""
    assert Judgment(np.nan, Verdict.NOT_KNOWN).verdict == "not known"
