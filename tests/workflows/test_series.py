"""Series by a ratio of one transition, against the exact posterior; what counts the past is off."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import pymc_nre as nre

BOUNDS = (-1.0, 1.0)
PRIOR = {"drift": pm.Uniform.dist(*BOUNDS)}
KEPT = 0.9  # of the last value: pasts lie around ten times the drift, and tell much of it
GRID = np.linspace(*BOUNDS, 401)
QUIET = {"random_seed": 1, "progressbar": False}
TORCH = {"engine": "torch"}  # what compiles takes long, and tests of its own


def step(rng, past, drift):
    return rng.normal(drift + KEPT * past[..., -1], 1.0)


def series_of(drift, length, seed):
    rng, x = np.random.default_rng(seed), [0.0]
    while len(x) < length:
        x.append(step(rng, np.array(x), drift))
    return np.array(x)


def posterior(log_density):
    p = np.exp(log_density - log_density.max())
    p /= p.sum()
    mean = p @ GRID
    return mean, (p @ (GRID - mean) ** 2) ** 0.5


def exact(cut):
    return posterior(stats.norm.logpdf(cut.next, GRID[:, None] + KEPT * cut.past[:, 0]).sum(1))


@pytest.fixture(scope="module")
def whole():
    return nre.simulate_series(PRIOR, step, 4_000, start=[0.0], length=20, **QUIET)


@pytest.fixture(scope="module")
def ratio(whole):
    past = nre.transitions(whole).past
    single = nre.simulate(PRIOR, step, 10_000, conditions={"past": past}, batched=True, **QUIET)
    return nre.train(single, epochs=60, **QUIET)


SETS = [nre.transitions(series_of(drift, 21, k)) for k, drift in enumerate((-0.4, 0.1, 0.3))]


def errors(log_density_of):
    """In exact sds, and widths, of posteriors of 20 transitions."""
    found = []
    for cut in SETS:
        (mean, sd), (its_mean, its_sd) = exact(cut), posterior(log_density_of(cut))
        found.append(((its_mean - mean) / sd, its_sd / sd))
    return np.array(found).T


def test_posteriors_of_series_are_exact(ratio):
    error, width = errors(
        lambda cut: ratio.log_ratio(cut.next, past=cut.past, drift=GRID[:, None]).sum(1)
    )
    # 20 trials by 10,000 simulations: about sqrt(20 / 10,000) = .04 sd would be the least that a
    # fit at one place leaves, and a network over the whole prior leaves some times that.
    assert np.abs(error).max() < 0.4
    assert np.abs(width - 1).max() < 0.15


def test_a_ratio_of_pasts_of_the_same_series_is_not(whole):
    """The twin: transitions with the parameters of their own series count the past each time."""
    rows = np.arange(len(whole))
    time = np.random.default_rng(1).integers(1, 20, len(whole))
    pair = np.stack([whole.x[rows, time], whole.x[rows, time - 1]], axis=-1)
    wrong = nre.train(nre.Simulations(whole.parameters, pair), epochs=20, **QUIET)
    _, width = errors(
        lambda cut: wrong.log_ratio(
            np.stack([cut.next, cut.past[:, 0]], axis=-1), drift=GRID[:, None]
        ).sum(1)
    )
    assert width.max() < 0.85


def test_a_model_of_several_series(ratio):
    """Each has its own drift; the log-likelihood is the sum of its transitions'."""
    series, drifts = [series_of(0.2, 6, 1), series_of(-0.3, 9, 2)], np.array([0.1, -0.2])
    cut = nre.transitions(series)
    with pm.Model() as model:
        drift = pm.Data("drift", drifts)[cut.series]
        nre.RatioLikelihood("x", ratio, **TORCH, drift=drift, observed=cut)
    expected = sum(
        ratio.log_ratio(one.next, past=one.past, drift=value).sum()
        for one, value in zip(map(nre.transitions, series), drifts, strict=True)
    )
    np.testing.assert_allclose(model.compile_logp()({}), expected, rtol=1e-6)


def test_transitions_are_observations_and_their_past(ratio):
    cut = SETS[0]
    given = {"past": cut.past}
    expected = ratio.log_ratio(cut.next, drift=0.2, **given)
    np.testing.assert_array_equal(ratio.log_ratio(cut, drift=0.2), expected)
    symbolic = nre.log_ratio(ratio, cut, drift=0.2, engine="torch").eval()
    np.testing.assert_allclose(symbolic, expected, rtol=1e-6)
    options = {"trials": True}
    whole = nre.posterior_grid(ratio, cut, PRIOR, **options)
    parts = nre.posterior_grid(ratio, cut.next, PRIOR, conditions=given, **options)
    assert whole.equals(parts)


def test_transitions_where_no_past_is_known_or_two_are(ratio):
    cut, other = SETS[0], nre.tasks.GaussianMean().estimator()
    for call in (
        lambda: nre.RatioLikelihood("x", other, mu=0.0, observed=cut),
        lambda: nre.log_ratio(other, cut, mu=0.0),
        lambda: other.log_ratio(cut, mu=0.0),
        lambda: nre.posterior_grid(other, cut, nre.tasks.GaussianMean().prior()),
    ):
        with pm.Model(), pytest.raises(TypeError, match="of this ratio are none; expected one"):
            call()
    with pytest.raises(TypeError, match=r"as well. Leave past= out"):
        ratio.log_ratio(cut, drift=0.2, past=cut.past)
    with pytest.raises(ValueError, match="past"):
        ratio.log_ratio(nre.transitions(np.arange(5.0), order=2), drift=0.2)


def test_predictions_go_one_step_on(ratio):
    cut = SETS[2]
    with pm.Model():
        drift = pm.Data("drift", 0.3)
        x = nre.RatioLikelihood("x", ratio, **TORCH, drift=drift, past=cut.past, observed=cut.next)
    draws = pm.draw(x, 300, random_seed=1)
    assert draws.shape == (300, 20)
    assert stats.kstest((draws - 0.3 - KEPT * cut.past[:, 0]).ravel(), "norm").pvalue > 1e-4


def test_first_values_by_a_ratio_of_their_own(ratio):
    """A stationary start tells of the drift, and its log ratio joins those of the transitions."""

    def start(rng, drift):
        return rng.normal(drift / (1 - KEPT), 1 / np.sqrt(1 - KEPT**2), size=1)

    first = nre.train(nre.simulate(PRIOR, start, 2_000, **QUIET), epochs=10, **QUIET)
    cut = SETS[1]
    with pm.Model() as model:
        drift = pm.Data("drift", 0.2)
        nre.RatioLikelihood("first", first, **TORCH, drift=drift, observed=cut.first)
        nre.RatioLikelihood("x", ratio, **TORCH, drift=drift, past=cut.past, observed=cut.next)
    expected = first.log_ratio(cut.first, drift=0.2).sum()
    expected += ratio.log_ratio(cut.next, past=cut.past, drift=0.2).sum()
    np.testing.assert_allclose(model.compile_logp()({}), expected, rtol=1e-6)
