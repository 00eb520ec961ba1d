"""The ratio of a whole series: the sum over its steps, as an estimator like any other."""

import numpy as np
import pymc as pm
import pytest
import torch
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.networks import RatioNetwork
from pymc_nre.networks.composed.correction import QuadraticCorrection
from pymc_nre.simulation.conditions.layout import Conditions
from pymc_nre.simulation.conditions.missing import Missing

QUIET = {"random_seed": 1, "progressbar": False}
HOLES = Missing.of(0.2, (2,))


def of_steps(order=1, event=(), others=(), **options):
    """An untrained ratio of a value given those before it."""
    shapes = {"past": (order, *event)} | dict.fromkeys(others, ())
    size = int(np.prod(event)) * (1 + order) + len(others)
    beside = size - int(np.prod(event))
    known = Conditions(shapes, event, (-9.0,) * beside, (9.0,) * beside)
    return make_estimator(event_shape=(size,), conditions=known, **options)


def centered():
    ratio = of_steps()
    return ratio.replace(network=QuadraticCorrection(ratio.network, 3))


@pytest.mark.parametrize(("order", "event"), [(1, ()), (3, ()), (1, (2,)), (2, (2, 3))])
def test_it_is_the_sum_over_steps(order, event):
    ratio = of_steps(order, event)
    series = np.random.default_rng(1).normal(size=(5, 7, *event))
    whole = nre.whole_series(ratio, 7)
    theta = {"mu": 0.3, "beta": [0.1, -0.7]}
    expected = [ratio.log_ratio(nre.transitions(x, order), **theta).sum() for x in series]
    np.testing.assert_allclose(whole.log_ratio(series, **theta), expected, rtol=1e-9)
    of_each = {"mu": np.arange(5.0), "beta": np.ones((5, 2))}
    one = {"mu": 3.0, "beta": np.ones(2)}
    expected = ratio.log_ratio(nre.transitions(series[3], order), **one).sum()
    assert whole.log_ratio(series, **of_each)[3] == pytest.approx(expected)


def test_in_a_model_each_series_has_parameters_of_its_own():
    ratio = of_steps()
    whole, x = nre.whole_series(ratio, 6), np.random.default_rng(2).normal(size=(4, 6))
    mu, cut = np.linspace(-1, 1, 4), nre.transitions(list(x))
    with pm.Model() as by_series:
        nre.RatioLikelihood("x", whole, mu=pm.Data("mu", mu), beta=[0.2, 0.1], observed=x)
    with pm.Model() as by_step:
        at = pm.Data("mu", mu)[cut.series]
        nre.RatioLikelihood("x", ratio, mu=at, beta=[0.2, 0.1], observed=cut)
    assert by_series.compile_logp()({}) == pytest.approx(float(by_step.compile_logp()({})))


def test_an_ensemble_is_taken_as_it_is():
    domain = Domain.from_draws(np.random.default_rng(1).normal(size=(100, 3)))
    members = nre.ensemble([of_steps(seed=k, domain=domain) for k in (1, 2)])
    x, theta = np.random.default_rng(3).normal(size=(2, 5)), {"mu": 0.1, "beta": [0.2, 0.1]}
    expected = [members.log_ratio(nre.transitions(each), **theta).sum() for each in x]
    whole = nre.whole_series(members, 5)
    np.testing.assert_allclose(whole.log_ratio(x, **theta), expected, rtol=1e-9)


def test_data_and_trials_are_looked_at_as_those_of_steps():
    whole = nre.whole_series(of_steps(), 20)
    x = np.random.default_rng(4).normal(size=(3, 20))
    given = {"mu": 0.1, "beta": [0.2, 0.1], "engine": "torch"}
    with pm.Model(), pytest.warns(nre.DomainWarning, match="lie far outside"):
        nre.RatioLikelihood("x", whole, **given, observed=1e6 * x)
    with pm.Model():
        given["mu"] = pm.Normal("mu", 1, 0.1)
        nre.RatioLikelihood("one", whole, **given, observed=x[:1])
        with pytest.warns(nre.TrialsWarning, match="57 steps of series share mu"):
            nre.RatioLikelihood("x", whole, **given, observed=x)


class Exact(RatioNetwork):
    """log N(x; phi past, 1), up to what the past and x tell alone; or as if it were sharper."""

    def __init__(self, sharper=1.0):
        super().__init__(1, (2,))
        self.sharper = sharper

    def embed(self, packed):
        return packed

    def head(self, theta, features):
        x, past = features[..., 0], features[..., 1]
        return -self.sharper * (x - theta[..., 0] * past) ** 2 / 2


@pytest.mark.parametrize(("sharper", "verdict"), [(1.0, "right"), (3.0, "too narrow")])
def test_simulated_series_tell_whether_it_is_calibrated(sharper, verdict):
    phi = np.random.default_rng(1).uniform(-0.9, 0.9, (2_000, 1))
    ratio = nre.RatioEstimator(
        Exact(sharper), {"phi": ()}, domain=Domain.from_draws(phi), normalized=False,
        probe_x=np.zeros((5, 2)), conditions=Conditions({"past": (1,)}, (), (-9.0,), (9.0,)),
    )  # fmt: skip
    made = nre.simulate_series(
        {"phi": pm.Uniform.dist(-0.9, 0.9)},
        lambda rng, past, phi: rng.normal(phi * past[:, -1], 1.0),
        400, start=[0.0], length=9, batched=True, **QUIET,
    )  # fmt: skip
    ranks = nre.diagnostics.posterior_ranks(nre.whole_series(ratio, 9), made, **QUIET)
    assert nre.diagnostics.sbc(ranks).attrs["verdict"] == verdict


@pytest.mark.parametrize(
    ("ratio", "length", "error", "match"),
    [
        (of_steps(), 1, ValueError, "at least 2, a past of 1 and a value that follows, got 1"),
        (of_steps(3), 3, ValueError, "at least 4"),
        (of_steps(), 2.5, TypeError, "whole_series: length: expected a whole number"),
        (of_steps(others=("dose",)), 9, ValueError, "the condition past alone"),
        (make_estimator(), 9, ValueError, "expected the ratio of one step"),
        (torch.nn.Linear(1, 1), 9, TypeError, "whole_series"),
        (centered(), 9, ValueError, "centered around one posterior. Give the one from before"),
        (
            of_steps(event=(2,), missing=Missing.of(0.2, (2,))),
            9,
            ValueError,
            "got one with missing",
        ),
    ],
)
def test_what_is_no_ratio_of_steps_is_told(ratio, length, error, match):
    with pytest.raises(error, match=match):
        nre.whole_series(ratio, length)
