"""Arguments of a training: what is chosen where nothing is said, and what is refused."""

import numpy as np
import pytest
import torch
from quick_training import TASK, quick

import pymc_nre as nre
from pymc_nre.training.settings import Settings


def test_bad_input(simulations, monkeypatch):
    with pytest.raises(
        TypeError, match=r"simulations: expected Simulations or Online, got dict.*nre\.Simulations"
    ):
        nre.train({"mu": [1.0]})
    few = nre.Simulations({"mu": np.arange(8.0)}, np.arange(8.0))
    with pytest.raises(ValueError, match=r"NREC needs at least 12 simulations.*got 8"):
        quick(few)
    with pytest.raises(ValueError, match=r"between 4 .* and 3600 .*got 2"):
        quick(simulations, batch_size=2)
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


@pytest.mark.parametrize(
    ("n", "fresh", "epochs"),
    [
        (900, False, 300),  # at most
        (9_000, False, 172),  # 6,000 steps of 256
        (90_000, False, 40),  # at least
        (900_000, False, 40),
        (90_000, True, 18),  # fresh ones are not seen again
    ],
)
def test_the_default_length_follows_the_number_of_simulations(n, fresh, epochs):
    assert Settings().plan(n, nre.losses.NREC(), fresh, n).epochs == epochs
    assert Settings(epochs=7).plan(n, nre.losses.NREC(), fresh, n).epochs == 7


POSITIVE = "expected a number above 0 and finite"


class NoLoss:
    """It can be called, and says nothing of itself."""

    def __call__(self, net, theta, x):
        return theta.sum()

    def __repr__(self):  # pytest's names must be those of every worker
        return "NoLoss()"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs: expected at least 1, got 0"),
        ({"epochs": 2.5}, TypeError, r"epochs: expected a whole number, got 2\.5"),
        ({"patience": 0}, ValueError, "patience: expected at least 1, got 0"),
        ({"batch_size": "many"}, TypeError, "batch_size: expected a whole number"),
        ({"members": 1.5}, TypeError, r"members: expected a whole number, got 1\.5"),
        ({"learning_rate": 0}, ValueError, f"learning_rate: {POSITIVE}, got 0"),
        ({"learning_rate": np.inf}, ValueError, f"learning_rate: {POSITIVE}, got inf"),
        ({"weight_decay": np.nan}, ValueError, "weight_decay: .* that is finite, got nan"),
        ({"validation": np.nan}, ValueError, "validation: .* between 0 and 1, got nan"),
        ({"random_seed": -1}, ValueError, "random_seed: expected at least 0"),
        ({"random_seed": "one"}, TypeError, "random_seed: expected a whole number"),
        ({"device": torch.device("meta")}, ValueError, "'auto', 'cpu' or 'cuda', got 'meta'"),
        ({"loss": nre.losses.NREC}, TypeError, r"got the class NREC.*loss=NREC\(\)"),
        ({"loss": NoLoss()}, TypeError, "has no reference, normalized, chance, minimum_batch"),
        ({"loss": 3}, TypeError, r"loss must be one of pymc_nre\.losses"),
        ({"network": nre.networks.MLP}, TypeError, r"got the class MLP.*network=MLP\(\)"),
        (
            {"network": nre.networks.MLP(embedding=nre.networks.DeepSet)},
            TypeError,
            r"got the class DeepSet.*embedding=DeepSet\(\)",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_told(simulations, options, error, message):
    with pytest.raises(error, match=message):
        quick(simulations, **options)


def test_what_means_the_same_gives_the_same(simulations):
    first = quick(simulations, epochs=1, random_seed=7)
    whole = {"epochs": 1.0, "random_seed": 7.0, "device": torch.device("cpu")}
    assert quick(simulations, **whole) == first
    for seed in (np.random.default_rng, np.random.SeedSequence):
        assert quick(simulations, epochs=1, random_seed=seed(3)) == quick(
            simulations, epochs=1, random_seed=seed(3)
        )
    with torch.no_grad():
        assert quick(simulations, epochs=1, random_seed=7) == first
    with torch.inference_mode():
        assert quick(simulations, epochs=1, random_seed=7) == first
