"""Data sets of a model's own making, in the place of its data."""

import numpy as np
import pymc as pm
import pytest
from calibrated import RATIO, SHORT, TASK, a_mean, nearly_exact
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.diagnostics import sbc_model
from pymc_nre.diagnostics.model_sbc.replicates import Replicates, data_name
from pymc_nre.exceptions import CannotDrawError
from pymc_nre.networks import MLP, Dense


def of_twelve(network):
    ratio = make_estimator({"mu": ()}, (12,), network)
    return ratio.replace(simulator=lambda rng, mu: rng.normal(mu, 1.0, 12))


@pytest.mark.parametrize(
    ("make", "engine", "event"),
    [
        (lambda: RATIO, "auto", ()),
        (TASK.estimator, "torch", ()),
        (lambda: of_twelve(MLP((4,))), "auto", (12,)),
        (lambda: of_twelve(MLP((4,), embedding=Dense((3,)))), "auto", (12,)),
    ],
)
def test_data_enter_where_the_data_were(make, engine, event):
    ratio = make()

    def model(x, y):
        with pm.Model() as model:
            mu = pm.Normal("mu", 0, 2)
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x, engine=engine, outside="ignore")
            pm.Poisson("y", pm.math.exp(mu / 4), observed=y)
        return model

    drawn = Replicates(model(np.zeros((3, *event)), np.zeros(2, int)), None)
    log_density = drawn.model.compile_logp()
    for seed in range(2):
        data = drawn.draw(np.random.default_rng(seed)).data
        for name, values in data.items():
            shared = drawn.model.rvs_to_values[drawn.model[name]]
            assert shared.name == data_name(name)
            shared.set_value(values)
        expected = model(**data).compile_logp()({"mu": 0.7})
        assert log_density({"mu": 0.7}) == pytest.approx(expected, rel=1e-12)


def improper():
    return pm.Flat("mu")


def ordered():
    return pm.Normal("mu", 0, 1, shape=2, transform=pm.distributions.transforms.ordered)[0]


def cut_off():
    return pm.Normal("mu", 0, 1, transform=pm.distributions.transforms.log)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (improper, "not possible for all of its variables.*proper priors"),
        (ordered, "mu: the model's prior draws values that its sampler cannot reach"),
        (cut_off, "mu: the model's prior draws values that its sampler cannot reach"),
    ],
)
def test_priors_that_are_not_drawn_from(prior, message):
    with pm.Model() as model:
        nre.RatioLikelihood("x", RATIO, mu=prior(), observed=np.zeros(2), outside="ignore")
    with pytest.raises(ValueError, match=message):
        sbc_model(model, replicates=20, **SHORT)


def five_numbers(mu, rng=None, size=None):
    return rng.normal(mu, 1.0, size=5)


def test_data_of_another_shape_are_refused():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        logp = {"logp": lambda value, mu: -((value - mu) ** 2)}
        pm.CustomDist("y", mu, **logp, random=five_numbers, observed=np.zeros(3))
    with pytest.raises(CannotDrawError, match=r"y: data drawn .* \(5,\), and its own \(3,\)"):
        Replicates(model, None).draw(np.random.default_rng(1))


def test_models_that_cannot_be_calibrated():
    with a_mean() as model:
        pm.Potential("p", -(model["mu"] ** 2))
    with pytest.raises(ValueError, match=r"potentials.* \(p\)"):
        sbc_model(model)
    alone = nearly_exact().replace(simulator=None)
    with pytest.raises(ValueError, match=r"x: sbc_model needs the simulator.*simulator=simulator"):
        sbc_model(a_mean(alone))
    with pm.Model() as minibatch:
        mu = pm.Normal("mu")
        nre.RatioLikelihood("x", RATIO, mu=mu, observed=np.zeros(2), total_size=10)
    with pytest.raises(ValueError, match="x: sbc_model cannot use total_size="):
        sbc_model(minibatch)
    with pm.Model() as empty:
        pm.Normal("mu")
    with pytest.raises(ValueError, match="needs a model with data"):
        sbc_model(empty)
