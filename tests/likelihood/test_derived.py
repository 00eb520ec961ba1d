"""Nothing is derived from a ratio that would need a density in x, however it is asked for."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.pytensorf import collect_default_updates
from scipy import stats

import pymc_nre as nre

TASK = nre.tasks.GaussianMean()
RATIO = TASK.estimator()
X = np.random.default_rng(1).normal(0.5, 1.0, 12)
HOLES = np.where(np.arange(12) == 3, np.nan, X)
SPREAD = pm.Normal.dist


def ratio_of(mu, size):
    return nre.RatioLikelihood.dist(RATIO, mu=mu, size=size)


def wrapped(mu):
    return pm.CustomDist.dist(mu, dist=ratio_of)


def custom(dist, x=X):
    return lambda mu, w: pm.CustomDist("x", mu, w, dist=dist, observed=x)


def indicated(mu, w):
    z = pm.Bernoulli("z", w)
    return pm.CustomDist(
        "x", mu, z, observed=X,
        dist=lambda mu, z, size: pt.switch(z, ratio_of(mu, size), SPREAD(0, 5, size=size)),
    )  # fmt: skip


DERIVED = {
    "holes": custom(lambda mu, w, size: ratio_of(mu, size), HOLES),
    "affine": custom(lambda mu, w, size: mu + 2 * ratio_of(0.0, size)),
    "constant affine": custom(lambda mu, w, size: 1 + 2 * ratio_of(mu, size)),
    "exponential": custom(lambda mu, w, size: pt.exp(ratio_of(mu, size)), np.exp(X)),
    "rearranged and mapped": custom(lambda mu, w, size: pt.exp(ratio_of(mu, (13,))[1:]), np.exp(X)),
    "clipped": custom(lambda mu, w, size: pt.clip(ratio_of(mu, size), -1, 1), np.clip(X, -1, 1)),
    "beside a density": custom(
        lambda mu, w, size: pt.stack([ratio_of(mu, size), SPREAD(0, 5, size=size)])[
            pm.Bernoulli.dist(w)
        ]
    ),
    "mixture inside": custom(
        lambda mu, w, size: pm.Mixture.dist([w, 1 - w], [wrapped(mu), SPREAD(0, 5)], size=size)
    ),
    "mixture outside": lambda mu, w: pm.Mixture(
        "x", [w, 1 - w], [wrapped(mu), SPREAD(0, 5)], observed=X
    ),
    "switched by an indicator": indicated,
    "censored": lambda mu, w: pm.Censored("x", wrapped(mu), lower=-1, upper=1, observed=X),
    "truncated": lambda mu, w: pm.Truncated("x", wrapped(mu), lower=-5, upper=5, observed=X),
    "logp of a map": lambda mu, w: pm.Potential("x", pm.logp(2 * wrapped(mu), X).sum()),
    "logp of another": lambda mu, w: pm.Potential(
        "x", pm.logp(pt.exp(nre.RatioLikelihood.dist(RATIO, mu=mu)), np.exp(X)).sum()
    ),
}


def model_of(fill):
    with pm.Model() as model:
        fill(pm.Normal("mu", 0, 1), pm.Beta("w", 2, 2))
    return model


@pytest.mark.filterwarnings("ignore:Data in x contains missing values")
@pytest.mark.parametrize("fill", DERIVED.values(), ids=DERIVED)
def test_what_is_made_of_a_ratio_has_no_density(fill):
    with pytest.raises(ValueError, match=r"cannot be part of a mixture, a map.*not a density in x"):
        model_of(fill).logp()


def by_logp(ratio, mu):
    return pm.CustomDist.dist(mu, logp=lambda x, mu: nre.log_ratio(ratio, x, mu=mu))


OTHER = nre.tasks.GaussianMean(5.0).estimator()
MIXED = {
    "wrapped, beside a density": lambda: [wrapped(0.5), SPREAD(0, 5)],
    "a density, beside wrapped": lambda: [SPREAD(0, 5), wrapped(0.5)],
    "wrapped twice": lambda: [pm.CustomDist.dist(0.5, dist=lambda mu, size: wrapped(mu)), SPREAD()],
    "beside a point mass": lambda: [pm.DiracDelta.dist(0.0), wrapped(0.5)],
    "values of one ratio": lambda: nre.RatioLikelihood.dist(RATIO, mu=np.array([0.5, 0.1])),
    "by logp, beside a density": lambda: [by_logp(RATIO, 0.5), SPREAD(0, 5)],
    "by logp, two ratios": lambda: [by_logp(RATIO, 0.5), by_logp(OTHER, 0.5)],
}


@pytest.mark.parametrize("components", MIXED.values(), ids=MIXED)
def test_mixtures_by_hand_are_refused_too(components):
    mixture = pm.Mixture.dist([0.3, 0.7], components())
    with pytest.raises(ValueError, match=r"cannot be part of a mixture.*not a density in x"):
        pm.logp(mixture, X)


def test_mixtures_of_one_ratio_and_of_densities_have_their_log_density():
    weights = np.array([0.3, 0.7])

    def value(components):
        return pm.logp(pm.Mixture.dist(weights, components), X).eval()

    got = value([by_logp(RATIO, 0.5), by_logp(RATIO, 0.1)])
    ratios = np.exp([RATIO.log_ratio(X, mu=mu) for mu in (0.5, 0.1)])
    np.testing.assert_allclose(got, np.log(weights @ ratios), rtol=1e-9)
    densities = [stats.norm.pdf(X, mu, 1) for mu in (0.5, 0.1)]
    np.testing.assert_allclose(value([SPREAD(0.5, 1), SPREAD(0.1, 1)]), np.log(weights @ densities))


def series(step):
    def dist(mu, size):
        def next_one(previous, mu):
            x = step(mu + 0.1 * previous)
            return x, collect_default_updates([x])

        x, _ = pytensor.scan(next_one, None, [pt.zeros(())], [mu], 12, strict=True)
        return x

    return pm.CustomDist.dist(0.3, dist=dist, ndim_supp=1)


@pytest.mark.filterwarnings("ignore:Scan return signature will change:DeprecationWarning")
def test_series_have_the_log_ratio_of_each_step_and_no_maps():
    got = pm.logp(series(lambda mu: ratio_of(mu, None)), X).eval()
    expected = RATIO.log_ratio(X, mu=0.3 + 0.1 * np.append(0.0, X[:-1]))
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    with pytest.raises(ValueError, match="cannot be part of a mixture, a map"):
        pm.logp(series(lambda mu: 2 * ratio_of(mu, None)), X)


WHOLE = {
    "itself": lambda mu, w, size: ratio_of(mu, size),
    "some of it": lambda mu, w, size: ratio_of(mu, (13,))[1:],
    "twice wrapped": lambda mu, w, size: pm.CustomDist.dist(mu, dist=ratio_of, size=size),
}


@pytest.mark.parametrize("dist", WHOLE.values(), ids=WHOLE)
def test_the_ratio_itself_has(dist):
    model = model_of(custom(dist))
    pointwise = model.compile_fn(model.logp(vars=[model["x"]], sum=False)[0])
    expected = RATIO.log_ratio(X, mu=0.3)
    np.testing.assert_allclose(pointwise({"mu": np.array(0.3)}), expected, rtol=1e-12)


def test_a_free_variable_of_another_name_has_no_start():
    model = model_of(lambda mu, w: pm.CustomDist("x", mu, dist=ratio_of))
    with pytest.raises(ValueError, match="must be observed"):
        model.initial_point()


def test_cumulative_densities_are_refused():
    with pytest.raises(ValueError, match="not a density in x"):
        pm.logcdf(nre.RatioLikelihood.dist(RATIO, mu=0.0), X)


def test_lapses_to_what_the_training_prior_predicts_are_exact():
    """Its density is p(x), and the log of p(x) / p(x) is zero: no other density is needed."""

    def lapses(x, mu, w):
        return pt.logaddexp(pt.log1p(-w) + nre.log_ratio(RATIO, x, mu=mu), pt.log(w))

    model = model_of(lambda mu, w: pm.CustomDist("x", mu, w, logp=lapses, observed=X))
    pointwise = model.compile_fn(model.logp(vars=[model["x"]], sum=False)[0])
    log_evidence = TASK.log_evidence(X)
    for mu, logit in ((0.0, -1.0), (1.5, 2.0)):
        w = 1 / (1 + np.exp(-logit))
        density = (1 - w) * stats.norm.pdf(X, mu, 1) + w * np.exp(log_evidence)
        got = pointwise({"mu": np.array(mu), "w_logodds__": np.array(logit)})
        np.testing.assert_allclose(got, np.log(density) - log_evidence, rtol=1e-9, atol=1e-12)
