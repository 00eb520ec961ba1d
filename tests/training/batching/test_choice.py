"""Which loss suits simulations: their prior must be known, and be that of their parameters."""

import warnings

import numpy as np
import pymc as pm
import pytest
from quick_training import quick

import pymc_nre as nre
from pymc_nre.exceptions import SimulationWarning, TrainingWarning
from pymc_nre.losses import NREC, MultiScale

CORRELATED = np.array([[1.0, 0.8], [0.8, 1.0]])


def simulations(draw, prior, n=3_000):
    rng = np.random.default_rng(1)
    mu = draw(rng, n)
    return nre.Simulations({"mu": mu}, rng.normal(mu, 1.0), prior={"mu": prior})


RIGHT = {
    "rate": (lambda rng, n: rng.gamma(2, 1 / 3, n), pm.Gamma.dist(2, 3)),
    "variance": (lambda rng, n: rng.normal(0, np.sqrt(2), n), pm.Normal.dist(0, np.sqrt(2))),
    "correlated": (
        lambda rng, n: rng.multivariate_normal([0, 0], CORRELATED, n),
        pm.MvNormal.dist([0, 0], CORRELATED),
    ),
    "spread evenly": (lambda rng, n: (np.arange(n) + 0.5) / n, pm.Uniform.dist(0, 1)),
    "counts": (lambda rng, n: rng.poisson(3, n), pm.Poisson.dist(3)),
}
WRONG = {
    "scale as a rate": (lambda rng, n: rng.gamma(2, 3, n), pm.Gamma.dist(2, 3)),
    "variance as a scale": (lambda rng, n: rng.normal(0, np.sqrt(2), n), pm.Normal.dist(0, 2)),
    "correlation forgotten": (
        lambda rng, n: rng.multivariate_normal([0, 0], CORRELATED, n),
        pm.MvNormal.dist([0, 0], np.eye(2)),
    ),
    "counts": (lambda rng, n: rng.poisson(3, n), pm.Poisson.dist(4)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_draws_of_their_prior_are_contrasted_at_every_scale(name):
    assert "MultiScale" in quick(simulations(*RIGHT[name])).loss


@pytest.mark.parametrize("name", WRONG)
def test_another_prior_than_that_of_the_draws_is_told(name):
    made = simulations(*WRONG[name])
    with pytest.warns(TrainingWarning, match="no draws of it .*differs.*Pass the one"):
        ratio = quick(made)
    assert ratio.loss == repr(NREC())
    with pytest.raises(ValueError, match=r"MultiScale draws candidates.*no draws of it"):
        quick(made, loss=MultiScale())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick(made, loss=NREC())


def test_rows_that_were_chosen_by_what_they_hold_are_no_draws_of_the_prior():
    whole = nre.tasks.GaussianMean().simulate(2_000, random_seed=1)
    for chosen in (whole[whole.parameters["mu"] > 0], whole[np.flatnonzero(whole.x < 2)]):
        with pytest.warns(TrainingWarning, match=r"mu differs.*loss=NREC\(\) says"):
            assert quick(chosen).loss == repr(NREC())
    shuffled = np.random.default_rng(1).permutation(2_000)
    for fair in (whole[:500], whole[shuffled[:500]], whole[:500] + whole[500:900]):
        assert "MultiScale" in quick(fair).loss


def test_draws_of_the_library_need_no_look(monkeypatch):
    whole = nre.tasks.GaussianMean().simulate(400, random_seed=1)
    rows = np.arange(400) < 300

    def asked(*_):
        raise LookupError("compared")

    monkeypatch.setattr("pymc_nre.simulation.prior.Prior.draw", asked)
    for fair in (whole, whole[::2], whole[:100] + whole[100:]):
        quick(fair)
    with pytest.raises(LookupError, match="compared"):
        quick(whole[rows])


@pytest.mark.filterwarnings("ignore:.*cannot be told from chance")
def test_data_of_the_prior_that_were_set_since():
    with pm.Model() as prior:
        pm.Normal("mu", pm.Data("center", 0.0), 1.0)

    made = nre.simulate(
        prior, lambda rng, mu: rng.normal(mu, 1.0), 500, random_seed=1, progressbar=False
    )
    assert "MultiScale" in quick(made).loss
    with prior:
        pm.set_data({"center": 1.0})
    with pytest.warns(TrainingWarning, match="no draws of it"):
        assert quick(made).loss == repr(NREC())


@pytest.mark.filterwarnings("ignore:.*cannot be told from chance")
def test_fresh_simulations_that_fail_often():
    def simulator(rng, mu):
        return rng.normal(mu, 1.0) if mu < 1.5 else np.nan

    prior = {"mu": pm.Normal.dist(0, 1)}
    supply = nre.Online(prior, simulator, per_epoch=500, random_seed=1)
    with pytest.warns(SimulationWarning):
        assert quick(supply, epochs=1).loss == repr(NREC())
    with pytest.raises(ValueError, match=r"\d% of the simulations failed"):
        quick(supply, epochs=1, loss=MultiScale())
