"""Trained with a known dose: posteriors of many data sets, beside the exact ones."""

import conditioned
import numpy as np
import pymc as pm
import pytest
from conditioned import posterior, prior, response

import pymc_nre as nre
from pymc_nre.losses import BNRE, CARL, NREA, NREB, NREC

QUIET = {"random_seed": 1, "progressbar": False}
SETS, TRIALS = 100, 5
CUT_OFF = "ignore:.*are cut off:pymc_nre.PosteriorWarning"
RNG = np.random.default_rng(5)
SLOPES = RNG.normal(0, conditioned.SD, SETS)
DOSES = RNG.uniform(-1, 1, (SETS, TRIALS))
X = response(RNG, SLOPES[:, None], DOSES)
EXACT = np.array([posterior(x, dose) for x, dose in zip(X, DOSES, strict=True)])


@pytest.fixture(scope="module")
def ratio():
    return nre.train(conditioned.simulate(6_000), epochs=30, **QUIET)


def error(ratio, doses):
    """Root mean square of the errors of posterior means, in posterior standard deviations."""
    found = nre.posterior_grid(ratio, X, prior(), trials=True, conditions={"dose": doses})
    z = (found["mean"].to_numpy()[:, 0] - EXACT[:, 0]) / EXACT[:, 1]
    return np.sqrt((z**2).mean())


@pytest.mark.filterwarnings(CUT_OFF)  # where it is wrong
def test_posteriors_are_those_of_the_doses(ratio):
    """Of five trials each, by a brief training; with doses exchanged they are far off."""
    assert error(ratio, DOSES) < 0.3
    assert error(ratio, DOSES[::-1]) > 0.6


@pytest.mark.filterwarnings(CUT_OFF)  # a thousand parameters do not reach the ends of the prior
def test_points_with_their_conditions():
    """A thousand simulations of six points, each at its own dose."""
    rng = np.random.default_rng(8)
    slope, dose = rng.normal(0, conditioned.SD, 1_000), rng.uniform(-1, 1, (1_000, 6))
    x = response(rng, slope[:, None], dose)
    made = nre.Simulations({"slope": slope}, x, conditions={"dose": dose}, iid=True)
    ratio = nre.train(made, epochs=30, **QUIET)
    assert ratio.observation_shape == ()
    assert error(ratio, DOSES) < 0.35


def test_it_says_what_it_is_given(ratio, tmp_path):
    assert "log p(x | slope, dose) / p(x | dose)" in repr(ratio)
    assert "conditions  dose in [-1, 1]" in repr(ratio)
    assert ratio.observation_shape == ()
    ratio.save(tmp_path / "ratio.nre")
    loaded = nre.load(tmp_path / "ratio.nre", simulator=response)
    assert loaded == ratio
    assert loaded.conditions == ratio.conditions


def test_a_report_simulates_with_conditions(ratio):
    """Those of the training; a ratio for other doses would not be called right."""
    held_out = conditioned.simulate(1_000, seed=2)
    options = {"conditions": {"dose": DOSES[0]}, "trials": 5, "draws": 300, **QUIET}
    found = nre.diagnostics.report(ratio, held_out, X[0], **options)
    assert found.verdicts["coverage"] == found.verdicts["convergence"] == "right"
    assert not found.skipped
    exchanged = nre.Simulations(
        held_out.parameters,
        held_out.x,
        conditions={"dose": held_out.conditions["dose"][::-1]},
        prior=held_out.known_prior,
        simulator=held_out.simulator,
    )
    ranks = nre.diagnostics.posterior_ranks(ratio, exchanged, draws=300, **QUIET)
    assert nre.diagnostics.coverage(ranks).attrs["verdict"] == "too narrow"


def test_simulations_without_conditions_do_not_fit(ratio):
    held_out = conditioned.simulate(1_000, seed=2)
    bare = nre.Simulations(held_out.parameters, held_out.x)
    for check in (nre.trial_budget, nre.diagnostics.report):
        with pytest.raises(ValueError, match=r"expected the conditions \{'dose': \(\)\}, got none"):
            check(ratio, bare)
    plain = nre.tasks.GaussianMean().estimator()
    with_dose = nre.Simulations(
        {"mu": held_out.parameters["slope"]}, held_out.x, conditions=held_out.conditions
    )
    with pytest.raises(ValueError, match=r"expected the conditions none, got \{'dose'"):
        nre.trial_budget(plain, with_dose)


@pytest.mark.one_python
@pytest.mark.parametrize("loss", ["NREA", "NREB", "NREC", "BNRE", "CARL"])
def test_every_loss_takes_conditions(loss):
    made = conditioned.simulate(6_000)
    if loss == "CARL":
        chosen = CARL(conditioned.simulate(2_000, seed=3, at={"slope": 0.0}))
    else:
        chosen = {"NREA": NREA, "NREB": NREB, "NREC": NREC, "BNRE": BNRE}[loss]()
    ratio = nre.train(made, loss=chosen, epochs=20, batch_size=256, learning_rate=0.01, **QUIET)
    gap = [ratio.log_ratio([2.0, 2.0], slope=s, dose=[1.0, -1.0]) for s in (2.0, -2.0)]
    assert gap[0][0] - gap[1][0] > 1  # exactly 8: what a dose tells depends on its sign
    assert gap[0][1] - gap[1][1] < -1


@pytest.mark.one_python
def test_fresh_simulations_members_and_checkpoints(tmp_path):
    given = {"conditions": {"dose": pm.Uniform.dist(-1, 1)}, "batched": True}
    supply = nre.Online(prior(), response, per_epoch=500, random_seed=1, **given)
    options = {"epochs": 10, "members": 2, **QUIET}
    ratio = nre.train(supply, checkpoint=tmp_path / "state", **options)
    again = nre.train(supply, checkpoint=tmp_path / "state", **options)
    assert again == ratio
    assert ratio.members == 2
    assert ratio.conditions.shapes == {"dose": ()}
    centered = nre.center(ratio, supply, steps=100, replicates=32, **QUIET)
    assert centered.conditions == ratio.conditions
    other = nre.Online(prior(), lambda rng, slope: slope, batched=True, per_epoch=1_000)
    with pytest.raises(ValueError, match="expected the conditions"):
        nre.center(ratio, other, steps=100, **QUIET)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pymc_nre.TrialsWarning")
def test_centered_around_a_posterior_at_its_own_doses(ratio):
    rng = np.random.default_rng(7)
    dose = rng.uniform(0.5, 1, 400)
    with pm.Model():
        slope = pm.Normal("slope", 0, conditioned.SD)
        x = response(rng, 1.0, dose)
        nre.RatioLikelihood("x", ratio, slope=slope, dose=dose, observed=x)
        idata = pm.sample(300, tune=300, chains=2, cores=1, **QUIET)
        centered = nre.center(ratio, around=idata, **QUIET)
    mean, sd = posterior(x, dose)
    before = float(abs(idata["posterior"]["slope"].mean() - mean)) / sd
    with pm.Model():
        slope = pm.Normal("slope", 0, conditioned.SD)
        nre.RatioLikelihood("x", centered, slope=slope, dose=dose, observed=x)
        idata = pm.sample(300, tune=300, chains=2, cores=1, **QUIET)
    after = float(abs(idata["posterior"]["slope"].mean() - mean)) / sd
    assert after < max(0.5, before)
