"""What training sees: few simulations, numbers that single precision would lose, large ones."""

import numpy as np
import pytest
from quick_training import quick

import pymc_nre as nre
from pymc_nre.training.batching.batches import batches_of


def test_small_sets_train(simulations):
    few = nre.Simulations({"mu": simulations.parameters["mu"][:40]}, simulations.x[:40])
    with pytest.warns(nre.TrainingWarning, match="on 6 held-out simulations"):
        assert quick(few).history.attrs["batch_size"] == 6


def test_what_single_precision_would_lose_is_told():
    rng = np.random.default_rng(1)
    mu = rng.uniform(-10, 10, 1_000)
    x = np.column_stack([rng.normal(mu), 2.45e6 + 0.01 * mu, np.full(1_000, 2.45e6)])
    with pytest.warns(
        nre.TrainingWarning, match=r"x varies by 0.05.* around 2450000.* \(at \(1,\)\)"
    ):
        quick(nre.Simulations({"mu": mu}, x), epochs=1)


def test_an_offset_that_can_be_borne_is_not_told():
    rng = np.random.default_rng(1)
    mu = rng.uniform(-10, 10, 1_000)
    quick(nre.Simulations({"mu": mu}, 1e3 + rng.normal(mu)), epochs=5)


@pytest.mark.filterwarnings("ignore:The validation loss")
def test_held_out_pairs_of_large_observations_make_batches_that_are_large_enough():
    rng = np.random.default_rng(1)
    mu = rng.normal(size=300)
    large = nre.Simulations({"mu": mu}, mu[:, None] + 0.1 * rng.normal(size=(300, 17_000)))
    quick(large, loss=nre.losses.NREC(candidates=50), epochs=1, validation=0.34)


def test_held_out_references_are_all_used():
    rng = np.random.default_rng(1)
    mu = rng.normal(size=200)
    reference = nre.Simulations({"mu": np.zeros(30)}, np.arange(30.0))
    batches = batches_of(
        nre.Simulations({"mu": mu}, rng.normal(mu)), nre.losses.CARL(reference), 0.1, "cpu", 1
    )
    _, x, held = batches.held_out
    assert len(x) == len(held) == 20
    (training, _) = batches.reference.parts[0]
    # Each with a chance of a tenth: five, again and again; none of them is trained on.
    assert len(held.unique()) == 5
    assert sorted([*held.unique().tolist(), *training.tolist()]) == list(range(30))


def test_which_references_are_held_out_depends_on_their_places_alone():
    mu = np.random.default_rng(1).normal(size=200)
    simulations, made = nre.Simulations({"mu": mu}, mu), {}
    for n, rows, seed in ((1_000, 200, 1), (1_000, 150, 2), (3_000, 200, 1)):
        reference = nre.Simulations({"mu": np.zeros(n)}, np.arange(n * 1.0))
        loss = nre.losses.CARL(reference)
        batches = batches_of(simulations[:rows], loss, 0.1, "cpu", seed)
        made[n, rows] = [{*part.tolist()} for part in batches.reference.parts[0]]
    (training, held), (again, _), (grown, held_of_grown) = made.values()
    assert again == training
    assert training < grown
    assert held < held_of_grown
    # Within three standard deviations of a binomial number.
    assert abs(len(held_of_grown) - 300) < 3 * 270**0.5


@pytest.mark.parametrize("n", [2, 3, 5])
def test_of_few_references_some_are_held_out_and_some_are_not(n):
    reference = nre.Simulations({"mu": np.zeros(n)}, np.arange(n * 1.0))
    simulations = nre.Simulations({"mu": np.arange(20.0)}, np.arange(20.0))
    for validation in (0.05, 0.95):
        loss = nre.losses.CARL(reference)
        [parts] = batches_of(simulations, loss, validation, "cpu", 1).reference.parts
        assert all(map(len, parts))
