"""Centering takes the bias away that grows with the number of trials."""

import re
from functools import cache

import numpy as np
import pymc as pm
import pytest
import torch
from partly_frozen import LAYER, PartlyFrozen, moved, partly_frozen

import pymc_nre as nre
from pymc_nre.estimators.trial_budgets.scores import free_directions, scatter
from pymc_nre.many_trials import fine_tuning
from pymc_nre.many_trials.fine_tuning import (
    _Centered,
    change,
    scores_of,
    squared_bias,
    told_of_change,
)

TASK = nre.tasks.GaussianMean()


@cache
def held_out():
    return TASK.simulate(100_000, random_seed=9)


def supply(seed=2):
    return nre.Online(TASK.prior(), TASK.simulator, batched=True, random_seed=seed)


@pytest.fixture(scope="module")
def trained():
    """Few epochs of contrasts from the prior alone leave a bias that can be seen."""
    simulations, loss = TASK.simulate(5_000, random_seed=1), nre.losses.NREC()
    return nre.train(simulations, loss=loss, epochs=20, random_seed=1, progressbar=False)


def weights(ratio):
    return {name: weight.clone() for name, weight in ratio.network.state_dict().items()}


@pytest.fixture(scope="module")
def weights_before(trained):
    return weights(trained)


@pytest.fixture(scope="module")
def centered(trained, weights_before):
    return nre.center(trained, supply(), steps=200, random_seed=3, progressbar=False)


def squares(ratio):
    budget = nre.trial_budget(ratio, held_out())
    return budget.bias_squared[0], budget.bias_squared_error[0]


def test_the_bias_is_smaller(trained, centered):
    before, error = squares(trained)
    assert before > 5 * error  # there is something to take away
    after, error = squares(centered)
    assert after < before / 5


def test_what_was_gained_is_told(trained, capsys, monkeypatch):
    tuned = nre.center(trained, supply(), steps=200, random_seed=3)
    told = " ".join(capsys.readouterr().out.split())
    assert "bias with 1,000 trials, in posterior standard deviations:" in told
    before, after = re.findall(r"mu ([\d.]+) ± [\d.]+ (?:before|after)", told)
    assert float(before) == pytest.approx(1_000**0.5 * squares(trained)[0] ** 0.5, rel=0.3)
    assert float(after) < float(before) / 2
    (moved,) = re.findall(r"also move by mu ([\d.]+), either way", told)
    size = scatter(trained, tuned, held_out().theta, held_out().x)
    assert float(moved) == pytest.approx(size[0], rel=0.1)
    assert "strength" not in told
    monkeypatch.setattr("pymc_nre.many_trials.fine_tuning._MUCH", float(moved) / 2)
    assert told_of_change(trained, tuned, held_out()).endswith(
        "(a smaller strength= moves them less)"
    )


def test_the_twin_without_a_penalty_keeps_its_bias(trained, centered):
    twin = nre.center(trained, supply(), strength=1e-9, steps=200, random_seed=3, progressbar=False)
    assert squares(twin)[0] > 3 * squares(centered)[0]


def test_posteriors_of_many_trials(trained, centered):
    n, errors = 1_000, {}
    rng = np.random.default_rng(4)
    for name, ratio in (("trained", trained), ("centered", centered)):
        errors[name] = []
        for mu in np.linspace(-8, 8, 9):
            x = rng.normal(mu, 1, n)
            grid = x.mean() + np.linspace(-8, 8, 161) / np.sqrt(n)  # in tenths of an sd
            log_ratios = np.array([ratio.log_ratio(x, mu=value).sum() for value in grid])
            p = np.exp(log_ratios - log_ratios.max())
            errors[name].append((p @ grid / p.sum() - x.mean()) * np.sqrt(n))
    size = {name: np.sqrt(np.mean(np.square(e))) for name, e in errors.items()}
    assert size["centered"] < size["trained"] / 2
    # What the budget promises is what comes.
    predicted, _ = nre.trial_budget(trained, held_out()).bias(n)
    assert size["trained"] == pytest.approx(predicted[0], rel=0.6)


def test_the_ratio_itself_stays_as_it_is(trained, centered, weights_before):
    assert centered != trained
    assert centered.specification == trained.specification
    after, of_the_centered = weights(trained), weights(centered)
    assert all(weight.equal(weights_before[name]) for name, weight in after.items())
    assert not all(weight.equal(weights_before[name]) for name, weight in of_the_centered.items())


class Drawing(nre.losses.NREC):
    """A loss that draws from torch's global stream, as dropout does."""

    def __call__(self, net, theta, x):
        return super().__call__(net, theta, x + 0.1 * torch.randn_like(x))


def test_the_same_seed_gives_the_same_weights(trained, monkeypatch):
    monkeypatch.setattr(fine_tuning._Fresh, "size", 20 * 256)  # or all of an epoch's 100 steps

    def centered(seed):
        torch.rand(1)  # wherever the global stream is
        options = {"steps": 20, "random_seed": seed, "progressbar": False}
        return nre.center(trained, supply(), loss=Drawing(), **options)

    once, again, other = map(centered, (5, 5, 6))
    assert once == again
    assert other != once


def test_a_fixed_set(trained):
    simulations = TASK.simulate(100_000, random_seed=7)
    fixed = nre.center(trained, simulations, steps=200, random_seed=3, progressbar=False)
    assert squares(fixed)[0] < squares(trained)[0] / 3


def test_budgets_are_kept_and_saved(trained, centered, tmp_path):
    assert centered.budget.trials > nre.trial_budget(trained, held_out()).trials
    centered.save(tmp_path / "ratio.nre")
    assert repr(nre.load(tmp_path / "ratio.nre").budget) == repr(centered.budget)
    assert "trials" in repr(centered)


def test_the_penalty_is_zero_on_average_for_an_exact_ratio():
    rng = np.random.default_rng(1)
    network = TASK.estimator().network
    mu = np.repeat(rng.uniform(-10, 10, (2_000, 1)), 32, axis=1)
    x = rng.normal(mu, 1.0)
    cells, seen = torch.tensor(mu[..., None]), torch.tensor(x)
    found = squared_bias(scores_of(network, cells, seen)).item()
    # Products of 32 standard normals: variance 2 / (32 * 31) in each of 2,000 cells.
    error = (2 / (32 * 31) / 2_000) ** 0.5
    assert abs(found) < 5 * error
    shifted = squared_bias(scores_of(network, cells + 0.5, seen)).item()
    assert abs(shifted - 0.25) < 5 * error + 0.05


def test_what_is_held_fast_is_all_but_the_mean():
    rng = np.random.default_rng(5)
    before = torch.tensor(rng.normal(size=(2_000, 32, 2)) * [3.0, 0.1])  # whatever the units
    shift = torch.tensor(rng.normal(size=(2_000, 1, 2)) * [3.0, 0.1])
    assert change(before, before).item() == 0
    assert change(before + shift, before).item() < 1e-20
    # Twice the scores differ by the scores: one for each parameter, times 31 / 32 about a mean.
    assert abs(change(2 * before, before).item() - 2 * 31 / 32) < 0.05


def test_replicates_share_their_parameters():
    joint_simulator = supply().joint_simulator
    parameters, x = joint_simulator.replicate(50, 200, seed=1)
    assert parameters["mu"].shape == (50,)
    assert x.shape == (50, 200)
    assert (np.abs(x.mean(1) - parameters["mu"]) < 5 / 200**0.5).all()


def test_replicates_of_nuisance_parameters_have_their_own():
    prior = {"mu": pm.Uniform.dist(-1, 1), "shift": pm.Normal.dist(0, 3)}
    online = nre.Online(prior, lambda rng, mu, shift: mu + shift, parameters=["mu"], batched=True)
    parameters, x = online.joint_simulator.replicate(20, 500, seed=1)
    assert list(parameters) == ["mu"]
    np.testing.assert_allclose(x.std(1), 3, rtol=0.2)


def test_draws_that_fail_are_left_out():
    def simulator(rng, mu):
        return np.where(mu > 0, np.nan, rng.normal(mu))

    online = nre.Online({"mu": pm.Uniform.dist(-1, 1)}, simulator, batched=True)
    parameters, x = online.joint_simulator.replicate(40, 8, seed=1)
    assert 5 < len(x) < 35
    assert (parameters["mu"] < 0).all()
    assert x.shape == (len(parameters["mu"]), 8)


@pytest.mark.filterwarnings("ignore::pymc_nre.SimulationWarning")
def test_a_simulator_that_fails_too_often(trained):
    def simulator(rng, mu):
        return np.where(rng.uniform(size=len(mu)) < 0.02, np.nan, rng.normal(mu))

    online = nre.Online({"mu": pm.Uniform.dist(-10, 10)}, simulator, batched=True)
    with pytest.raises(nre.SimulationError, match="of 64 sets of simulations at the same"):
        nre.center(trained, online, steps=100, random_seed=1, progressbar=False)


# One hundred steps on four copies of few simulations need not gain anything.
@pytest.mark.filterwarnings("ignore:The bias is not smaller:pymc_nre.TrainingWarning")
def test_the_order_of_the_parameters_does_not_matter():
    task = nre.tasks.LocationScale()
    simulations = task.simulate(5_000, random_seed=1)
    ratio = nre.train(simulations, epochs=3, random_seed=1, progressbar=False)
    tuned = []
    for names in (["mu", "log_sigma"], ["log_sigma", "mu"]):
        same = {name: simulations.parameters[name] for name in names}
        again = nre.Simulations(
            {name: np.tile(value, 4) for name, value in same.items()}, np.tile(simulations.x, 4)
        )
        tuned.append(nre.center(ratio, again, steps=1, random_seed=1, progressbar=False))
    assert tuned[0] == tuned[1]
    np.testing.assert_array_equal(tuned[0].budget.bias_squared, tuned[1].budget.bias_squared)
    assert ratio.budget is None


def test_interrupted(trained, monkeypatch):
    online, calls = supply(), []
    original = type(online.joint_simulator).replicate

    def interrupt(self, *arguments, **options):
        calls.append(1)
        if len(calls) > 110:  # in the second epoch
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(type(online.joint_simulator), "replicate", interrupt)
    with pytest.warns(nre.TrainingWarning, match="as far as it came"):
        ratio = nre.center(trained, online, steps=200, random_seed=3, progressbar=False)
    assert ratio != trained


def test_interrupted_while_it_is_measured(trained, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "measure", interrupt)
    with pytest.warns(nre.TrainingWarning, match="is fine-tuned, but was not measured"):
        assert fine_tuning._measured(trained, trained, held_out(), False) == trained


def test_wrong_arguments(trained):
    for option in ("steps", "replicates"):
        with pytest.raises(TypeError, match=f"center: {option}: expected a whole number"):
            nre.center(trained, supply(), **{option: 2.5})
    for strength in (np.inf, np.nan):
        with pytest.raises(ValueError, match="strength: expected a number above 0 and finite"):
            nre.center(trained, supply(), strength=strength)
    with pytest.raises(TypeError, match=r"got the class NREC.*loss=NREC\(\)"):
        nre.center(trained, supply(), loss=nre.losses.NREC)
    with pytest.raises(TypeError, match="random_seed: expected a whole number"):
        nre.center(trained, supply(), random_seed="one")
    with pytest.raises(
        TypeError, match="center: simulations: expected Online or Simulations, got ndarray"
    ):
        nre.center(trained, np.zeros(3))
    with pytest.raises(ValueError, match="replicates must be at least 16, got 4"):
        nre.center(trained, supply(), replicates=4)
    with pytest.raises(ValueError, match="strength: expected a number above 0"):
        nre.center(trained, supply(), strength=0)
    with pytest.raises(ValueError, match=r"at least 20,000 simulations, got 100"):
        nre.center(trained, TASK.simulate(100, random_seed=1))
    reference = nre.simulate(
        TASK.prior(), TASK.simulator, 500, at={"mu": 0.0}, batched=True, progressbar=False
    )
    with pytest.raises(ValueError, match="fixed reference"):
        nre.center(trained, supply(), loss=nre.losses.CARL(reference))
    with pytest.raises(ValueError, match=r"loss of pairs alone.*got MultiScale.*Leave loss= out"):
        nre.center(trained, supply(), loss=nre.losses.MultiScale())


def all_of_it(theta_size, event_shape):
    return PartlyFrozen(theta_size).requires_grad_(True)


@pytest.mark.parametrize(("factory", "all_move"), [(partly_frozen, False), (all_of_it, True)])
def test_weights_that_were_not_trained_stay_as_they_are(factory, all_move, monkeypatch):
    monkeypatch.setattr("pymc_nre.many_trials.fine_tuning._REPORT", 5_000)
    simulations, options = TASK.simulate(2_000, random_seed=1), {"progressbar": False}
    ratio = nre.train(simulations, network=factory, epochs=5, random_seed=1, **options)
    centered = nre.center(ratio, supply(), steps=1, random_seed=1, **options)
    known = {"module.known.weight", "module.known.bias"} if all_move else set()
    assert moved(ratio, centered) == LAYER | known


class _Scored(torch.nn.Module):
    """Its score is the observation, and a constant across the simplex."""

    def __init__(self, across):
        super().__init__()
        self.across = across

    def embed(self, x):
        return x

    def head(self, theta, features):
        return (theta * (features + self.across)).sum(-1)


def test_gradients_across_a_simplex_are_no_bias():
    # Where parameters add up to one, a multiple of their sum changes no likelihood.
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(3), size=64)
    cells, seen = (
        torch.tensor(part, dtype=torch.float32)
        for part in (shares[:, None].repeat(128, 1), rng.normal(size=(64, 128, 3)))
    )
    free = torch.tensor(free_directions(shares), dtype=torch.float32)
    assert free.shape == (3, 2)

    def penalty(across, directions):
        centering = _Centered(lambda *_: 0.0, 1.0, _Scored(0.0), directions)
        return centering(_Scored(across), None, None, cells, seen).item()

    # Products of 64 x 128 scores of mean zero have a standard error of sqrt(2 x 3 / 64) / 128.
    assert abs(penalty(20.0, free)) < 5 * 0.0024
    assert penalty(20.0, torch.eye(3)) > 0.9  # the twin: all directions; 1200 / 1201 in theory


def of_counts(rng, rate, k):
    return rng.poisson(rate * k).astype(float)


@pytest.fixture(scope="module")
def with_an_integer():
    prior = {"rate": pm.Uniform.dist(2, 6), "k": pm.DiscreteUniform.dist(1, 4)}
    options = {"batched": True, "random_seed": 1}
    simulations = nre.simulate(prior, of_counts, 4_000, progressbar=False, **options)
    ratio = nre.train(simulations, epochs=4, random_seed=1, progressbar=False)
    return ratio, nre.Online(prior, of_counts, **options)


def test_an_integer_has_no_score_and_the_others_are_centered(with_an_integer):
    ratio, supply = with_an_integer
    centered = nre.center(ratio, supply, steps=100, random_seed=2, progressbar=False)
    unseen = supply.joint_simulator.run(100_000, seed=9, progressbar=False)
    before, after = (nre.trial_budget(one, unseen) for one in (ratio, centered))
    assert centered.budget.parameters == before.parameters == ("rate",)
    assert after.bias_squared[0] < before.bias_squared[0] / 2


def test_around_a_posterior_integers_are_refused_with_what_to_do(with_an_integer):
    ratio, _ = with_an_integer
    with pytest.raises(ValueError, match=r"k is an integer.*sbc_model"):
        nre.center(ratio, around={}, progressbar=False)
