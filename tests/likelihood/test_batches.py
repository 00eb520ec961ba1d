"""The batch of a likelihood is that of its data; tables of log ratios broadcast."""

import numpy as np
import pymc as pm
import pytest
from pymc.logprob.utils import ParameterValueError
from untrained import make_estimator

import pymc_nre as nre

RATIO = nre.tasks.GaussianMean().estimator()
VECTOR = make_estimator({"a": (), "b": (2,)}, (3,))
RNG = np.random.default_rng(1)
# Data that the parameters would repeat, and the posterior with them.
REPEATED = [
    ((60, 1), (60,)),
    ((1,), (6,)),
    ((1, 6), (3, 6)),
    ((6, 1), (1, 4)),
    ((6, 1), (6, 4)),
    ((1, 1), (3, 3)),
]


def model_of(x, shape, likelihood=None, mutable=False, **options):
    with pm.Model(**options) as model:
        mu = pm.Normal("mu", 0, 1, shape=shape)
        x = pm.Data("data", x) if mutable else x
        (likelihood or nre.RatioLikelihood)("x", RATIO, mu=mu, observed=x)
    return model


def custom(name, ratio, *, mu, observed):
    def dist(mu, size):
        return nre.RatioLikelihood.dist(ratio, mu=mu, size=size)

    pm.CustomDist(name, mu, dist=dist, observed=observed)


@pytest.mark.parametrize(("x", "mu"), REPEATED, ids=str)
def test_data_are_not_repeated_by_parameters(x, mu):
    expected = r"batch shape \(.*\), but the observations have .*expected the same.*nre\.log_ratio"
    with pytest.raises(ValueError, match=rf"x: parameter 'mu' has the {expected}"):
        model_of(np.zeros(x), mu)
    with pytest.raises(ValueError, match=expected):
        model_of(np.zeros(x), mu, custom).compile_logp()
    with pytest.raises(ValueError, match=expected):
        pm.logp(nre.RatioLikelihood.dist(RATIO, mu=np.zeros(mu)), np.zeros(x))


@pytest.mark.parametrize(("x", "mu"), [*REPEATED, ((4,), (6,)), ((6, 4), (4, 1))], ids=str)
def test_data_that_can_be_replaced_are_not_repeated_either(x, mu):
    model = model_of(np.zeros(x), mu, mutable=True)
    point = {"mu": np.zeros(mu)}
    with pytest.raises(ParameterValueError, match=r"batch shape of its observations.*set_data"):
        model.compile_logp()(point)
    with pytest.raises(ValueError, match=r"shape|size"):  # which is seen first is the linker's
        model.compile_dlogp()(point)


@pytest.mark.parametrize("mutable", [False, True])
@pytest.mark.parametrize(
    ("x", "mu"), [((6, 4), (6, 1)), ((6, 4), (4,)), ((6, 1), (6, 1)), ((6, 1), (1,)), ((5,), (1,))]
)
def test_parameters_are_repeated_by_data(x, mu, mutable):
    x, value = RNG.normal(size=x), RNG.normal(size=mu)
    model = model_of(x, mu, mutable=mutable)
    pointwise = model.compile_fn(model.logp(vars=[model["x"]], sum=False)[0])({"mu": value})
    assert pointwise.shape == x.shape
    np.testing.assert_allclose(pointwise, RATIO.log_ratio(x, mu=value), rtol=1e-12)


def test_replaced_data_must_keep_to_the_parameters():
    model = model_of(np.zeros(6), 6, mutable=True)
    function, point = model.compile_logp(), {"mu": np.zeros(6)}
    assert np.isfinite(function(point))
    for length in (1, 5):
        with model:
            pm.set_data({"data": np.zeros(length)})
        with pytest.raises(ParameterValueError, match="Replace data and parameters together"):
            function(point)


def test_without_the_check_it_is_an_error_all_the_same():
    model = model_of(np.zeros(1), 6, mutable=True, check_bounds=False)
    with pytest.raises((ValueError, AssertionError)):
        model.compile_logp()({"mu": np.zeros(6)})


def test_vector_parameters_have_batches_before_their_own_axes():
    def model(x, a, b):
        with pm.Model():
            a, b = pm.Normal("a", shape=a), pm.Normal("b", shape=b)
            nre.RatioLikelihood("x", VECTOR, a=a, b=b, observed=np.zeros(x), outside="ignore")

    model((5, 3), (5,), (2,))
    model((5, 3), (), (5, 2))
    with pytest.raises(ValueError, match=r"'b' has the batch shape \(5,\).*have \(1,\)"):
        model((1, 3), (), (5, 2))
    with pytest.raises(ValueError, match=r"'a' has the batch shape \(2,\).*have \(5,\)"):
        model((5, 3), (2,), (2,))


def test_tables_broadcast_both_sides():
    for x, mu in REPEATED:
        x, mu = RNG.normal(size=x), RNG.normal(size=mu)
        table = nre.log_ratio(RATIO, x, mu=mu).eval()
        np.testing.assert_allclose(table, RATIO.log_ratio(x, mu=mu), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3)])
def test_log_ratio_tells_which_parameter_does_not_broadcast(shape):
    ratio = nre.tasks.GaussianMean().estimator()
    with pytest.raises(ValueError, match=r"^log_ratio: mu: its batch .* with that of x, \(4,\)"):
        nre.log_ratio(ratio, np.zeros(4), mu=np.zeros(shape), outside="ignore")
