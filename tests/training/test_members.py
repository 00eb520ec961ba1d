"""Networks one after another: a second run by smaller steps, and ensembles that follow it."""

from dataclasses import dataclass, replace

import numpy as np
import pymc as pm
import pytest
import torch
from torch import nn

import pymc_nre as nre
from pymc_nre.losses import NREA
from pymc_nre.networks import MLP
from pymc_nre.training import members as module
from pymc_nre.training.trainer import Trainer

CALM = {"learning_rate": 3e-3, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def simulations():
    """Too few, of ten numbers that tell little each: the network memorizes them."""
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(400, 3))
    x = rng.normal(theta @ rng.normal(size=(3, 10)), 2.0)
    return nre.Simulations({"theta": theta}, x, prior={"theta": pm.Normal.dist(0, 1, shape=3)})


def train(simulations, **options):
    options = {"random_seed": 1, "progressbar": False, "network": MLP((16, 16))} | options
    return nre.train(simulations, **options)


def steps(ratio):
    return {name: ratio.history.attrs[name] for name in CALM}


@pytest.fixture
def runs(monkeypatch):
    """Recipes of all runs, in their order, and what became of them."""
    made = []
    original = module.train_network

    def spied(simulations, recipe, *arguments):
        made.append([recipe.settings, None])
        made[-1][1] = original(simulations, recipe, *arguments)
        return made[-1][1]

    monkeypatch.setattr(module, "train_network", spied)
    return made


def test_the_better_of_two_runs_is_kept(simulations, runs):
    ratio = train(simulations)
    (_, first), (calm, second) = runs
    assert first.stopped == "no better for a while"
    assert {name: getattr(calm, name) for name in CALM} == CALM
    assert second.ratio.history.attrs["weight_decay"] == CALM["weight_decay"]
    assert first.loss != second.loss
    kept = min(first, second, key=lambda run: run.loss)
    assert ratio.history.attrs["best_loss"] == kept.loss
    np.testing.assert_array_equal(first.unseen, second.unseen)  # or losses were not comparable


@pytest.mark.parametrize("worse", [0.1, -0.1], ids=["worse", "better"])
def test_members_follow_the_first(simulations, runs, monkeypatch, worse):
    spied = module.train_network

    def shifted(simulations, recipe, *arguments):
        trained = spied(simulations, recipe, *arguments)
        if len(runs) != 2:
            return trained
        loss = runs[0][1].loss + worse
        history = trained.ratio.history.assign_attrs(best_loss=loss)
        return replace(trained, ratio=trained.ratio.replace(history=history))

    monkeypatch.setattr(module, "train_network", shifted)
    ratio = train(simulations, members=3)
    assert ratio.members == 3
    chosen = [settings.weight_decay for settings, _ in runs]
    expected = None if worse > 0 else CALM["weight_decay"]
    assert chosen == [None, CALM["weight_decay"], expected, expected]


@dataclass(frozen=True)
class Slow:
    """A loss that trains best by small steps."""

    learning_rate: float = 1e-3
    batch_size: int = 64
    reference = "evidence"
    normalized = True
    chance = NREA().chance
    minimum_batch = 2

    def __call__(self, net, theta, x):
        return NREA()(net, theta, x)


def test_steps_do_not_grow(simulations, runs):
    train(simulations, loss=Slow())
    (_, first), (_, second) = runs
    assert steps(first.ratio) == {"learning_rate": 1e-3, "weight_decay": 1e-4}
    assert steps(second.ratio) == {"learning_rate": 1e-3, "weight_decay": 0.1}


def test_the_first_is_kept_where_the_second_diverges(simulations, runs, monkeypatch):
    spied = module.train_network

    def diverging(simulations, recipe, *arguments):
        if recipe.settings.weight_decay == CALM["weight_decay"]:
            raise FloatingPointError("The loss was not finite.")
        return spied(simulations, recipe, *arguments)

    monkeypatch.setattr(module, "train_network", diverging)
    ratio = train(simulations, members=2)
    assert steps(ratio) == {"learning_rate": 1e-2, "weight_decay": 1e-4}
    assert [settings.weight_decay for settings, _ in runs] == [None, None]


def own(theta_size, event_shape):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(theta_size + event_shape[0], 16), nn.Linear(16, 1))

        def forward(self, theta, x):
            return self.body(torch.cat([theta, x], -1))

    return Own()


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 40, "patience": 5},
        {"learning_rate": 1e-2},
        {"weight_decay": 1e-4},
        {"patience": 30},
        {"network": own},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.filterwarnings("ignore:.*cannot be told from chance")
def test_one_run_where_the_user_said_how(simulations, runs, options):
    train(simulations, **options)
    assert len(runs) == 1


@pytest.mark.filterwarnings("ignore:.*cannot be told from chance")
def test_one_run_where_nothing_was_learned(simulations, runs):
    nothing = nre.Simulations(
        simulations.parameters, np.random.default_rng(2).normal(size=(400, 3))
    )
    train(nothing)
    assert len(runs) == 1


def test_ctrl_c_in_the_second_run_keeps_the_first(simulations, monkeypatch):
    original, calls = module.train_network, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "train_network", interrupted)
    with pytest.warns(nre.TrainingWarning) as told:
        ratio = train(simulations, members=2)
    assert ratio.members == 1
    assert ratio.history.attrs["weight_decay"] == 1e-4
    assert "second run, by smaller steps; returning the weights of the first" in str(
        told[0].message
    )
    assert "has 1 of 2 members" in str(told[1].message)


@pytest.mark.parametrize("last", [2, 7], ids=["at once", "later"])
def test_a_second_run_that_was_interrupted_goes_on(simulations, runs, tmp_path, monkeypatch, last):
    whole = train(simulations)
    epochs = len(runs[0][1].ratio.history.epoch)
    descend, done = Trainer.epoch, []

    def interrupted(run, index):
        done.append(index)
        if len(done) > epochs + last:
            raise KeyboardInterrupt
        return descend(run, index)

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    with pytest.warns(nre.TrainingWarning, match="interrupted"):
        train(simulations, checkpoint=tmp_path / "t")
    assert len(done) == epochs + last + 1
    monkeypatch.setattr(Trainer, "epoch", lambda run, k: done.append(k) or descend(run, k))
    done.clear()
    assert train(simulations, checkpoint=tmp_path / "t") == whole
    assert 0 < done[0] <= last  # of the second run; the first was complete
    assert done == list(range(done[0], done[-1] + 1))


def test_both_runs_are_resumed(simulations, runs, tmp_path):
    first = train(simulations, checkpoint=tmp_path / "t")
    assert {path.name for path in tmp_path.glob("t*") if "lock" not in path.name} == {
        "t",
        "t.again",
    }
    again = train(simulations, checkpoint=tmp_path / "t")
    assert len(runs) == 4
    assert steps(again) == steps(first)
    for one, other in zip(first.network.parameters(), again.network.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), other.detach())
    assert all(run.ratio.history.attrs["seconds"] > 0 for _, run in runs)
