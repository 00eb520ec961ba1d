"""Rounds end at the posterior of their data set, and say so of no other."""

import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import torch
from quick_rounds import PRIOR, X, bits, quick, simulator

import pymc_nre as nre
from pymc_nre import DomainWarning, SimulationWarning, TrainingWarning
from pymc_nre.networks.base import SplitNetwork
from pymc_nre.training.members import train

SD = len(X) ** -0.5


class Island(SplitNetwork):
    """A network that was trained, but for a narrow range of mu that it favors."""

    def __init__(self, trained):
        torch.nn.Module.__init__(self)
        vars(self).update(vars(trained))

    def head(self, theta, features):
        mu, logit = theta[..., 0], super().head(theta, features)
        return torch.where((mu - 7.0).abs() < 0.05, 4.0, logit)


# Of what is trained for other ends than to be right.
FEW = {"n": 400, "rounds": 2, "epochs": 2}
pytestmark = pytest.mark.filterwarnings("ignore:The validation loss:pymc_nre.TrainingWarning")


def test_the_posterior_is_that_of_the_data(found):
    mu = found.posterior["mu"].to_numpy()
    # A small network of few epochs: a third of a standard deviation, and a third of the width.
    assert abs(mu.mean() - X.mean()) < SD / 3
    assert abs(mu.std() / SD - 1) < 1 / 3
    assert abs(mu.mean() - (X.mean() + 1)) > SD / 3  # the twin


def test_the_table_tells_of_each_round(found):
    table = found.table
    assert table.sizes == {"round": 3}
    assert table["simulations"].sum() == 1_200
    assert (table["failed"] == 0).all()
    assert table["kept_volume"][0] < 0.6
    assert (table["lost_mass"] < 0.01).all()
    assert table["ess"][-1] > 4 * table["ess"][0]  # more simulations, and more of them count
    assert "1,200 simulations for one data set" in repr(found)
    assert len(repr(found).splitlines()) == 6


def test_the_ratio_is_known_in_the_kept_set(found):
    ratio = found.ratio
    half = np.sqrt(2 * np.log(1e6)) * SD
    assert abs(ratio.domain.lower[0] - (X.mean() - half)) < half / 3
    assert abs(ratio.domain.upper[0] - (X.mean() + half)) < half / 3
    assert ratio.domain.inside(found.posterior["mu"].to_numpy()[:, None]).mean() > 0.999
    assert not ratio.normalized
    np.testing.assert_array_equal(ratio.observed, X)
    assert "one data set of 4 observations, and no others" in repr(ratio)


def test_another_prior_needs_no_other_rounds(found):
    prior = {"mu": pm.Normal.dist(1.0, 0.5)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # the prior's tail is outside
        made = nre.weighted_draws(found.ratio, X, prior, trials=True, random_seed=1)
    sd = (4 + 4) ** -0.5
    assert abs(made["mean"].item() - (X.mean() + 1) / 2) < sd / 3
    assert abs(made["sd"].item() / sd - 1) < 1 / 3


def test_the_guard_knows_its_data(found, caplog):
    with caplog.at_level(logging.INFO, "pymc_nre"), pm.Model():
        mu = pm.Uniform("mu", -10, 10)
        nre.RatioLikelihood("x", found.ratio, mu=mu, observed=X[::-1])  # in whatever order
    assert "made for one data set" in caplog.text
    with pm.Model():
        mu = pm.Uniform("mu", -10, 10)
        with pytest.warns(DomainWarning, match="made for one data set, of 4 obs.*others"):
            nre.RatioLikelihood("x", found.ratio, mu=mu, observed=X + 0.5)
    with pytest.warns(DomainWarning, match="made for one data set"):
        nre.weighted_draws(found.ratio, X[:3], trials=True)


def test_the_guard_refuses_models_that_are_elsewhere(found):
    with pm.Model() as model:
        mu = pm.Uniform("mu", 8, 10)
        with pytest.warns(DomainWarning, match="run nre.rounds with the prior"):
            nre.RatioLikelihood("x", found.ratio, mu=mu, observed=X, outside="reject")
    assert np.isneginf(model.compile_logp()(model.initial_point()))


def test_a_file_remembers_the_data(found, tmp_path):
    found.ratio.save(tmp_path / "ratio.nre")
    loaded = nre.load(tmp_path / "ratio.nre")
    assert loaded == found.ratio
    np.testing.assert_array_equal(loaded.observed, X)


def test_the_seed_decides_and_the_executor_does_not():
    with ThreadPoolExecutor(2) as pool:
        one, same = quick(**FEW), quick(**FEW, executor=pool)
    other = quick(**FEW, random_seed=2)
    assert bits(one) == bits(same)
    assert bits(one) != bits(other)


def test_what_is_settled_is_simulated_at_once():
    def noise(rng, mu):
        return rng.normal(size=len(mu))

    with pytest.warns(TrainingWarning, match="cannot be told from chance"):
        found = quick(n=800, simulator=noise, observed=0.3, rounds=5, epochs=3)
    assert found.table["simulations"].to_numpy().tolist() == [160, 160, 480]
    assert found.table["kept_volume"][-1] > 0.9


def test_contrasts_are_at_every_scale_where_they_gain_or_are_asked_for():
    assert quick(**FEW).ratio.loss.startswith("NREC")
    assert quick(**FEW | {"rounds": 1}).ratio.loss.startswith("MultiScale")
    assert quick(**FEW, loss=nre.losses.MultiScale()).ratio.loss.startswith("MultiScale")


def test_nuisance_is_drawn_anew_and_integers_are_whole():
    seen = []

    def counts(rng, k, noise, mu):
        assert isinstance(k, np.integer | int)
        seen.append((k, noise))
        return rng.normal([mu, k], 1 + noise)

    with pm.Model() as prior:
        pm.Normal("mu", 0, 3)
        pm.Poisson("k", 4)
        pm.HalfNormal("noise", 0.1)
    own = {"parameters": ["mu", "k"], "observed": [1.0, 5.0], "batched": False}
    found = quick(prior=prior, simulator=counts, **FEW, **own)
    assert list(found.ratio.parameters) == ["mu", "k"]
    assert found.ratio.layout.integer == {"k"}
    assert len({noise for _, noise in seen}) == 400
    k = found.posterior["k"].to_numpy()
    assert k.dtype.kind == "i"
    assert found.ratio.observed.shape == (1, 2)


def test_simulations_have_the_conditions_of_the_trials():
    doses, seen = np.array([0.0, 1.0, 4.0]), []

    def response(rng, mu, dose):
        seen.append(dose)
        return rng.normal(mu * dose, 1.0)

    given = {"conditions": pd.DataFrame({"dose": doses}), "observed": 2 * doses}
    found = quick(simulator=response, **FEW, **given)
    assert set(np.concatenate(seen)) == set(doses)
    assert list(found.ratio.conditions.shapes) == ["dose"]
    with pm.Model():
        mu = pm.Uniform("mu", -10, 10)
        nre.RatioLikelihood("x", found.ratio, mu=mu, dose=doses, observed=2 * doses)


def test_failures_are_counted():
    def fails(rng, mu):
        return np.where(rng.uniform(size=len(mu)) < 0.1, np.nan, rng.normal(mu, 1.0))

    with pytest.warns(SimulationWarning, match="failed"):
        found = quick(simulator=fails, **FEW)
    assert (found.table["failed"] > 5).all()


def test_rounds_that_are_over_are_returned_if_it_is_interrupted():
    calls = []

    def stopped(rng, mu):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return simulator(rng, mu)

    with pytest.warns(TrainingWarning, match="Interrupted after 1 of 2 rounds"):
        found = quick(simulator=stopped, **FEW)
    assert found.table.sizes == {"round": 1}
    del calls[1:]
    with pytest.raises(KeyboardInterrupt):  # in the first one
        quick(simulator=stopped, **FEW)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "snpe"}, ValueError, "method must be 'truncated' or 'posterior', got 'snpe'"),
        ({"n": 200}, ValueError, "at least 100 simulations for each of 3 rounds, got 200"),
        ({"epsilon": 2.0}, ValueError, "epsilon"),
        ({"rounds": 0}, ValueError, "rounds: rounds"),
        ({"observed": [np.nan]}, ValueError, "observed"),
        ({"observed": []}, ValueError, "expected one observation, or trials, got none"),
        ({"method": ["posterior"]}, ValueError, "method must be"),
        ({"conditions": {"mu": [1.0] * 4}}, ValueError, "mu is a variable of the prior as well"),
        ({"conditions": ["dose"]}, TypeError, "known inputs of the trials by name"),
        ({"conditions": {"dose": PRIOR["mu"]}}, TypeError, "rounds: conditions: dose"),
        ({"observed": np.zeros((2, 2))}, ValueError, "flatten the axes"),
        ({"steps": 3}, TypeError, "expected options of train, .*got steps"),
        ({"members": 0}, ValueError, "members"),
    ],
)
def test_errors_tell_what_was_expected(options, error, match):
    with pytest.raises(error, match=match):
        quick(**options)


def test_a_prior_whose_density_is_not_known_is_refused():
    with pm.Model() as prior:
        top = pm.HalfNormal("top", 1)
        pm.Normal("mu", 0, top)
    with pytest.raises(ValueError, match="rounds: prior: expected one whose density is known"):
        quick(prior=prior, simulator=lambda rng, mu, top: simulator(rng, mu), parameters=["mu"])


def test_few_simulations_that_count_are_told(monkeypatch, recwarn):
    """Of 450 some dozens count, which is enough by default."""
    few = {"n": 450, "epochs": 6}
    found = quick(**few)
    assert not [w for w in recwarn if "count at the posterior" in str(w.message)]
    monkeypatch.setattr("pymc_nre.sequential.rounds._FEW", 1.0)
    said = f"of 450 simulations {float(found.table['ess'][-1]):,.0f} count at the posterior"
    with pytest.warns(nre.TrainingWarning, match=said):
        quick(**few)


def test_a_ratio_that_strayed_is_led_back(monkeypatch):
    """The last one is planted: it sees most of the posterior where nothing was simulated."""
    options, trained = {"n": 600, "epochs": 40}, []

    def strays(pool, **settings):
        ratio = train(pool, **settings)
        trained.append(ratio)
        return ratio.replace(network=Island(ratio.network)) if len(trained) == 3 else ratio

    monkeypatch.setattr("pymc_nre.sequential.rounds.train", strays)
    with pytest.warns(TrainingWarning, match=r"puts (9.|100)% of the .*on the word of \d sim"):
        found = quick(**options)
    assert abs(found.posterior["mu"].mean() - X.mean()) < SD
    assert found.ratio.domain.upper[0] < 6
    assert found.table["lost_mass"][1] > 0.9
    assert found.table["ess"][-1] > 50
    monkeypatch.setattr("pymc_nre.sequential.rounds._MUCH", 1.0)  # the twin
    trained.clear()
    with pytest.warns(TrainingWarning, match="count at the posterior"):
        assert quick(**options).posterior["mu"].mean() > 5


def test_data_of_another_shape_are_refused_before_all_is_simulated():
    calls = []

    def pair(rng, mu):
        calls.append(mu)
        return rng.normal(mu, 1.0, size=3)

    with pytest.raises(ValueError, match="observations of shape"):
        quick(simulator=pair, batched=False, **FEW)
    assert len(calls) < 100


def test_a_parameter_called_as_the_dimension_of_draws_is_refused():
    with pytest.raises(ValueError, match="other names than 'draw'"):
        quick(prior={"draw": pm.Normal.dist(0, 1)}, **FEW)
