"""The training domain: how much of the prior it leaves out, and what it calls outside."""

import tracemalloc
from functools import cache

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pymc_nre.estimators.domain import OUTSIDE_SHARE, Domain, _score_map, _scores

N = 20_000


def correlated(rho):
    covariance = np.array([[1.0, rho], [rho, 1.0]])
    return lambda rng, n: rng.multivariate_normal(np.zeros(2), covariance, n)


PRIORS = {
    "uniform": lambda rng, n: rng.uniform(-10, 10, (n, 1)),
    "normal": lambda rng, n: rng.normal(3, 2, (n, 1)),
    "half-normal": lambda rng, n: np.abs(rng.normal(0, 2, (n, 1))),
    "cauchy": lambda rng, n: rng.standard_cauchy((n, 1)),
    "log-cauchy": lambda rng, n: np.exp(np.clip(rng.standard_cauchy((n, 1)), -100, 100)),
    "correlated": correlated(0.95),
    "independent": lambda rng, n: rng.normal(size=(n, 5)),
    "funnel": lambda rng, n: (lambda tau: np.column_stack([tau, rng.normal(0, tau)]))(
        np.abs(rng.normal(size=n))
    ),
    "mixed scales": lambda rng, n: rng.normal(size=(n, 3)) * [1e-8, 1.0, 1e8],
    "integers": lambda rng, n: rng.poisson(4.0, (n, 1)).astype(float),
    "dirichlet": lambda rng, n: rng.dirichlet([1.0, 2.0, 3.0], n),  # tied: they sum to one
}


def share_outside(domain, draw, n=100_000):
    return 1 - domain.inside(draw(np.random.default_rng(2), n)).mean()


def most_outside(n, dimensions):
    """Upper bound of the share outside, a Poisson count with a chance of 1e-4 to exceed it.

    Two edges are estimated from the n training draws themselves: the quantile of rarity, and
    2 D ends of ranges, each of which leaves 1 / n outside on average.
    """
    expected = OUTSIDE_SHARE + 2 / n + 2 * dimensions / n
    return stats.gamma(expected * n + 1, scale=1 / n).isf(1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_the_share_of_the_prior_outside(name):
    draw = PRIORS[name]
    theta = draw(np.random.default_rng(1), N)
    domain = Domain.from_draws(theta)
    bound = most_outside(N, theta.shape[1])
    assert bound < 2e-3  # ten times the nominal share would be seen
    assert share_outside(domain, draw) < bound
    # The twin: the prior moved by its whole range.
    assert share_outside(domain, lambda rng, n: draw(rng, n) + np.ptp(theta, axis=0)) > bound


@pytest.mark.parametrize("name", PRIORS)
def test_the_share_of_the_training_draws_outside(name):
    theta = PRIORS[name](np.random.default_rng(1), N)
    outside = (~Domain.from_draws(theta).inside(theta)).sum()
    assert outside <= OUTSIDE_SHARE * N  # its own quantile, exactly
    if name in ("correlated", "independent"):
        assert outside >= 1  # the edge is not simply the rarest draw


def test_correlation_tilts_the_region():
    corner = np.array([[2.0, -2.0], [2.0, 2.0]])  # on the anti-diagonal and on the diagonal
    rng = np.random.default_rng(1)
    tilted = Domain.from_draws(correlated(0.95)(rng, N))
    plain = Domain.from_draws(correlated(0.0)(rng, N))
    assert (tilted.lower < -2).all()  # inside the box
    assert (tilted.upper > 2).all()
    np.testing.assert_array_equal(tilted.inside(corner), [False, True])
    np.testing.assert_array_equal(plain.inside(corner), [True, True])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e300])
@pytest.mark.parametrize("name", ["uniform", "correlated", "integers"])
def test_what_is_not_finite_is_outside(name, bad):
    theta = PRIORS[name](np.random.default_rng(1), N)
    domain = Domain.from_draws(theta)
    points = np.tile(np.median(theta, 0), (theta.shape[1] + 1, 1))
    points[1:][np.diag_indices(theta.shape[1])] = bad
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(domain.inside(points), [True] + [False] * theta.shape[1])
        assert domain.beyond(points)[1:].diagonal().all()
        assert not domain.beyond(points)[0].any()


def test_a_constant_parameter():
    rng = np.random.default_rng(1)
    domain = Domain.from_draws(np.column_stack([rng.normal(size=N), np.full(N, 3.0)]))
    points = np.array([[0.0, 3.0], [0.0, 3.1], [0.0, 2.9], [9.0, 3.0]])
    np.testing.assert_array_equal(domain.inside(points), [True, False, False, False])


def test_integers_between_and_beyond():
    domain = Domain.from_draws(PRIORS["integers"](np.random.default_rng(1), N))
    assert domain.inside(np.arange(0.0, 11.0)[:, None]).all()
    np.testing.assert_array_equal(domain.inside(np.array([[-1.0], [40.0]])), [False, False])


def test_a_rare_integer_is_not_cut_off_with_its_kind():
    """0 and 1 alone, one of them in a share of 5%: neither is outside."""
    theta = (np.random.default_rng(1).random((N, 1)) < 0.05).astype(float)
    assert Domain.from_draws(theta).inside(np.array([[0.0], [1.0]])).all()


@pytest.mark.parametrize("n", [2, 20])
def test_few_draws(n):
    theta = np.random.default_rng(1).normal(size=(n, 1))
    domain = Domain.from_draws(theta)
    assert domain.inside(theta).all()
    np.testing.assert_array_equal(domain.inside(np.array([[-6.0], [6.0]])), [False, False])


def test_few_draws_of_many_parameters():
    theta = np.random.default_rng(1).normal(size=(20, 30))
    domain = Domain.from_draws(theta)
    assert domain.inside(theta).all()
    assert not domain.inside(np.full((1, 30), 6.0)).any()


def test_beyond_looks_at_each_parameter_alone():
    domain = Domain.from_draws(correlated(0.95)(np.random.default_rng(1), N))
    points = np.array([[2.0, -2.0], [9.0, 0.0], [0.0, -9.0], [np.nan, 0.0]])
    expected = [[False, False], [True, False], [False, True], [True, False]]
    np.testing.assert_array_equal(domain.beyond(points), expected)


def test_leading_axes_broadcast():
    domain = Domain.from_draws(correlated(0.5)(np.random.default_rng(1), N))
    points = np.random.default_rng(2).normal(0, 3, (4, 5, 2))
    assert domain.inside(points).shape == domain.rarity(points).shape == (4, 5)
    for index in np.ndindex(4, 5):
        assert domain.inside(points)[index] == domain.inside(points[index])


def test_stored_draws_and_densities():
    theta = np.random.default_rng(1).normal(size=(12_000, 2))
    domain = Domain.from_draws(theta, theta.sum(-1))
    np.testing.assert_array_equal(domain.draws, theta[:10_000])
    np.testing.assert_array_equal(domain.log_prior, theta[:10_000].sum(-1))
    assert np.isnan(Domain.from_draws(theta).log_prior).all()
    theta[:] = 0  # the domain keeps its own copy
    assert domain.draws.std() > 0.9


def test_arrays_round_trip():
    domain = Domain.from_draws(correlated(0.5)(np.random.default_rng(1), 500))
    stored = domain.to_arrays()
    again = Domain.from_arrays(stored)
    assert again.to_arrays().keys() == stored.keys()
    for name, array in again.to_arrays().items():
        assert isinstance(array, np.ndarray)
        assert array.dtype == float
        np.testing.assert_array_equal(array, stored[name])
    points = np.random.default_rng(2).normal(0, 3, (100, 2))
    np.testing.assert_array_equal(again.rarity(points), domain.rarity(points))


@pytest.mark.parametrize("value", [1e308, -1e308, 10.0])
def test_draws_of_a_file_lie_in_its_domain(value):
    """Else the wall around them overflows, or stands where nobody was trained."""
    stored = Domain.from_draws(np.random.default_rng(1).normal(size=(50, 2))).to_arrays()
    stored["draws"] = stored["draws"].copy()
    stored["draws"][7, 1] = value
    with pytest.raises(ValueError, match="the domain has draws outside of its own ends"):
        Domain.from_arrays(stored)


def column(draws):
    return arrays(float, st.integers(1, 50), elements=draws)


@given(
    column(st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)),
    arrays(float, 40, elements=st.floats(-2e6, 2e6)),
)
def test_the_score_is_monotone_and_bounded(draws, points):
    knots, widths, steps, start = (np.asarray(part)[None] for part in _score_map(draws))
    scores = _scores(np.sort(points)[:, None], knots, widths, steps, start)[:, 0]
    assert (np.diff(scores) >= -1e-12).all()
    assert (np.abs(scores) <= 4 + 1e-12).all()
    assert (widths > 0).all()
    assert (steps >= 0).all()


def test_the_score_is_the_normal_score():
    theta = np.random.default_rng(1).gamma(2.0, 3.0, (N, 1))
    knots, widths, steps, start = (np.asarray(part)[None] for part in _score_map(theta[:, 0]))
    levels = np.array([0.01, 0.2, 0.5, 0.8, 0.99])
    scores = _scores(stats.gamma(2, scale=3).ppf(levels)[:, None], knots, widths, steps, start)
    # Standard error of an empirical normal score: sqrt(p (1 - p) / n) / density.
    exact = stats.norm.ppf(levels)
    error = np.sqrt(levels * (1 - levels) / N) / stats.norm.pdf(exact)
    # Within a piece (a quarter wide) the map is straight: curvature adds up to 0.01 here.
    np.testing.assert_array_less(np.abs(scores[:, 0] - exact), 4 * error + 0.01)


@cache
def compiled(name):
    """A domain, and the function of theta that PyTensor makes of its methods."""
    domain = Domain.from_draws(PRIORS[name](np.random.default_rng(1), 5_000))
    theta = pt.dmatrix("theta")
    outputs = [domain.inside(theta), domain.rarity(theta)]
    # Its Python linker: seconds of compilation for each prior would test nothing of ours.
    return domain, pytensor.function([theta], outputs, mode="FAST_COMPILE")


SYMBOLIC = ("uniform", "correlated", "integers")


@pytest.mark.parametrize("name", SYMBOLIC)
@given(data=st.data())
def test_symbolic_and_numpy_agree(name, data):
    domain, function = compiled(name)
    entries = st.floats(-15, 15) | st.sampled_from([*domain.lower, *domain.upper])
    entries |= st.integers(-2, 20).map(float) | st.sampled_from([np.nan, np.inf, -np.inf])
    shape = st.tuples(st.integers(0, 5), st.just(len(domain.lower)))
    theta = data.draw(arrays(float, shape, elements=entries))
    with np.errstate(invalid="ignore"):
        inside, rarity = function(theta)
        np.testing.assert_array_equal(inside, domain.inside(theta))
        np.testing.assert_allclose(rarity, domain.rarity(theta), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SYMBOLIC)
def test_symbolic_and_numpy_agree_on_the_training_draws(name):
    domain, function = compiled(name)
    # The rarest draw inside is the edge itself: rounding must not move it out.
    inside = domain.inside(domain.draws)
    np.testing.assert_array_equal(function(domain.draws)[0], inside)
    rarity = domain.rarity(domain.draws)
    assert rarity[inside].max() == pytest.approx(domain.largest_rarity, rel=1e-8)
    assert (~function(domain.draws * 3)[0]).sum() > 0  # the twin: some that are outside


def test_it_is_made_in_blocks_with_the_same_numbers(monkeypatch):
    theta = np.random.default_rng(1).normal(size=(40_000, 20))
    tracemalloc.start()
    domain = Domain.from_draws(theta)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * theta.nbytes  # the ramps of all alone would take 32 times as much
    monkeypatch.setattr("pymc_nre.estimators.domain._BLOCK", 2**40)
    for name, array in Domain.from_draws(theta).to_arrays().items():
        np.testing.assert_array_equal(domain.to_arrays()[name], array)


@pytest.mark.parametrize("name", sorted(set(PRIORS) - {"log-cauchy"}))  # 500 have its ends
def test_a_domain_covers_what_it_is_told_to(name):
    rng = np.random.default_rng(5)
    few, more = PRIORS[name](rng, 500), PRIORS[name](rng, 20_000)
    domain = Domain.from_draws(few)
    wide = domain.covering(more)
    assert wide.inside(more).all()
    assert domain.inside(more).mean() < 1  # the twin
    assert wide.inside(few).all()
    np.testing.assert_array_equal(wide.knots, domain.knots)  # nothing else is changed
    low, high = wide.ends().T
    assert (low <= more.min(0) + 1e-12 * np.abs(low)).all()
    assert (high >= more.max(0) - 1e-12 * np.abs(high)).all()
