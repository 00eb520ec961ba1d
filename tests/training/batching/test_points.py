"""Several points in a simulation: none on both sides, none contrasted with another of its own."""

import tracemalloc

import numpy as np
import pytest
import torch
from first_order import DIRECTIONS, T_LIMIT, t_statistic
from quick_training import TASK, quick

import pymc_nre as nre
from pymc_nre.training.batching.batches import batches_of
from pymc_nre.training.batching.points import PointPairs

LOSSES = {
    "NRE-A": nre.losses.NREA(),
    "NRE-B": nre.losses.NREB(5),
    "NRE-C": nre.losses.NREC(5),
    "BNRE": nre.losses.BNRE(10.0),
}


def gaussian(n, m, seed=1, counts=None, **options):
    """Simulations of GaussianMean with m points each, or as many as ``counts`` says."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(-10, 10, n)
    x = np.ma.array(rng.normal(mu[:, None], 1.0, (n, m)))
    if counts is not None:
        x.mask = np.arange(m) >= np.asarray(counts)[:, None]
    return nre.Simulations({"mu": mu}, x, iid=True, **options)


def numbered(counts):
    """Simulations whose parameter is their number, and whose points are numbered through."""
    counts = np.asarray(counts)
    x = np.ma.array(np.zeros((len(counts), counts.max())))
    x.mask = np.arange(counts.max()) >= counts[:, None]
    x[~x.mask] = np.arange(counts.sum())
    return nre.Simulations({"mu": np.arange(float(len(counts)))}, x, iid=True)


def batches(simulations, loss=LOSSES["NRE-C"], validation=0.2):
    return batches_of(simulations, loss, validation, "cpu", 1)


COUNTS = {
    "equal": np.full(100, 4),
    "varying": np.random.default_rng(1).integers(1, 8, 100),
    "one long": np.where(np.arange(100) == 7, 400, 3),
}


@pytest.mark.parametrize("counts", COUNTS)
def test_no_simulation_is_on_both_sides_and_no_batch_has_two_points_of_one(counts):
    simulations = numbered(COUNTS[counts])
    made, order = batches(simulations), torch.Generator().manual_seed(1)
    epochs = [batch for k in range(3) for batch in made.epoch(k, 20, order)]
    trained, held = {}, {}
    for seen, parts in ((trained, epochs), (held, made.validation(64, 6))):
        for theta, x in parts:
            assert len(theta.unique()) == len(theta)
            seen.update(zip(x.tolist(), theta[:, 0].tolist(), strict=True))
    owners = np.repeat(np.arange(100), simulations.counts)
    for x, number in (trained | held).items():
        assert owners[int(x)] == number
    assert not set(trained.values()) & set(held.values())
    assert sorted(set(held.values())) == sorted(made.unseen)
    if counts != "one long":  # no part has room for its points
        assert len(held) == made.n_held_out == simulations.counts[made.unseen].sum()


def test_each_epoch_takes_every_point_once_but_for_what_is_left_over():
    made = batches(numbered(COUNTS["varying"]))
    order = torch.Generator().manual_seed(1)
    for k in range(2):
        x = torch.cat([x for _, x in made.epoch(k, 20, order)])
        assert len(x) == len(x.unique()) == made.size // 20 * 20


def test_a_long_simulation_gives_other_points_in_each_epoch():
    made = batches(numbered(COUNTS["one long"]), validation=0.01, loss=nre.losses.NREA())
    order = torch.Generator().manual_seed(1)
    first, second = (
        {float(x[theta[:, 0] == 7]) for theta, x in made.epoch(k, 50, order) if 7 in theta}
        for k in range(2)
    )
    assert len(first) > 1
    assert first != second


def of_one_set(rows_of):
    """Draws batches of one small set of simulations after another."""

    def draw(batch, generator):
        seed = int(torch.randint(2**31, (1,), generator=generator))
        pairs = PointPairs(gaussian(8, 32, seed), "cpu")
        theta, x = pairs.take(rows_of(pairs, batch, generator))
        return theta.double(), x.double()

    return draw


def dealt(pairs, batch, generator):
    return next(pairs.shuffled(batch, generator))


def shuffled_by_points(pairs, batch, generator):
    """The planted bug: two points of a simulation may meet."""
    return torch.randperm(len(pairs), generator=generator)[:batch]


@pytest.mark.parametrize("direction", ["of x", "skew", "sharpness"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_exact_ratio_is_stationary(loss, direction):
    t = t_statistic(LOSSES[loss], DIRECTIONS[direction], batch=8, draw=of_one_set(dealt))
    assert abs(t) < T_LIMIT


# Not NRE-B: it asks which candidate it is, and of two that are equal either is as right.
@pytest.mark.parametrize("loss", ["NRE-A", "NRE-C", "BNRE"])
def test_it_would_not_be_if_points_of_a_simulation_met(loss):
    draw = of_one_set(shuffled_by_points)
    t = t_statistic(LOSSES[loss], DIRECTIONS["sharpness"], batch=8, draw=draw)
    assert abs(t) > 2 * T_LIMIT


def test_parameters_are_not_repeated_in_memory():
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(2_000, 50))
    simulations = nre.Simulations({"theta": theta}, rng.normal(size=(2_000, 200)), iid=True)
    tracemalloc.start()
    made = batches(simulations)
    for _ in made.epoch(0, 256, torch.Generator().manual_seed(1)):
        pass
    (_, peak), repeated = tracemalloc.get_traced_memory(), 400_000 * 50 * 4
    tracemalloc.stop()
    tensors = sum(part.numel() for part in (made.pairs.theta, made.pairs.x))
    assert tensors < 1_600 * 50 + 400_000
    assert peak < repeated / 4  # NumPy's; torch has none of its own but the tensors


def test_a_ratio_of_one_point_is_learned():
    ratio = quick(gaussian(3_000, 4), epochs=8)
    assert ratio.event_shape == ()
    assert ratio.history.attrs["n_train"] == 4 * 2_700
    assert ratio.budget.simulations == 4 * 300
    mu, x = np.linspace(-8, 8, 50), np.linspace(-8, 8, 50)[::-1] * 0.1
    exact = TASK.estimator()
    near = np.abs(mu - x) < 2
    error = ratio.log_ratio(x[near], mu=mu[near]) - exact.log_ratio(x[near], mu=mu[near])
    assert np.sqrt((error**2).mean()) < 0.15


def test_it_resumes_where_it_was(tmp_path, monkeypatch):
    simulations = gaussian(400, 3, counts=np.arange(400) % 3 + 1)
    whole = quick(simulations, epochs=4)
    file, descend = tmp_path / "training", nre.training.trainer.Trainer.epoch

    def interrupted(run, index):
        if index == 2:
            raise KeyboardInterrupt
        return descend(run, index)

    with monkeypatch.context() as patched:
        patched.setattr(nre.training.trainer.Trainer, "epoch", interrupted)
        with pytest.warns(nre.TrainingWarning, match="interrupted"):
            quick(simulations, epochs=4, checkpoint=file)
    assert quick(simulations, epochs=4, checkpoint=file) == whole
    other = gaussian(400, 3, counts=np.arange(400) % 3 + 1, seed=2)
    with pytest.raises(ValueError, match="simulations"):
        quick(other, epochs=4, checkpoint=file)


def test_fresh_simulations_of_several_points():
    def simulator(rng, mu):
        return rng.normal(mu[:, None], 1.0, (len(mu), 3))

    supply = nre.Online(
        TASK.prior(), simulator, batched=True, iid=True, per_epoch=500, random_seed=1
    )
    ratio = quick(supply)
    assert ratio.history.attrs["n_train"] == 1_500
    assert ratio.budget.simulations == 1_500
    assert ratio.simulator.draw(np.random.default_rng(1), {"mu": np.zeros(5)}, 5).shape == (5,)


def test_a_fixed_reference_of_several_points():
    rng = np.random.default_rng(1)
    reference = nre.Simulations({"mu": np.zeros(100)}, 5 * rng.normal(size=(100, 3)), iid=True)
    loss = nre.losses.CARL(reference)
    made = batches(gaussian(100, 4), loss)
    assert all(len(held) == len(theta) for theta, _, held in made.validation(64, 6))
    assert sum(map(len, made.reference.parts[0])) == 300
    assert quick(gaussian(500, 4), loss=loss).reference == "fixed"


def test_batches_are_of_different_simulations():
    few = gaussian(60, 50)
    assert quick(few, measure_budget=False).history.attrs["batch_size"] == 27
    with pytest.raises(ValueError, match=r"between 6 .* and 54 \(the training simulations\)"):
        quick(few, batch_size=55)
