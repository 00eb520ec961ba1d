"""One chain for each data set, with one compilation."""

import numpy as np
import pymc as pm
import pytest
from calibrated import SHORT, an_integer

from pymc_nre.diagnostics import sbc_model
from pymc_nre.diagnostics.model_sbc.chains import Chains
from pymc_nre.diagnostics.model_sbc.replicates import Replicates


def test_discrete_variables_and_initial_values():
    options = SHORT | {"sampler": "auto", "draws": 600}
    found = sbc_model(an_integer(), replicates=3, **options)
    assert found.attrs["sampler"] == "pymc"
    assert ((found["pit"] >= 0) & (found["pit"] <= 1)).all()
    assert (found["truth"].sel(parameter="k") % 1 == 0).all()
    with pytest.raises(ValueError, match=r"continuous variables only, not k.*sampler='pymc'"):
        sbc_model(an_integer(), sampler="nutpie")


def test_a_chain_does_not_depend_on_those_before():
    # k is stepped by Metropolis beside NUTS, and has to be tuned again.
    with pm.Model() as model:
        k = pm.Poisson("k", 1_000_000)
        pm.Normal("y", k + 100 * pm.Normal("mu", 0, 1), 300, observed=np.zeros(3))
    replicates = Replicates(model, None)
    first, second = (replicates.draw(np.random.default_rng(seed)).data for seed in (1, 2))
    options = ["k", "mu"], "pymc", 400, 400, 0.9
    alone, _ = Chains(replicates.model, *options)(second, np.random.SeedSequence(5))
    chains = Chains(replicates.model, *options)
    chains(first, np.random.SeedSequence(4))
    after, _ = chains(second, np.random.SeedSequence(5))
    np.testing.assert_array_equal(after["k"], alone["k"])
