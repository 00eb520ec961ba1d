"""The stellar-stream example: its simulator, its exact ratio, and the table that it makes."""

import json

import numpy as np
import pytest
import torch
from example_modules import imported
from scipy.linalg import circulant
from scipy.stats import multivariate_normal

from pymc_nre.diagnostics import coverage, posterior_ranks
from pymc_nre.networks import MLP, RatioNetwork, build

# Mass and age: smooth and young, ordinary, as rough and old as can be
CASES = [(1.5, 3.2), (12.0, 5.0), (50.0, 7.0)]


@pytest.fixture(scope="module")
def examples():
    with imported("stream_coverage", "streams") as modules:
        yield modules


@pytest.fixture(scope="module")
def streams(examples):
    return examples["streams"]


@pytest.fixture(scope="module")
def example(examples):
    return examples["stream_coverage"]


def simulated(streams, theta, n):
    mass, age = np.tile(theta, (n, 1)).T
    return streams.simulator(np.random.default_rng(1), mass, age)


def power_errors(streams, theta, other, n=20_000):
    """By how many errors the powers of streams miss the variances at other parameters."""
    power = np.abs(np.fft.rfft(simulated(streams, theta, n), norm="ortho")) ** 2
    share = power / streams.spectrum(streams.FREQUENCIES, *other)
    # Squares of one normal number at both ends, of two halves in between.
    error = np.sqrt(np.where(streams.FREQUENCIES % 32 == 0, 2, 1) / n)
    return np.abs(share.mean(0) - 1) / error


@pytest.mark.parametrize("theta", CASES)
def test_streams_have_their_spectrum(streams, theta):
    # Of 33 normal numbers the largest is above 5 in 2e-5 of all runs.
    assert power_errors(streams, theta, theta).max() < 5


@pytest.mark.parametrize("other", [(13.0, 5.0), (12.0, 5.3)])
def test_another_spectrum_is_told_from_it(streams, other):
    assert power_errors(streams, (12.0, 5.0), other).max() > 5


def log_density(streams, x, theta):
    """By the covariance of the bins."""
    row = np.fft.irfft(streams.spectrum(streams.FREQUENCIES, *theta), streams.BINS)
    return multivariate_normal(np.zeros(streams.BINS), circulant(row)).logpdf(x)


@pytest.fixture(scope="module")
def exact(examples):
    """Exact ratios and 1,000 pairs of each, by the names of their parameters."""
    example, settings = examples["stream_coverage"], {"pairs": 1_000}
    names = example.PARAMETERS.values()
    pairs = {tuple(own): example.held_out(own, settings, seed=1) for own in names}
    return {own: (example.exact(p), p) for own, p in pairs.items()}


def test_ratios_differ_as_densities_do(streams, exact):
    ratio, _ = exact["mass", "age"]
    x = simulated(streams, CASES[1], 20)
    values = [ratio.log_ratio(x, mass=mass, age=age) for mass, age in CASES]
    densities = [log_density(streams, x, theta) for theta in CASES]
    np.testing.assert_allclose(np.diff(values, axis=0), np.diff(densities, axis=0), rtol=1e-9)


def midpoints(ends, n):
    low, high = ends
    return low + (high - low) * (np.arange(n) + 0.5) / n


# Midpoints miss a mean by a 24th of the squared step times a second derivative. Far from the mass
# of a stream its likelihood grows with age by up to e^35 for one: (35 / 1,000)^2 / 24 is 5e-5. The
# step of the masses is 0.05, beside posteriors that are wider than 0.2: 3e-3.
def test_the_age_is_summed_over_its_prior(streams, exact):
    (of_mass, _), (of_both, _) = exact["mass",], exact["mass", "age"]
    x, age = simulated(streams, CASES[1], 1)[0], midpoints(streams.RANGES["age"], 4_000)
    for mass, _ in CASES:
        mean = np.exp(of_both.log_ratio(x, mass=mass, age=age)).mean()
        assert np.exp(of_mass.log_ratio(x, mass=mass)) == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("theta", CASES)
def test_the_mean_of_the_ratio_over_its_prior_is_one(streams, exact, theta):
    ratio, _ = exact["mass",]
    x, mass = simulated(streams, theta, 1)[0], midpoints(streams.RANGES["mass"], 1_000)
    assert np.exp(ratio.log_ratio(x, mass=mass)).mean() == pytest.approx(1, rel=3e-3)


class Sharpened(RatioNetwork):
    def __init__(self, inner, theta_size):
        super().__init__(theta_size, inner.event_shape)
        self.inner = inner

    def embed(self, x):
        return self.inner.embed(x)

    def head(self, theta, features):
        return 2 * self.inner.head(theta, features)


def coverage_errors(ratio, pairs, levels):
    ranks = posterior_ranks(ratio, pairs, draws=300, random_seed=1, progressbar=False)
    found = coverage(ranks, levels)
    return ((found["coverage"] - levels) / found["error"]).to_numpy()


@pytest.mark.parametrize("names", [("mass",), ("mass", "age")])
def test_regions_of_the_exact_posterior_hold_what_they_say(exact, example, names):
    ratio, pairs = exact[names]
    # Two normal numbers: one of them is beyond 4 in 1e-4 of all runs.
    assert np.abs(coverage_errors(ratio, pairs, example.LEVELS)).max() < 4
    sharpened = ratio.replace(network=Sharpened(ratio.network, len(names)).double())
    assert coverage_errors(sharpened, pairs, example.LEVELS).max() < -4


def layers(example, name):
    network = build(MLP((8,), embedding=example.EMBEDDINGS[name]), 2, (64,))
    parts = [part for part in network.modules() if not list(part.children())]
    return [type(part).__name__ for part in parts if not isinstance(part, torch.nn.Identity)]


@pytest.mark.parametrize("name", ["MLP", "ResNet-18", "ResNet-50"])
def test_normalization_is_all_that_pairs_of_networks_differ_in(example, name):
    normalized = layers(example, f"{name}-BN")
    rest = [part for part in normalized if not part.startswith("BatchNorm")]
    assert rest == layers(example, name)
    assert len(rest) < len(normalized)


@pytest.mark.filterwarnings("ignore:The validation loss")  # 600 simulations teach it nothing
@pytest.mark.slow
def test_a_table_goes_on_where_it_was_cut_off(example, tmp_path):
    settings = {"per_epoch": 600, "epochs": 1, "pairs": 100, "draws": 100}
    path, wanted = tmp_path / "rows.jsonl", {"exact": 1, "MLP": 1}
    rows = example.measure(wanted, settings, path)
    lines = path.read_text().splitlines()
    # With 100 pairs nothing is known of some columns: NaN, which this takes for equal to itself.
    np.testing.assert_equal([json.loads(line) for line in lines], rows)
    # What stands there is not made again, and what is missing is made as it was.
    path.write_text(lines[0].replace(str(rows[0]["seconds"]), "-1.0") + "\n")
    again = example.measure(wanted, settings, path)
    assert again[0]["seconds"] == -1
    np.testing.assert_equal([row["checks"] for row in again], [row["checks"] for row in rows])
    assert len(example.summary(again)) == len(rows) == 4
    # Other settings share nothing with them.
    more = example.measure({"exact": 1}, settings | {"draws": 120}, path)
    assert [row["draws"] for row in more] == [120, 120]


def test_a_table_in_markdown(example):
    what = {"parameters": "mass", "network": "MLP", "seconds": 2.0, "pairs": 10_000}
    shares = [{"68%": 0.7, "95%": 0.94}, {"68%": 0.72, "95%": 0.94}]
    text = example.markdown(example.summary([{**what, "checks": own} for own in shares]))
    assert text.splitlines()[0] == "| parameters | network | 68% | 95% | trainings | seconds |"
    assert text.splitlines()[2] == "| mass | MLP | 0.710 ± 0.010 | 0.940 ± 0.002 | 2 | 2 |"


def test_the_smallest_region_of_a_level(example):
    p = np.array([[0.1, 0.4], [0.3, 0.2]])
    assert example.lowest(p, 0.68) == 0.3
    assert example.lowest(p, 0.71) == 0.2
