"""What training has not seen tells how many trials a ratio bears, and nothing else changes."""

import numpy as np
import pytest
import torch
from quick_training import TASK, quick

import pymc_nre as nre
from pymc_nre.training import unseen

MANY = TASK.simulate(20_000, random_seed=1)


def rows_of(simulations, rows):
    parameters = {name: values[rows] for name, values in simulations.parameters.items()}
    return nre.Simulations(parameters, simulations.x[rows])


def test_it_is_measured_on_what_is_held_out():
    ratio = quick(MANY)
    held_out = np.random.default_rng(1).permutation(len(MANY))[:2_000]
    its = nre.trial_budget(ratio, rows_of(MANY, np.sort(held_out)))
    assert ratio.budget.simulations == 2_000
    np.testing.assert_allclose(ratio.budget.bias_squared, its.bias_squared)
    assert ratio.budget.trials == its.trials


def test_weights_and_the_streams_of_others_do_not_depend_on_it():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    ratio, without = (quick(MANY, measure_budget=measure) for measure in (True, False))
    assert ratio == without
    assert without.budget is None
    assert torch.equal(before, torch.get_rng_state())


def test_too_few_are_held_out(simulations):
    assert quick(simulations).budget is None


def test_a_resumed_training_knows_the_same(tmp_path):
    file = tmp_path / "training"
    first, again = (quick(MANY, checkpoint=file) for _ in range(2))
    assert again.budget.trials == first.budget.trials


def test_of_fresh_simulations_a_whole_set_is_unseen():
    supply = nre.Online(TASK.prior(), TASK.simulator, batched=True, per_epoch=3_000, random_seed=1)
    assert quick(supply, epochs=2).budget.simulations == 3_000
    both = quick(supply, epochs=2, members=2)
    assert both.budget.simulations == 3_000
    its = nre.trial_budget(both, supply.simulations(0))
    np.testing.assert_allclose(both.budget.bias_squared, its.bias_squared)


def test_of_members_only_what_none_has_seen():
    ratio = quick(MANY, members=2, validation=0.3, epochs=1)
    # 9 % of all, whose number has a standard deviation of 36 (the draws of two members).
    assert abs(ratio.budget.simulations - 1_800) < 5 * 36
    assert quick(MANY, members=3, epochs=1).budget is None


def test_it_belongs_to_the_network(tmp_path):
    ratio = quick(MANY)
    assert ratio.to("cpu").budget is ratio.budget
    assert ratio.replace(network=ratio.network).budget is None
    assert ratio.replace(network=ratio.network, budget=ratio.budget).budget is ratio.budget
    ratio.save(tmp_path / "ratio.nre")
    assert nre.load(tmp_path / "ratio.nre").budget.trials == ratio.budget.trials


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, np.linalg.LinAlgError])
def test_what_goes_wrong_then_loses_nothing(monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(unseen, "measure", failing)
    assert quick(MANY).budget is None


def test_a_bad_ratio_is_found():
    ratio = quick(TASK.simulate(50_000, random_seed=2), epochs=1, learning_rate=1e-4)
    assert ratio.budget.is_seen
    assert ratio.budget.likely_trials < 30
