"""All checks on one page, and their figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from controls import changed

import pymc_nre as nre
from pymc_nre.diagnostics import coverage_at, domain_check, report
from pymc_nre.networks.correction import QuadraticCorrection

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(1_000, random_seed=1)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


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
    assert len(exact.checks) == 9
    assert not exact.skipped
    assert exact.headline == "Nothing wrong found by 9 checks on 1,000 held-out pairs."
    assert "!!" not in repr(exact)


def test_a_wrong_one_is_told_with_what_to_do(sharp):
    assert not sharp.passed
    assert sharp.verdicts["coverage"] == "too narrow"
    assert sharp.verdicts["observation_check"] == "foreign"
    assert "!! coverage" in repr(sharp)
    assert "Do not trust credible intervals" in repr(sharp)
    page = sharp._repr_html_()
    assert "firebrick" in page
    assert page.count("<tr>") == 10


def test_what_cannot_be_checked_is_said():
    ratio = TASK.estimator().replace(simulator=None, normalized=False)
    bare = nre.Simulations(PAIRS.parameters, PAIRS.x)
    found = report(ratio, bare, draws=300, random_seed=2, progressbar=False)
    assert set(found.skipped) == {"auc", "convergence", "lc2st", "observation_check"}
    assert "no simulator" in found.skipped["auc"]
    assert "not made: no observed=" in repr(found)
    assert found.passed


def test_a_check_that_cannot_be_made_does_not_stop_the_others():
    few = report(
        TASK.estimator(), TASK.simulate(150, random_seed=7), 1.0, draws=100, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    assert "at least 200 simulations, got 150" in few.skipped["observation_check"]
    assert "coverage" in few.checks

    def failing(rng, mu):
        return np.where(rng.random(len(mu)) < 0.01, np.nan, rng.normal(mu, 1.0))

    ratio = TASK.estimator().replace(simulator=nre.Simulator(failing, batched=True))
    assert "at one truth failed" in reported(ratio, observed=None).skipped["convergence"]


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


def test_the_band_of_coverage_holds_the_exact_and_not_the_sharp(exact, sharp):
    for found, held in ((exact, True), (sharp, False)):
        ax = nre.plots.coverage(found.checks["coverage"])
        band = ax.collections[0].get_paths()[0]
        curve = np.column_stack(ax.lines[0].get_data())[1:-1]  # the ends are on the outline
        assert band.contains_points(curve).all() is np.bool_(held)


def test_other_figures():
    ratio = nre.train(
        TASK.simulate(500, random_seed=3), members=2, epochs=2, random_seed=1, progressbar=False
    )
    losses = nre.plots.loss(ratio).lines
    assert len(losses) == 5  # two of two members, and chance
    rng = np.random.default_rng(4)
    idata = {"posterior": xr.Dataset({"mu": (("chain", "draw"), rng.normal(0, 8, (2, 50)))})}
    bars = nre.plots.domain(domain_check(idata, ratio)).patches
    assert bars[0].get_width() > 0
    assert nre.plots.pair(idata, ratio).shape == (1, 1)
    points = coverage_at(ratio, PAIRS, {"mu": [0.0, 5.0]}, n=200, random_seed=5)
    assert len(nre.plots.coverage(points).containers) == 2


def test_pairs_of_parameters():
    task = nre.tasks.LocationScale()
    ratio, rng = task.estimator(), np.random.default_rng(6)
    draws = {k: (("chain", "draw"), rng.normal(0, 0.2, (2, 50))) for k in ratio.parameters}
    axes = nre.plots.pair({"posterior": xr.Dataset(draws)}, ratio)
    assert axes.shape == (2, 2)
    assert not axes[0, 1].axison
    with pytest.raises(ValueError, match="no variable 'mu'"):
        nre.plots.pair({"posterior": xr.Dataset({"other": draws["mu"]})}, ratio)


def test_a_ratio_without_history_has_no_loss():
    with pytest.raises(ValueError, match="no history"):
        nre.plots.loss(TASK.estimator())
