"""The ratio of a transition from whole series: what the next value tells, and not the past."""

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import pymc_nre as nre
from pymc_nre.networks import MLP, Dense

KEPT = 0.5
GRID = np.linspace(-1, 1, 201)
QUIET = {"random_seed": 1, "progressbar": False}
AT_ONE = nre.Simulations({"drift": np.zeros(9)}, np.zeros((9, 20)))


def series(n, length=20):
    """With a drift that the past, around twice of it, tells of better than a step does."""
    rng = np.random.default_rng(1)
    drift, x = rng.uniform(-1, 1, n), np.zeros((n, length))
    for t in range(1, length):
        x[:, t] = rng.normal(drift + KEPT * x[:, t - 1], 1.0)
    return nre.Simulations({"drift": drift}, x)


@pytest.fixture(scope="module")
def ratio():
    return nre.train_series(series(1_500), epochs=4, **QUIET)


def test_log_ratios_are_those_of_the_next_value(ratio):
    unseen = series(200)
    cut = nre.transitions(unseen)
    rows = np.random.default_rng(2).integers(len(cut), size=300)
    x, past = cut.next[rows], cut.past[rows]
    exact = stats.norm.logpdf(x, GRID[:, None] + KEPT * past[:, 0])
    its = ratio.log_ratio(x, past=past, drift=GRID[:, None])
    exact, its = exact - exact.mean(0), its - its.mean(0)
    # The exact one spreads by .70 over the grid; what the past tells by itself, by more.
    off = np.sqrt(((its - exact) ** 2).mean())
    slope = (its * exact).sum() / (exact**2).sum()
    assert off < 0.25
    assert abs(slope - 1) < 0.12
    some = series(1_000)  # a transition of each
    pair = np.stack([some.x[:, 10], some.x[:, 9]], axis=-1)
    wrong = nre.train(nre.Simulations(some.parameters, pair), epochs=20, **QUIET)
    counted = wrong.log_ratio(np.stack([x, past[:, 0]], -1), drift=GRID[:, None])
    assert np.sqrt(((counted - counted.mean(0) - exact) ** 2).mean()) > 0.75


def test_it_is_a_ratio_with_the_past_as_a_condition(ratio, tmp_path):
    assert ratio.observation_shape == ()
    assert dict(ratio.conditions.shapes) == {"past": (1,)}
    ratio.save(tmp_path / "ratio.nre")
    assert nre.load(tmp_path / "ratio.nre") == ratio
    cut = nre.transitions([0.0, 0.3, -0.4])
    with pm.Model() as model:
        drift = pm.Data("drift", 0.2)
        given = {"drift": drift, "past": cut.past, "observed": cut.next}
        nre.RatioLikelihood("x", ratio, engine="torch", **given)
    expected = ratio.log_ratio(cut.next, past=cut.past, drift=0.2).sum()
    np.testing.assert_allclose(model.compile_logp()({}), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*simulations .* failed", "ignore:.*cannot be told from chance")
def test_the_prior_of_the_series_is_that_of_their_transitions():
    def step(rng, past, mu):
        return rng.normal(past[-1] + mu, 1.0) if abs(past[-1]) < limit else np.nan

    options, prior = {"start": [0.0], "length": 4, **QUIET}, {"mu": pm.Normal.dist(0, 1)}
    short = {"epochs": 1, "network": MLP((8,)), **QUIET}
    limit = np.inf
    whole = nre.simulate_series(prior, step, 60, **options)
    assert "MultiScale" in nre.train_series(whole, **short).loss
    limit = 3.0
    some = nre.simulate_series(prior, step, 60, **options)
    assert some.n_failed
    assert nre.train_series(some, **short).loss == repr(nre.losses.NREC())
    assert nre.train_series(series(60), **short).loss == repr(nre.losses.NREC())


def test_members_are_others_and_the_same_again():
    options = {"epochs": 3, "network": MLP((8,)), **QUIET}
    one = nre.train_series(series(300), 2, members=2, **options)
    assert one == nre.train_series(series(300), 2, members=2, **options)
    first, second = (member.theta_in.weight for member in one.network.members)
    assert not np.array_equal(first, second)


def test_vectors_and_embeddings():
    """Pasts that tell nothing are no reason to warn."""
    mu = np.random.default_rng(2).uniform(-2, 2, 1_000)
    x = np.random.default_rng(1).normal(size=(1_000, 6, 3))
    x[:, 2:] += mu[:, None, None]
    ratio = nre.train_series(
        nre.Simulations({"mu": mu}, x[:, :3]),
        2,
        network=MLP((4,), embedding=Dense((4,))),
        epochs=3,
        loss=nre.losses.NREB(),
        **QUIET,
    )
    cut = nre.transitions(x[0], 2)
    assert ratio.log_ratio(cut.next, past=cut.past, mu=0.0).shape == (4,)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"order": 20}, ValueError, r"at least order \+ 1 = 21 values"),
        ({"order": 0}, ValueError, "train_series: order: expected at least 1"),
        ({"checkpoint": "a"}, TypeError, "train_series takes no checkpoint=: two trainings"),
        ({"epoch": 2}, TypeError, "epoch"),
        ({"loss": nre.losses.CARL(AT_ONE)}, ValueError, "ratio is to the evidence, got CARL"),
        ({"loss": nre.losses.DNRE()}, ValueError, "ratio is to the evidence, got DNRE"),
        ({"simulations": np.zeros((4, 5))}, TypeError, "train_series: simulations: expected"),
        (
            {"simulations": nre.Simulations({"mu": np.arange(9.0)}, np.zeros(9))},
            ValueError,
            "got observations of shape scalar",
        ),
        (
            {
                "simulations": nre.Simulations(
                    {"mu": np.zeros(9)}, np.zeros((9, 4)), conditions={"dose": np.arange(9.0)}
                )
            },
            ValueError,
            "expected series without conditions, got dose",
        ),
    ],
)
def test_what_does_not_fit_is_told(change, error, match):
    given = {"simulations": series(50), "epochs": 1, **QUIET} | change
    with pytest.raises(error, match=match):
        nre.train_series(given.pop("simulations"), given.pop("order", 1), **given)
