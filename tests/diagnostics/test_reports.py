"""All checks on one page, and their figures."""

import re

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from controls import changed
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.diagnostics import report, reports
from pymc_nre.networks.composed.correction import QuadraticCorrection

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(1_000, random_seed=1)
pytestmark = pytest.mark.usefixtures("closed_figures")


def reported(ratio, observed=(0.5, 1.0), **options):
    options = {"draws": 300, "random_seed": 2, "progressbar": False} | options
    return report(ratio, PAIRS, None if observed is None else np.array(observed), **options)


@pytest.fixture(scope="module")
def exact():
    return reported(TASK.estimator())


@pytest.fixture(scope="module")
def sharp():
    return reported(changed(TASK.estimator(), power=2.0), observed=(0.5, 80.0))


def test_an_exact_ratio_passes(exact):
    assert exact.passed
    assert len(exact.checks) == 10
    assert not exact.skipped
    assert exact.headline == (
        "Nothing wrong found by 9 checks on 1,000 held-out pairs, but nothing is known by "
        "trial_budget."
    )
    assert "!!" not in repr(exact)


def test_a_wrong_one_is_told_with_what_to_do(sharp):
    assert not sharp.passed
    assert sharp.verdicts["coverage"] == "too narrow"
    assert sharp.verdicts["observation_check"] == "foreign"
    assert "!! coverage" in repr(sharp)
    assert "Do not trust credible intervals" in repr(sharp)
    page = sharp._repr_html_()
    failed = [row for row in sharp.rows if row[1] not in ("right", "usual", "not known")]
    assert page.count("firebrick") == len(failed) == 8
    assert page.count("gray") == 2  # of auc, which knows nothing of a ratio this sharp, and trials
    assert all(advice and advice in page for *_, advice in failed)


def quick(ratio=None, pairs=PAIRS, observed=None, **options):
    options = {"draws": 100, "random_seed": 1, "progressbar": False} | options
    return report(ratio or TASK.estimator(), pairs, observed, **options)


def test_what_cannot_be_checked_is_said():
    found = quick(TASK.estimator().replace(normalized=False), BARE)
    assert set(found.skipped) == {"auc", "convergence", "lc2st", "observation_check"}
    assert "not made: no observed=" in repr(found)
    assert found._repr_html_().count("<b>not made</b>") == 4
    assert found.passed


BARE = nre.Simulations(PAIRS.parameters, PAIRS.x)


def simulated_by(simulator):
    return TASK.estimator().replace(simulator=nre.Simulator(simulator, batched=True))


def sometimes_failing(rng, mu):
    return np.where(rng.random(len(mu)) < 0.01, np.nan, rng.normal(mu, 1.0))


def always_failing(rng, mu):
    return np.full(len(mu), np.nan)


def of_an_integer():
    prior = {"k": pm.DiscreteUniform.dist(0, 5)}
    options = {"batched": True, "random_seed": 1, "progressbar": False}
    pairs = nre.simulate(prior, lambda rng, k: rng.normal(k, 1.0), 2_000, **options)
    return nre.train(pairs, epochs=2, random_seed=1, progressbar=False), pairs


NOT_APPLICABLE = {
    "no simulator": (
        lambda: (TASK.estimator().replace(simulator=None), BARE),
        {"auc": "auc needs the simulator", "convergence": "do not know"},
    ),
    "no simulator, but a prior": (
        lambda: (
            TASK.estimator().replace(simulator=None),
            nre.Simulations(PAIRS.parameters, PAIRS.x, prior=TASK.prior()),
        ),
        {"auc": "auc needs the simulator", "convergence": "convergence needs the simulator"},
    ),
    "not normalized": (
        lambda: (TASK.estimator().replace(normalized=False), PAIRS),
        {"auc": "is not normalized"},
    ),
    "another reference": (
        lambda: (make_estimator({"mu": ()}, reference="fixed"), PAIRS),
        {"auc": "is over another reference"},
    ),
    "no prior": (lambda: (TASK.estimator(), BARE), {"convergence": "do not know it"}),
    "an integer": (
        of_an_integer,
        {"convergence": "k is an integer", "trial_budget": "an integer has no score"},
    ),
    "nothing but failures": (
        lambda: (simulated_by(always_failing), PAIRS),
        dict.fromkeys(("auc", "convergence"), r"simulations at mu = -?[\d.]+ failed"),
    ),
}


@pytest.mark.parametrize("case", NOT_APPLICABLE)
def test_a_check_that_does_not_apply_is_told_and_the_others_are_made(case):
    make, reasons = NOT_APPLICABLE[case]
    found = quick(*make())
    without_data = {"lc2st", "observation_check"}
    assert set(found.skipped) - without_data == set(reasons)
    for check, reason in reasons.items():
        assert re.search(reason, found.skipped[check])
    assert set(found.checks) == ALL - without_data - set(reasons)


def test_simulations_that_fail_now_and_then_leave_no_check_out():
    with pytest.warns(nre.SimulationWarning) as caught:
        found = quick(simulated_by(sometimes_failing))
    assert set(found.checks) == ALL - {"lc2st", "observation_check"}
    assert {str(w.message).split(":")[0] for w in caught} == {"auc", "convergence"}


ALL = {
    "coverage", "sbc", "tarp", "reliability", "normalization", "auc", "convergence", "lc2st",
    "observation_check", "trial_budget",
}  # fmt: skip


def test_too_few_simulations_for_the_data():
    found = quick(pairs=TASK.simulate(150, random_seed=7), observed=1.0)
    assert list(found.skipped) == ["observation_check", "trial_budget"]
    assert "at least 200 simulations, got 150" in found.skipped["observation_check"]


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("auc", ValueError),
        ("convergence", NotImplementedError),
        ("lc2st", RuntimeError),
        ("observation_check", ValueError),
        ("adding_up", RuntimeError),
    ],
)
def test_a_bug_is_not_taken_for_a_check_that_does_not_apply(monkeypatch, check, kind):
    def broken(*_, **__):
        raise kind("a bug")

    before = ["auc", "convergence", "lc2st", "observation_check", "adding_up"]
    for name in before[: before.index(check)]:  # which take their time
        monkeypatch.setattr(reports, name, lambda *_, **__: xr.Dataset())
    monkeypatch.setattr(reports, check, broken)
    with pytest.raises(kind, match="a bug"):
        quick(observed=1.0)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        ([1.0, np.nan], "report: observed: 1 of 2 values are NaN"),
        ([], "report: observed holds no observation"),
        (np.ma.array([1.0, -999.0], mask=[0, 1]), "report: observed: 1 of 2 values are masked"),
    ],
)
def test_observations_that_do_not_fit_are_refused_at_once(monkeypatch, observed, message):
    monkeypatch.setattr(reports, "posterior_ranks", None)
    with pytest.raises(ValueError, match=message):
        quick(observed=observed)


def test_the_simulator_of_the_simulations_will_do():
    pairs = nre.simulate(TASK.prior(), TASK.simulator, 200, batched=True, random_seed=1)
    ratio = TASK.estimator().for_evaluation()
    found = report(ratio, pairs, draws=100, random_seed=1, progressbar=False)
    assert {"auc", "convergence"} <= set(found.checks)


def test_what_is_centered_for_one_posterior_is_refused():
    plain = TASK.estimator()
    tilted = plain.replace(network=QuadraticCorrection(plain.network, 1).eval())
    with pytest.raises(ValueError, match="Check the ratio from before"):
        reported(tilted)


def test_numbers_come_as_one_tree(exact, tmp_path):
    tree = exact.to_xarray()
    assert set(tree.children) == {"ranks", *exact.checks}
    xr.testing.assert_identical(tree["coverage"].to_dataset(), exact.checks["coverage"])


def test_a_figure_with_all_checks(exact, sharp):
    for found in (exact, sharp):
        figure = found.plot()
        drawn = [ax for ax in figure.axes if ax.axison]
        assert len(drawn) == 10  # 8 checks that have figures, log ratios and evidence
        assert all(ax.has_data() for ax in drawn)


def nothing_known(task=TASK):
    """The prior's own ratio."""
    return changed(task.estimator(), power=0.0)


def test_knowing_nothing_overrides_what_is_right():
    found = quick(nothing_known())
    assert found.headline == "The ratio knows nothing of its parameters, by 1,000 held-out pairs."
    assert not found.passed
    assert found.verdicts["normalization"] == "knows nothing"
    judged = {"coverage", "sbc", "tarp", "reliability", "convergence"}
    assert {found.verdicts[name] for name in judged} == {"not known"}
    assert found.checks["convergence"].attrs["trials"] == 0
    assert "ok " not in repr(found)
    assert "powers of ten" not in repr(found)


def test_data_over_many_decades_are_named_as_the_cause():
    wide = np.random.default_rng(1).normal(PAIRS.parameters["mu"], 1.0)
    pairs = nre.Simulations(PAIRS.parameters, 10.0 ** (0.6 * wide), prior=TASK.prior())
    found = quick(nothing_known(), pairs)
    (row,) = [row for row in found.rows if row[0] == "normalization"]
    assert re.search(r"x reaches over \d\d powers of ten.*logarithm.*arcsinh", row[2])


def test_trials_say_how_the_ratio_will_be_used(monkeypatch):
    asked = []

    def recorded(*_, n, **__):
        asked.append(list(n))
        return xr.Dataset(attrs={"verdict": "right", "summary": "", "trials": n[-1]})

    monkeypatch.setattr(reports, "convergence", recorded)
    monkeypatch.setattr(reports, "auc", recorded_auc)
    for trials in (100, 5_000, 30, 2):
        quick(trials=trials)
    assert asked == [[1, 10, 100], [1, 10, 100, 1_000, 5_000], [1, 10, 30], [1, 2]]
    found = quick(trials=1)
    assert "trials=1: there is nothing to add up" in found.skipped["convergence"]
    quick()
    assert asked[4:] == [[1, 10, 100]]


def of_trials(ratio, trials, **options):
    """The row of the trial budget: verdict, summary and advice."""
    found = quick(ratio, trials=trials, **options)
    ((_, *told),) = [row for row in found.rows if row[0] == "trial_budget"]
    return told


def test_a_bias_that_few_simulations_cannot_exclude_is_told_with_its_size():
    verdict, summary, advice = of_trials(TASK.estimator(), 20)
    assert verdict == "not known"
    size = float(re.search(r"off by up to (0\.\d+) posterior standard deviations", summary)[1])
    assert 0.2 < size < 0.6
    assert "nre.trial_budget(ratio, nre.simulate(prior, simulator, 100_000))" in advice


def test_the_budget_of_the_ratio_is_used_if_more_simulations_made_it():
    ratio = TASK.estimator()
    known = nre.trial_budget(ratio, TASK.simulate(50_000, random_seed=3)).attach(ratio)
    verdict, summary, advice = of_trials(known, 20)
    assert (verdict, advice) == ("right", "")
    assert summary == "The ratio bears 20 trials, by 50,000 simulations."
    biased = changed(TASK.estimator(), of_x=0.3)
    assert of_trials(biased, 20)[0] == "too many trials"
    few = nre.trial_budget(biased, TASK.simulate(1_000, random_seed=3))
    assert of_trials(few.attach(biased), 20)[0] == "too many trials"


def recorded_auc(*_, **__):
    return xr.Dataset(attrs={"verdict": "right", "summary": ""})


def test_few_effective_draws_are_not_called_safe():
    task = nre.tasks.GaussianMean(half_width=1e6)
    pairs = task.simulate(1_000, random_seed=1)
    with pytest.warns(nre.PosteriorWarning, match="effective draws"):
        found = report(
            task.estimator(), pairs, trials=1, draws=300, random_seed=1, progressbar=False
        )
    by_draws = ("coverage", "sbc", "tarp", "reliability", "normalization")
    assert {found.verdicts[name] for name in by_draws} == {"not known"}
    assert re.match(r"Nothing is known by \d of 6 checks on .*: coverage, sbc", found.headline)
    assert "narrower prior around the data" in repr(found)
    assert "wasteful" not in repr(found)


def test_few_truths_do_not_contradict_many_pairs():
    """Too wide by a fifth is seen by 1,000 pairs, and not by 50 truths."""
    found = quick(changed(TASK.estimator(), power=0.6), trials=2)
    assert "too wide" in (found.verdicts["coverage"], found.verdicts["sbc"])
    assert found.verdicts["convergence"] == "not known"
    assert found.checks["convergence"].attrs["trials"] == 0
    assert "by many posteriors of a single one are not right" in repr(found)
    assert quick(trials=2).checks["convergence"].attrs["trials"] == 2


def test_a_classifier_does_not_know_data_that_nobody_simulated():
    found = quick(observed=5_000 + np.arange(5.0), trials=1)
    assert found.verdicts["observation_check"] == "foreign"
    assert found.verdicts["lc2st"] != "right"
    assert "ok lc2st" not in repr(found)


def test_convergence_is_not_called_right_where_ranks_know_nothing():
    task = nre.tasks.GaussianMean(half_width=1_000)
    pairs = task.simulate(1_000, random_seed=1)
    with pytest.warns(nre.PosteriorWarning, match="narrower prior around the data"):
        found = quick(task.estimator(), pairs, trials=2)
    assert found.verdicts["coverage"] == found.verdicts["convergence"] == "not known"
    assert "far wider than data would allow" in repr(found)
