"""Figures of what the diagnostics find."""

import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
import pytest
import xarray as xr
from controls import changed, ranked

import pymc_nre as nre
from pymc_nre.diagnostics import (
    convergence,
    coverage,
    coverage_at,
    domain_check,
    observation_check,
    sbc,
)

TASK = nre.tasks.GaussianMean()
PAIRS = TASK.simulate(1_000, random_seed=1)
pytestmark = pytest.mark.usefixtures("closed_figures")


@pytest.fixture(scope="module", params=[1.0, 2.0], ids=["exact", "sharp"])
def ranks(request):
    """Of an exact ratio, and of one that is sure of twice as much."""
    ratio = changed(TASK.estimator(), power=request.param)
    return ranked(ratio, PAIRS)


def test_the_bands_hold_the_exact_and_not_the_sharp(ranks, request):
    held = request.node.callspec.id == "exact"
    for draw, check in ((nre.plots.coverage, coverage), (nre.plots.sbc, sbc)):
        ax = draw(check(ranks))
        band = ax.collections[0].get_paths()[0]
        curve = np.column_stack(ax.lines[0].get_data())[1:-1]  # the ends are on the outline
        assert bool(band.contains_points(curve).all()) is held
        assert ("right" in ax.get_title()) is held


def test_titles_name_the_verdict_and_whose_it_is():
    result = convergence(
        changed(TASK.estimator(), of_theta=1.0),
        PAIRS, n=(1, 10), truths=20, random_seed=1, progressbar=False,
    )  # fmt: skip
    ax = nre.plots.convergence(result)
    assert ax.get_title() == "convergence: mu too low"
    error, spread = (line.get_ydata() for line in ax.lines[:2])
    scale = result["true"].std().item()
    assert error[1] * scale == pytest.approx(1, rel=0.2)  # beside the truth by as much
    assert spread * scale == pytest.approx([1, 0.1**0.5], rel=0.2)


def test_losses_of_each_member_and_chance():
    simulations = TASK.simulate(500, random_seed=3)
    ratio = nre.train(simulations, members=2, epochs=2, random_seed=1, progressbar=False)
    lines = nre.plots.loss(ratio).lines
    assert len(lines) == 5  # two of two members, and chance
    for k, name in enumerate(("train_loss", "validation_loss")):
        drawn = np.array([line.get_ydata() for line in lines[2 * k : 2 * k + 2]])
        np.testing.assert_array_equal(drawn, ratio.history[name].transpose(..., "epoch"))


def posterior(**draws):
    return {"posterior": xr.Dataset({k: (("chain", "draw"), v) for k, v in draws.items()})}


def test_the_share_beyond_the_domain():
    draws = np.array([[1.0, 2.0, 30.0, 3.0]])
    (bar,) = nre.plots.domain(domain_check(posterior(mu=draws), TASK.estimator())).patches
    assert bar.get_width() == 25


def test_coverage_at_several_points():
    points = coverage_at(TASK.estimator(), PAIRS, {"mu": [0.0, 5.0]}, n=200, random_seed=5)
    ax = nre.plots.coverage(points)
    for k, drawn in enumerate(ax.containers):
        np.testing.assert_array_equal(drawn[0].get_ydata(), points["coverage"][k])
    assert len(ax.containers) == 2


def test_numbers_with_few_values_are_drawn():
    rng = np.random.default_rng(6)
    choices = nre.Simulations({"mu": rng.normal(size=1_000)}, rng.integers(0, 2, 1_000))
    found = observation_check(TASK.estimator(), choices, [0.0, 1.0], random_seed=2)
    ax = nre.plots.observation_check(found)  # all distances are zero
    assert ax.get_xscale() == "linear"
    assert sum(bar.get_height() for bar in ax.patches) > 0


def test_pairs_of_parameters():
    task = nre.tasks.LocationScale()
    ratio, rng = task.estimator(), np.random.default_rng(6)
    draws = {k: (("chain", "draw"), rng.normal(0, 0.2, (2, 50))) for k in ratio.parameters}
    axes = nre.plots.pair({"posterior": xr.Dataset(draws)}, ratio)
    assert axes.shape == (2, 2)
    assert not axes[0, 1].axison
    mu, log_sigma = (draws[k][1].ravel() for k in ("mu", "log_sigma"))
    of_prior, of_posterior = axes[1, 0].lines
    np.testing.assert_array_equal(of_posterior.get_xydata(), np.column_stack([mu, log_sigma]))
    assert len(of_prior.get_xydata()) > 100
    with pytest.raises(ValueError, match=r"no variable 'mu'.*pm.Deterministic\('mu', ...\)"):
        nre.plots.pair({"posterior": xr.Dataset({"other": draws["mu"]})}, ratio)


def test_what_a_model_computes_is_drawn_as_is_advised():
    ratio, draws = TASK.estimator(), np.random.default_rng(7).normal(size=(2, 50))
    with pm.Model() as model:
        half = pm.Normal("half")
        nre.RatioLikelihood("x", ratio, mu=2 * half, observed=[0.0], engine="torch")
    idata = xr.DataTree.from_dict({"posterior": xr.Dataset({"half": (("chain", "draw"), draws)})})
    with pytest.raises(ValueError, match=r"model=model, var_names=\['mu'\]\)}\.$"):
        nre.plots.pair(idata, ratio)
    with model:
        pm.Deterministic("mu", 2 * half)
    posterior = idata["posterior"].to_dataset()
    computed = pm.compute_deterministics(
        posterior, model=model, var_names=["mu"], progressbar=False
    )
    np.testing.assert_allclose(computed["mu"], 2 * draws)
    nre.plots.pair({"posterior": computed}, ratio)


def test_dimensions_of_a_posterior_go_by_name():
    ratio, rng = nre.tasks.LinearGaussian().estimator(), np.random.default_rng(6)
    theta = xr.DataArray(rng.normal(size=(2, 50, 3)), dims=("chain", "draw", "number"))
    axes, turned = (
        nre.plots.pair({"posterior": xr.Dataset({"theta": one})}, ratio)
        for one in (theta, theta.transpose("number", "draw", "chain"))
    )
    for ax, other in zip(axes[1:, 0], turned[1:, 0], strict=True):
        np.testing.assert_array_equal(
            np.sort(ax.lines[1].get_xydata(), axis=0), np.sort(other.lines[1].get_xydata(), axis=0)
        )


def test_a_posterior_is_one_and_has_chains():
    ratio, mu = TASK.estimator(), xr.DataArray(np.zeros(5), dims="draw")
    for idata in (None, {}, {"prior": xr.Dataset()}, np.zeros(3), xr.DataTree()):
        with pytest.raises(ValueError, match="expected an InferenceData or DataTree with a group"):
            nre.plots.pair(idata, ratio)
    with pytest.raises(ValueError, match="with the dimensions chain and draw, got draw"):
        nre.plots.pair({"posterior": xr.Dataset({"mu": mu})}, ratio)
    with pytest.raises(ValueError, match="expected a posterior with draws, got none"):
        nre.plots.pair({"posterior": xr.Dataset({"mu": mu.expand_dims(chain=2)[:, :0]})}, ratio)
    partly = xr.Dataset({"mu": mu, "other": mu.expand_dims(chain=2)})
    with pytest.raises(ValueError, match=r"no variable 'mu'.*pm.Deterministic\('mu', ...\)"):
        nre.plots.pair({"posterior": partly}, ratio)


@pytest.mark.parametrize("name", sorted(set(nre.plots.__all__) - {"loss", "pair"}))
@pytest.mark.parametrize("given", [None, np.zeros(3), xr.Dataset({"other": 1.0})])
def test_other_results_are_refused(name, given):
    with pytest.raises(
        TypeError,
        match=r"^plots\.\w+: (found: )?expected what (diagnostics|point)\..* returns, got",
    ):
        getattr(nre.plots, name)(given)


def test_a_ratio_without_history_has_no_loss():
    with pytest.raises(ValueError, match="no history"):
        nre.plots.loss(TASK.estimator())


def crowded(ax):
    """What of a drawn panel hides something else: its legend, or neighboring tick labels."""
    renderer = ax.figure.canvas.get_renderer()
    hidden = []
    if legend := ax.get_legend():
        box = legend.get_window_extent(renderer)
        for line in ax.lines:
            points = line.get_transform().transform(line.get_xydata())
            hidden += [f"{line.get_label()} below the legend"] * bool(box.count_contains(points))
        bars = [bar.get_window_extent(renderer) for bar in ax.patches]
        hidden += ["bars below the legend"] * bool(
            box.count_overlaps([b for b in bars if b.height])
        )
    for axis in (ax.xaxis, ax.yaxis):
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        seen = [t.label1 for t in ticks if t.label1.get_text() and _within(axis, t.get_loc())]
        boxes = [label.get_window_extent(renderer) for label in seen]
        pairs = sum(box.count_overlaps(boxes) - 1 for box in boxes)
        hidden += [f"{axis.axis_name} labels overlap"] * bool(pairs)
    return hidden


def _within(axis, place):
    low, high = sorted(axis.get_view_interval())
    return low <= place <= high


def panel():
    """As small as those of a report."""
    return plt.subplots(figsize=(3.6, 2.9), layout="constrained")[1]


def many_observations(rng):
    by_chance = (("observation", "shuffle"), rng.uniform(0, 0.01, (40, 20)))
    attrs = {"verdict": "right"}
    found = {"statistic": ("observation", rng.uniform(0, 0.01, 40)), "by_chance": by_chance}
    found["observation"] = np.arange(40)
    return xr.Dataset(found, attrs=attrs)


def few_decades(rng, low=0.2, high=0.9):
    attrs = {"verdict": "right"}
    found = {"usual": rng.uniform(low, high, 500), "distance": rng.uniform(low, high, 3)}
    return xr.Dataset({k: (k[0], v) for k, v in found.items()}, attrs=attrs)


def errors_of(parameters, rng, spread=0.5):
    shape = (("n", "truth", "parameter"), spread * rng.uniform(0.5, 1.0, (4, 10, parameters)))
    found = {
        "error": shape,
        "spread": shape,
        "true": (shape[0][1:], rng.normal(size=(10, parameters))),
    }
    labels = [f"group_mean[{k}]" for k in range(parameters)]
    return xr.Dataset(found, {"n": [1, 10, 100, 1000], "parameter": labels}, {"verdict": "right"})


def ranks_of(parameters, rng):
    labels = [f"group_mean[{k}]" for k in range(parameters)]
    pit = xr.DataArray(rng.uniform(size=(parameters, 60)) ** 3, dims=("parameter", "pair"))
    return xr.Dataset(
        {"pit": pit}, {"parameter": labels}, {"effective_pairs": 60, "verdict": "low"}
    )


@pytest.mark.parametrize(
    ("draw", "made"),
    [
        (nre.plots.lc2st, many_observations),
        (nre.plots.observation_check, few_decades),
        (nre.plots.observation_check, lambda rng: few_decades(rng, 0.311, 0.389)),
        (nre.plots.observation_check, lambda rng: few_decades(rng, 1e-9, 1e6)),
        (nre.plots.convergence, lambda rng: errors_of(2, rng)),
        (nre.plots.convergence, lambda rng: errors_of(8, rng)),
        (nre.plots.sbc, lambda rng: ranks_of(2, rng)),
        (nre.plots.sbc, lambda rng: ranks_of(8, rng)),
    ],
)
def test_nothing_hides_anything(draw, made):
    ax = panel()
    draw(made(np.random.default_rng(1)), ax)
    ax.figure.canvas.draw()
    assert crowded(ax) == []
    assert sum(bool(label.get_text()) for label in ax.get_xticklabels()) > 1


def test_twin_what_is_crowded_is_seen():
    ax = panel()
    ax.plot([0, 1], [1, 1], label="covered")
    ax.set_xticks(np.arange(0, 1, 0.02))
    ax.legend(loc="upper center")
    ax.set_ylim(0, 1.1)
    ax.figure.canvas.draw()
    assert crowded(ax) == ["x labels overlap"]  # the ends of the line are beside the legend
    ax.plot(np.linspace(0, 1), np.ones(50), label="covered")
    assert "covered below the legend" in crowded(ax)
