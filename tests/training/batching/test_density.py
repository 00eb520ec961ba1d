"""Densities of priors that cannot be computed for parameters that are impossible."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.raise_op import Assert
from quick_training import quick
from scipy import stats

import pymc_nre as nre
from pymc_nre.simulation.parameters import Layout
from pymc_nre.simulation.prior import Prior
from pymc_nre.training.batching.density import Density

MEANS, SHARES = np.array([-2.0, 0.0, 3.0]), np.array([0.2, 0.3, 0.5])


def choosing():
    """An integer that indexes; the first level is two variables, one of them beside it."""
    k = pm.Categorical("k", SHARES)
    sd = pm.Exponential("sd", 1.0)
    pm.Normal("mu", pt.as_tensor(MEANS)[k], sd)


def asserting():
    """A scale that is checked by the user's own means."""
    rho = pm.Uniform("rho", -1, 1)
    pm.Normal("z", 0, Assert("a scale")(1 - rho**2, pt.all(rho**2 <= 1)), shape=2)


def of_choosing(k, sd, mu):
    if k not in (0, 1, 2) or sd <= 0:
        return -np.inf
    return np.log(SHARES[k]) + stats.expon.logpdf(sd) + stats.norm.logpdf(mu, MEANS[k], sd)


def of_asserting(rho, z):
    return np.log(0.5) + stats.norm.logpdf(z, 0, 1 - rho**2).sum() if abs(rho) < 1 else -np.inf


INDEXING = {"k": [0, 3, 2, -1, 1], "sd": [1, 1, 2, 1, -1], "mu": [0.5] * 5}
PRIORS = {
    "index": (choosing, of_choosing, INDEXING),
    "assert": (asserting, of_asserting, {"rho": [0.5, 1.5, -0.3, -2.0], "z": [[0.1, 0.2]] * 4}),
}


def prior_of(write):
    with pm.Model() as prior:
        write()
    return prior


def test_levels_are_closed_from_above():
    names = [[*level.variables] for level in Prior.of(prior_of(choosing)).levels()]
    assert names == [["k", "sd"], ["k", "sd", "mu"]]
    assert len(Prior.of({"mu": pm.Normal.dist(), "sd": pm.HalfNormal.dist()}).levels()) == 1


@pytest.mark.parametrize("name", PRIORS)
def test_levels_give_the_joint_density(name):
    write, exact, rows = PRIORS[name]
    known = Prior.of(prior_of(write))
    layout = Layout(known.shapes, frozenset({"k"} & known.shapes.keys()))
    density = Density(known, layout, layout.pack({k: v[0] for k, v in rows.items()}))
    expected = [exact(*row) for row in zip(*rows.values(), strict=True)]
    theta = layout.pack({name: np.array(values) for name, values in rows.items()})
    for first in (theta[:1], theta, theta[:1]):
        np.testing.assert_allclose(density(first), expected[: len(first)], rtol=1e-9)
    assert density.by_level
    with pytest.raises(Exception, match=r"out of bounds|a scale"):
        known.log_density(layout.unpack(theta))


def test_levels_are_not_looked_at_where_nothing_is_raised():
    known = Prior.of({"mu": pm.Uniform.dist(-1, 1), "sd": pm.HalfNormal.dist(1)})
    density = Density(known, Layout(known.shapes), np.array([0.0, 1.0]))
    assert density(np.array([[0.0, 1.0], [2.0, -1.0]])).tolist()[1] == -np.inf
    assert not density.by_level


def test_what_always_fails_is_raised():
    def logp(value):
        return Assert("never")(-value, pt.lt(value, 0.5))

    known = Prior.of({"mu": pm.CustomDist.dist(logp=logp, random=uniform)})
    density = Density(known, Layout(known.shapes), np.array([0.1]))
    with pytest.raises(ValueError, match=r"near those that were drawn \(never\).*loss=NREC\(\)"):
        density(np.array([[0.1], [0.9]]))


def uniform(rng=None, size=None):
    return rng.uniform(0, 0.5, size=size)


@pytest.mark.filterwarnings("ignore:.*cannot be told from chance")
@pytest.mark.parametrize("name", PRIORS)
def test_trains(name):
    def simulator(rng, **parameters):
        return rng.normal(np.sum(parameters["mu" if name == "index" else "z"]), 1.0)

    made = nre.simulate(prior_of(PRIORS[name][0]), simulator, 300, random_seed=1, progressbar=False)
    assert "MultiScale" in quick(made, epochs=2).loss
