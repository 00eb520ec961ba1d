"""Every embedding, trained on a problem whose posterior is known.

One parameter with a uniform prior and normal noise, so that the exact posterior is the
normalized likelihood on a grid. Two numbers tell how good a trained ratio is: the mean
absolute error of the posterior mean, in exact standard deviations, and the mean ratio of the
standard deviations. The slow test trains longer and prints the table of docs/accuracy.md.
"""

import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.networks import MLP, Convolutional, DeepSet, Dense, ResidualMLP, ResNet, build

GRID = 400  # at least ten points in every exact standard deviation


@dataclass(frozen=True)
class Problem:
    """``x = signal(theta) + N(0, 1)``, theta uniform between two ends."""

    name: str
    low: float
    high: float
    signal: object
    largest_set: int = 0  # sets of varying size, up to this many members

    def draw(self, n, seed):
        """Parameters ``(n,)`` and observations ``(n, *event)``."""
        rng = np.random.default_rng(seed)
        theta = rng.uniform(self.low, self.high, n)
        mean = self.signal(theta)
        x = rng.normal(mean, 1.0)
        if self.largest_set:
            there = np.arange(self.largest_set) < rng.integers(1, self.largest_set + 1, (n, 1))
            x = np.stack([np.where(there, x, 0.0), there], -1)
        return theta, x

    def log_likelihood(self, grid, x):
        """For each observation and grid point, ``(n, G)``."""
        there = x[..., 1] if self.largest_set else np.ones(x.shape)
        x = x[..., 0] if self.largest_set else x
        rows, weights = x.reshape(len(x), -1), there.reshape(len(x), -1)
        mean = self.signal(grid).reshape(len(grid), -1)
        squares = weights @ (mean**2).T - 2 * (weights * rows) @ mean.T
        return -0.5 * squares


def moments(grid, log_density):
    """Mean and standard deviation ``(n,)`` of densities ``(n, G)`` on a grid."""
    weights = np.exp(log_density - log_density.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mean = weights @ grid
    return mean, np.sqrt((weights * (grid - mean[:, None]) ** 2).sum(-1))


def bump(places, width, height):
    return lambda t: height * np.exp(-0.5 * ((places - t[:, None]) / width) ** 2)


def along(direction):
    return lambda t: np.multiply.outer(t, direction)


def blob(t):
    rows, columns = bump(np.arange(12), 1.5, 2.0)(t), bump(np.arange(12), 1.5, 1.0)(np.array([6.0]))
    return rows[:, :, None] * columns[:, None]


_WAVE = np.sin(2 * np.pi * np.arange(32) / 8)
_NUMBERS = np.linspace(-1.2, 1.0, 20) ** 3 + 0.2

SET = Problem("mean of 5 members", -3, 3, lambda t: np.repeat(t[:, None], 5, -1))
MASKED = Problem("mean of 1 to 10 members", -3, 3, lambda t: np.repeat(t[:, None], 10, -1), 10)
NUMBERS = Problem("slope, 20 numbers", -3, 3, along(_NUMBERS))
BUMP = Problem("place of a bump, 32 bins", 8, 24, bump(np.arange(32), 2.0, 3.0))
BLOB = Problem("place of a blob, 12 x 12", 3, 8, blob)
WAVE = Problem("height of a wave, 32 bins", -2, 2, along(_WAVE))
WAVES = Problem(
    "height of a pattern, 16 x 16", -2, 2, along(0.5 * np.outer(_WAVE[:16], np.roll(_WAVE[:16], 2)))
)


class Own(nn.Module):
    """A user's own summary of a series: gated recurrent units, read at the end."""

    def __init__(self, event_shape):
        super().__init__()
        self.cell = nn.GRU(event_shape[0] // 4, 16, batch_first=True)

    def forward(self, x):
        _, last = self.cell(x.reshape(len(x), 4, -1))
        return last[0]


@dataclass(frozen=True)
class Case:
    problem: Problem
    network: object
    simulations: int = 10_000
    epochs: int = 10
    full: int = 50_000  # simulations in the slow test


HEAD = (32, 32)
CASES = {
    "DeepSet": Case(SET, MLP(HEAD, embedding=DeepSet((32, 16)))),
    "DeepSet, layer norm": Case(SET, MLP(HEAD, embedding=DeepSet((32, 16), norm="layer"))),
    "DeepSet, batch norm": Case(SET, MLP(HEAD, embedding=DeepSet((32, 16), norm="batch"))),
    "DeepSet, masked": Case(MASKED, MLP(HEAD, embedding=DeepSet((32, 16), masked=True))),
    "Dense": Case(NUMBERS, MLP(HEAD, embedding=Dense((32, 8)))),
    "Dense, batch norm": Case(
        NUMBERS, MLP(HEAD, norm="batch", embedding=Dense((32, 8), norm="batch"))
    ),
    "Dense, layer norm": Case(
        NUMBERS, MLP(HEAD, norm="layer", embedding=Dense((32, 8), norm="layer"))
    ),
    "none, ResidualMLP, layer norm": Case(NUMBERS, ResidualMLP(32, 2, norm="layer")),
    "none, ResidualMLP, batch norm": Case(NUMBERS, ResidualMLP(32, 2, norm="batch")),
    "Convolutional 1-D": Case(BUMP, MLP(HEAD, embedding=Convolutional((8, 16), 16))),
    "Convolutional 1-D, batch norm": Case(
        BUMP, MLP(HEAD, embedding=Convolutional((8, 16), 16, norm="batch"))
    ),
    "Convolutional 2-D": Case(
        BLOB, MLP(HEAD, embedding=Convolutional((8, 16), 16, dimensions=2, kernel=3))
    ),
    "ResNet(10) 1-D": Case(WAVE, MLP(HEAD, embedding=ResNet(10, width=8)), 8_000, 6, 20_000),
    "ResNet(10) 1-D, batch norm": Case(
        WAVE, MLP(HEAD, embedding=ResNet(10, width=8, norm="batch")), 8_000, 6, 20_000
    ),
    "ResNet(10) 2-D": Case(
        WAVES, MLP(HEAD, embedding=ResNet(10, dimensions=2, width=4)), 8_000, 6, 20_000
    ),
    "a module of one's own": Case(NUMBERS, MLP(HEAD, embedding=Own)),
}


def train(case, simulations, epochs):
    theta, x = case.problem.draw(simulations, seed=1)
    return nre.train(
        nre.Simulations({"theta": theta}, x),
        network=case.network,
        epochs=epochs,
        random_seed=1,
        progressbar=False,
    )


def grid_log_ratio(problem, network, x):
    """A grid ``(G,)`` over the prior and log ratios ``(n, G)``, each x embedded once."""
    grid = np.linspace(problem.low, problem.high, GRID)
    with torch.no_grad():
        features = network.embed(torch.tensor(x))
        log_ratio = network.head(torch.tensor(grid)[:, None], features[:, None])
    return grid, log_ratio.numpy()


def errors(problem, network, data_sets):
    """Mean error of the posterior mean in exact standard deviations, mean ratio of widths."""
    _, x = problem.draw(data_sets, seed=2)
    grid, log_ratio = grid_log_ratio(problem, network, x)
    exact_mean, exact_sd = moments(grid, problem.log_likelihood(grid, x))
    mean, sd = moments(grid, log_ratio)
    return (abs(mean - exact_mean) / exact_sd).mean(), (sd / exact_sd).mean()


def untrained(case):
    """The same network as it is built, its inputs standardized."""
    theta, x = case.problem.draw(1_000, seed=1)
    torch.manual_seed(1)
    net = build(case.network, 1, x.shape[1:]).double()
    net.fit_standardization(torch.tensor(theta)[:, None], torch.tensor(x))
    return net.eval()


# The largest error of the short trainings was 0.24 and the largest width 1.13, equal to the last
# digit on both versions of PyMC; the long ones reached 0.14 and 1.05. The rest is slack for
# other versions of torch, which round otherwise.
def assert_accurate(error, width, slack=1.0):
    """Errors far below the posterior's own width, and about that width."""
    assert error < 0.4 * slack
    assert abs(width - 1) < 0.25 * slack


@pytest.mark.one_python
@pytest.mark.parametrize("name", CASES)
def test_posteriors(name):
    case = CASES[name]
    found = errors(case.problem, train(case, case.simulations, case.epochs).network, 100)
    assert_accurate(*found)
    error, width = errors(case.problem, untrained(case), 100)  # the twin
    assert error > 3
    assert width > 3


def test_the_grid_has_what_log_ratio_gives():
    case = CASES["Dense"]
    ratio = make_estimator({"mu": ()}, (20,), case.network)
    _, x = case.problem.draw(3, seed=2)
    log_ratio = grid_log_ratio(case.problem, ratio.network, x)[1]
    grid = np.linspace(case.problem.low, case.problem.high, GRID)
    np.testing.assert_allclose(log_ratio, ratio.log_ratio(x[:, None], mu=grid), rtol=1e-10)


def test_exact_posteriors():
    """The grid against the conjugate normal, where the prior's ends are far."""
    x = np.array([[0.5, 1.0, -0.5, 0.2, 0.3]])
    grid = np.linspace(-3, 3, GRID)
    mean, sd = moments(grid, SET.log_likelihood(grid, x))
    np.testing.assert_allclose([mean[0], sd[0]], [0.3, 5**-0.5], rtol=1e-6)
    one_there = np.stack([x, [[1, 1, 0, 0, 0]]], -1)
    few = Problem("", -9, 9, SET.signal, 5)
    grid = np.linspace(-9, 9, GRID)
    mean, sd = moments(grid, few.log_likelihood(grid, one_there))
    np.testing.assert_allclose([mean[0], sd[0]], [0.75, 2**-0.5], rtol=1e-6)


@pytest.mark.slow
def test_table():
    print("\n| embedding | problem | simulations | mean error / sd | width ratio | seconds |")
    print("|---|---|---|---|---|---|")
    for name, case in CASES.items():
        began = time.monotonic()
        network = train(case, case.full, epochs=20).network
        seconds = time.monotonic() - began
        error, width = errors(case.problem, network, 500)
        numbers = f"{case.full:,} | {error:.3f} | {width:.3f} | {seconds:.0f}"
        print(f"| {name} | {case.problem.name} | {numbers} |", flush=True)
        assert_accurate(error, width, slack=0.5)
