"""Numbers that single precision cannot hold."""

import numpy as np
import pytest

import pymc_nre as nre
from pymc_nre.training.precision import check_range

MU = np.random.default_rng(1).normal(size=200)
X = np.random.default_rng(2).normal(MU)


def train(mu, x):
    simulations = nre.Simulations({"mu": mu}, x)
    return nre.train(simulations, epochs=1, random_seed=1, progressbar=False)


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1e-50, 1e-40, 1e38, 1e200])
def test_units_that_single_precision_cannot_hold_are_refused(unit):
    message = r" reaches from [\d.e+-]+ to [\d.e+-]+; .* single precision\. Use another unit"
    with pytest.raises(ValueError, match="^x" + message):
        train(MU, X * unit)
    with pytest.raises(ValueError, match="^mu" + message):
        train(MU * unit, X)


@pytest.mark.filterwarnings("ignore:The validation loss:pymc_nre.TrainingWarning")
@pytest.mark.parametrize("unit", [1e-36, 1e-6, 1e35])
def test_other_units_are_taken(unit):
    ratio = train(MU * unit, X * unit)
    assert np.isfinite(ratio.log_ratio(X * unit, mu=MU * unit)).all()


def test_what_is_wrong_is_named():
    values = np.ones((5, 2, 3))
    check_range("x", values)  # a constant is no matter of units
    check_range("x", values * 0)
    values[:, 1, 2] = np.arange(5) * 1e-45
    with pytest.raises(ValueError, match=r"^x \(at \(1, 2\)\) reaches from 0 to 4e-45"):
        check_range("x", values)
