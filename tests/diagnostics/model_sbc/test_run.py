"""Calibration of whole models: ranks are uniform for good ratios, and only for those."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from calibrated import RATIO, SHORT, TASK, a_mean, an_integer, nearly_exact
from scipy.stats import kstest

import pymc_nre as nre
from pymc_nre.diagnostics import sbc, sbc_model
from pymc_nre.diagnostics.model_sbc.replicates import Replicates
from pymc_nre.diagnostics.model_sbc.run import _effective, _ranks


def groups_and_a_density(ratio=RATIO):
    """A hierarchy, data in a pm.Data, and an ordinary likelihood of the same parameters."""
    with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
        m = pm.Normal("m", 0, 2)
        s = pm.HalfNormal("s", 1)
        mu = pm.Normal("mu", m, s, dims="group")
        group = np.array([0, 0, 1, 1, 2])
        nre.RatioLikelihood("x", ratio, mu=mu[group], observed=pm.Data("x_data", np.zeros(5)))
        pm.Normal("y", m, 1, observed=np.zeros(2))
        pm.Deterministic("spread", mu.max() - mu.min())
    return model


def test_a_good_ratio_is_right_and_a_bad_one_is_found():
    good = sbc_model(a_mean(), replicates=60, **SHORT)
    assert sbc(good)["verdict"].item() == "right"
    # Posteriors of sd 0.49 in 60 data sets; half a unit is one of them.
    bad = sbc_model(a_mean(nearly_exact(shift=0.5)), replicates=60, **SHORT)
    assert sbc(bad)["verdict"].item() == "too high"
    assert sbc(bad)["p_value"].item() < 1e-6
    xr.testing.assert_identical(good["truth"], bad["truth"])


def test_posteriors_are_those_of_the_data_drawn():
    # mu ~ N(0, 2), four x ~ N(mu, 1): the mean and sd of mu are known from the data.
    drawn = Replicates(a_mean(), None)
    found = sbc_model(a_mean(), replicates=5, **SHORT | {"draws": 1_000, "tune": 300})
    for i in range(5):
        seed = np.random.SeedSequence(1, spawn_key=(i,)).spawn(3)[0]
        made = drawn.draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(made.truth, found["truth"][i])
        sd = (4 + 1 / 4) ** -0.5
        mean = 4 * made.data["x"].mean() * sd**2
        error = sd / float(found["ess"][i, 0]) ** 0.5
        assert abs(float(found["mean"][i, 0]) - mean) < 5 * error
        # The sd of n draws has a standard error of sd / sqrt(2 n).
        assert abs(float(found["sd"][i, 0]) - sd) < 5 * error


def test_mixed_hierarchical_models_and_nutpie():
    model = groups_and_a_density()
    options = SHORT | {"draws": 500, "tune": 300}
    names = ["m", "mu", "spread"]
    ours = sbc_model(model, replicates=3, var_names=names, **options)
    with ThreadPoolExecutor(2) as threads:
        options |= {"sampler": "auto", "executor": threads}
        other = sbc_model(model, replicates=3, var_names=names, **options)
    assert (ours.attrs["sampler"], other.attrs["sampler"]) == ("pymc", "nutpie")
    assert list(ours["parameter"]) == ["m", "mu[0]", "mu[1]", "mu[2]", "spread"]
    np.testing.assert_array_equal(ours["truth"], other["truth"])
    error = np.sqrt(ours["sd"] ** 2 / ours["ess"] + other["sd"] ** 2 / other["ess"])
    assert (np.abs(ours["mean"] - other["mean"]) < 5 * error).all()
    np.testing.assert_array_equal(model["x_data"].get_value(), np.zeros(5))


def test_results_do_not_depend_on_the_executor():
    with ThreadPoolExecutor(2) as threads:
        found = sbc_model(a_mean(), replicates=4, executor=threads, **SHORT)
    xr.testing.assert_identical(found, sbc_model(a_mean(), replicates=4, **SHORT))


def test_it_goes_on_where_it_was(tmp_path):
    calls = []

    def simulator(rng, mu):
        calls.append(mu)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return TASK.simulator(rng, mu)

    path = tmp_path / "run"
    whole = sbc_model(a_mean(), replicates=4, **SHORT)
    with pytest.warns(nre.PosteriorWarning, match="returning the first 2 of 3 replicates"):
        part = sbc_model(
            a_mean(nearly_exact(simulator=simulator)), replicates=3, checkpoint=path, **SHORT
        )
    xr.testing.assert_equal(part, whole.isel(pair=slice(2)))
    calls.clear()
    # More of them, without naming the seed; the first data set is drawn again, to compare.
    model = a_mean(nearly_exact(simulator=lambda rng, mu: calls.append(0) or rng.normal(mu, 1.0)))
    again = sbc_model(model, replicates=4, checkpoint=path, **SHORT | {"random_seed": None})
    xr.testing.assert_identical(again, whole)
    assert len(calls) == 3
    fewer = sbc_model(model, replicates=1, checkpoint=path, **SHORT)
    xr.testing.assert_equal(fewer, whole.isel(pair=slice(1)))
    assert len(calls) == 4

    def other(rng, mu):
        return rng.normal(mu, 2.0)

    for bad, options, what in [
        (a_mean(nearly_exact(shift=0.1)), {}, "ratios"),
        (a_mean(nearly_exact(simulator=other)), {}, "prior, simulator or shape of the data"),
        (a_mean(n=5), {}, "prior, simulator or shape of the data"),
        (a_mean(), {"draws": 61}, "sampler, draws, tune or target_accept"),
        (a_mean(), {"random_seed": 2}, "random_seed"),
    ]:
        with pytest.raises(ValueError, match=f"another calibration run, with other {what}"):
            sbc_model(bad, replicates=4, checkpoint=path, **SHORT | options)


def test_failures_are_counted_and_left_out():
    def simulator(rng, mu):
        x = TASK.simulator(rng, mu)
        if mu[0] > 2:
            raise RuntimeError("too large")
        return np.full_like(x, np.nan) if mu[0] < -3 else x

    model = a_mean(nearly_exact(simulator=simulator))
    with pytest.warns(nre.PosteriorWarning, match=r"(?s)replicates failed and are left out.*too l"):
        found = sbc_model(model, replicates=10, **SHORT)
    whole = sbc_model(a_mean(), replicates=10, **SHORT)
    inside = (whole["truth"][:, 0] <= 2) & (whole["truth"][:, 0] >= -3)
    assert 0 < found.attrs["failed"] == int((~inside).sum())
    xr.testing.assert_equal(found["pit"], whole["pit"][inside.to_numpy()])

    def broken(rng, mu):
        raise RuntimeError("always")

    with pytest.raises(RuntimeError, match=r"(?s)10 of 10 replicates failed.*always"):
        sbc_model(a_mean(nearly_exact(simulator=broken)), replicates=50, **SHORT)


class Breaking(ThreadPoolExecutor):
    """Whose worker dies of the third task."""

    def submit(self, *task):
        self.tasks = getattr(self, "tasks", 0) + 1
        if self.tasks < 3:
            return super().submit(*task)
        raise BrokenProcessPool("a worker died")


def test_a_dead_worker_keeps_what_is_done():
    whole = sbc_model(a_mean(), replicates=3, **SHORT)
    message = "^Stopped by BrokenProcessPool: returning the first [12] of 3 replicates"
    with Breaking(1) as executor, pytest.warns(nre.PosteriorWarning, match=message):
        part = sbc_model(a_mean(), replicates=3, executor=executor, **SHORT)
    xr.testing.assert_equal(part, whole.isel(pair=slice(part.sizes["pair"])))


def test_few_effective_draws_are_told():
    with pytest.warns(nre.PosteriorWarning, match=r"ranks of k rest on fewer than .* effective"):
        sbc_model(an_integer(), replicates=7, **SHORT)


def test_ranks_are_uniform_with_any_number_of_draws_and_ties():
    rng = np.random.default_rng(2)
    counts = rng.poisson(2, (5_000, 41)).astype(float)
    ess = np.array([1.0, 7.6, 40.0])
    found = np.array(
        [_ranks(row[[40] * 3], np.stack([row[:40]] * 3, 1), ess, rng) for row in counts]
    )
    for column in found.T:
        assert kstest(column, "uniform").pvalue > 0.001
    without_ties = (counts[:, :40] < counts[:, 40:]).mean(1)
    assert kstest(without_ties, "uniform").pvalue < 1e-20


def test_a_chain_is_thinned_to_its_effective_draws():
    # Ranks among all draws of a slow chain are too spread.
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(1_000, 401))
    chains = np.empty_like(noise)
    chains[:, 0] = noise[:, 0]
    for i in range(1, 401):
        chains[:, i] = 0.95 * chains[:, i - 1] + (1 - 0.95**2) ** 0.5 * noise[:, i]
    # 400 (1 - 0.95) / (1 + 0.95) = 10 are effective.
    ess = np.array([_effective(chain[1:, None])[0] for chain in chains])
    assert 8 < np.median(ess) < 16
    truth = rng.normal(size=1_000)
    thinned, all_of_them = (
        np.array(
            [
                _ranks(truth[i, None], chains[i, 1:, None], number[i, None], rng)[0]
                for i in range(len(truth))
            ]
        )
        for number in (ess, np.full(len(ess), 400.0))
    )
    assert kstest(thinned, "uniform").pvalue > 0.001
    spread = [((u - 0.5) ** 2).mean() for u in (thinned, all_of_them)]
    assert abs(spread[0] - 1 / 12) < 4 / (180 * 1_000) ** 0.5 < spread[1] - 1 / 12


def test_still_chains():
    draws = np.stack([np.full(50, 2.0), np.full(50, 0.3)], axis=1)
    np.testing.assert_array_equal(_effective(draws), [50, 1])


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match="needs a model"):
        sbc_model()
    with pytest.raises(
        ValueError, match="free variables or deterministics of the model, mu; got nu"
    ):
        sbc_model(a_mean(), var_names=["nu"])
    with pytest.raises(ValueError, match="sampler must be one of auto, nutpie, pymc, got 'stan'"):
        sbc_model(a_mean(), sampler="stan")
    with pytest.raises(TypeError, match=r"sbc_model: model: expected a pymc.Model, got Series"):
        sbc_model(pd.Series([1.0]))
    with pytest.raises(FileNotFoundError, match="folder of the checkpoint"):
        sbc_model(a_mean(), checkpoint=tmp_path / "none" / "run")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replicates", 0),
        ("replicates", 2.5),
        ("draws", 9),
        ("draws", "500"),
        ("tune", -1),
        ("tune", np.nan),
        ("target_accept", 1),
        ("target_accept", np.nan),
        ("target_accept", None),
    ],
)
def test_bad_counts(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^sbc_model: {name}: expected a"):
        sbc_model(a_mean(), **{name: value})


def eight_groups(ratio):
    group = np.repeat(np.arange(8), 10)
    with pm.Model() as model:
        m = pm.Normal("m", 0, 2)
        s = pm.HalfNormal("s", 1)
        mu = pm.Deterministic("mu", m + s * pm.Normal("z", 0, 1, shape=8))
        nre.RatioLikelihood("x", ratio, mu=mu[group], observed=np.zeros(80))
    return model


@pytest.mark.slow
def test_processes_give_the_same_results():
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        found = sbc_model(a_mean(), replicates=4, executor=process, **SHORT)
    xr.testing.assert_identical(found, sbc_model(a_mean(), replicates=4, **SHORT))


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "right"), (0.2, "too high")])
def test_eight_groups(shift, verdict):
    found = sbc(
        sbc_model(
            eight_groups(nearly_exact(shift)),
            replicates=200,
            var_names=["m", "mu", "s"],
            random_seed=1,
            progressbar=False,
        )
    )
    shifted = found["verdict"].sel(parameter=["m", *(f"mu[{i}]" for i in range(8))])
    assert set(shifted.to_numpy()) == {verdict}
    assert found["verdict"].sel(parameter="s") == "right"
