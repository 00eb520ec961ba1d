"""Arguments of a training: what is chosen where nothing is said, and what is refused."""

import numpy as np
import pytest
import torch
from quick_training import TASK, quick

import pymc_nre as nre


def test_bad_input(simulations, monkeypatch):
    with pytest.raises(TypeError, match=r"takes Simulations, got dict.*nre\.Simulations"):
        nre.train({"mu": [1.0]})
    few = nre.Simulations({"mu": np.arange(8.0)}, np.arange(8.0))
    with pytest.raises(ValueError, match=r"NREC needs at least 12 simulations.*got 8"):
        quick(few)
    with pytest.raises(ValueError, match=r"between 6 .* and 3600 .*got 2"):
        quick(simulations, batch_size=2)
    for option in ("epochs", "learning_rate"):
        with pytest.raises(ValueError, match=f"{option} must be positive, got 0"):
            quick(simulations, **{option: 0})
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        quick(simulations, validation=1.5)
    with pytest.raises(ValueError, match="'auto', 'cpu' or 'cuda', got 'gpu'"):
        quick(simulations, device="gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"sees no CUDA device here.*device='cpu'"):
        quick(simulations, device="cuda")
    with pytest.raises(TypeError, match="must be a specification such as MLP"):
        quick(simulations, network="mlp")


def test_the_default_network_follows_the_number_of_simulations(simulations):
    supply = nre.Online(TASK.prior(), TASK.simulator, batched=True, per_epoch=2_000)
    enough = TASK.simulate(10_000, random_seed=1)
    layers = [
        len(quick(some, epochs=1).specification.hidden) for some in (simulations, enough, supply)
    ]
    assert layers == [2, 3, 3]


def test_patience_is_at_least_one_epoch(simulations):
    with pytest.raises(ValueError, match="patience must be at least 1 epoch, got 0"):
        quick(simulations, patience=0)
