"""Minibatches of a direct ratio have the denominator of the whole data."""

import numpy as np
import pymc as pm
import pytest
from direct_ratios import direct

import pymc_nre as nre
from pymc_nre.estimators.direct import best_reference
from pymc_nre.likelihood.minibatches import some_of_the_whole

X = np.random.default_rng(4).normal(1.0, 1.0, 2_500)
MODULES = ("random_variable", "ratio_likelihood")


@pytest.fixture
def batch_by_batch(monkeypatch):
    """What the twins do: choose by the minibatch alone."""
    for module in MODULES:
        name = f"pymc_nre.likelihood.{module}.some_of_the_whole"
        monkeypatch.setattr(name, lambda x, conditions=None: (x, conditions))


def minibatch(ratio, whole=X, size=5, **options):
    with pm.Model() as model:
        data = pm.Data("data", whole) if options.pop("replaceable", False) else whole
        batch, mu = pm.Minibatch(data, batch_size=size), pm.Normal("mu", 0, 2)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=batch, total_size=len(X), **options)
    return model


def at_the_reference(model, whole=X, draws=30):
    """Log likelihoods of minibatches where the whole data have their reference: none."""
    [reference] = best_reference(direct(), whole)
    compiled = model.compile_logp(vars=model.observed_RVs)
    return np.array([float(compiled({"mu": reference})) for _ in range(draws)])


@pytest.mark.parametrize("replaceable", [False, True])
def test_all_batches_have_one_reference(replaceable):
    model = minibatch(direct(), replaceable=replaceable)
    assert np.abs(at_the_reference(model)).max() < 1e-8


def test_a_reference_of_each_batch_is_another(batch_by_batch):
    assert np.ptp(at_the_reference(minibatch(direct()))) > 10


def test_it_follows_data_that_are_replaced():
    model = minibatch(direct(), replaceable=True)
    with model:
        pm.set_data({"data": X[:100] - 3})
    assert np.abs(at_the_reference(model, X[:100] - 3)).max() < 1e-8
    assert np.abs(at_the_reference(model, X)).max() > 10


def elbos(ratio, **options):
    with minibatch(ratio, size=5, **options):
        fit = pm.fit(
            300, method="advi", random_seed=1, progressbar=False,
            obj_optimizer=pm.adagrad_window(learning_rate=0.02),
        )  # fmt: skip
    return fit.hist, float(fit.mean.eval().item())


@pytest.fixture(scope="module")
def of_the_reference():
    """What ADVI does by the ordinary ratio to the reference of the whole data."""
    [reference] = best_reference(direct(), X)
    return elbos(direct().relative_to(mu=reference))


def test_advi_has_the_elbo_of_one_denominator(of_the_reference):
    expected, mean = of_the_reference
    found, mean_found = elbos(direct())
    # The same noise and the same batches, so that only rounding can differ.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    assert mean_found == pytest.approx(mean, rel=1e-6)
    # Batches of five are noisy: a standard error of .45 each, of which steps average hundreds.
    assert mean == pytest.approx(X.mean(), abs=0.2)


def test_advi_of_other_denominators_has_another_elbo(of_the_reference, batch_by_batch):
    expected, _ = of_the_reference
    found, _ = elbos(direct())
    assert np.abs(found - expected).max() > 1  # where rounding has less than 1e-4


def test_a_reference_that_is_given_is_taken():
    model = minibatch(direct(), reference={"mu": 0.25})
    compiled = model.compile_logp(vars=model.observed_RVs)
    assert float(compiled({"mu": 0.25})) == pytest.approx(0, abs=1e-9)


@pytest.mark.one_python
@pytest.mark.parametrize("replaceable", [False, True])
def test_conditions_of_minibatches_go_with_them(replaceable):
    rng = np.random.default_rng(1)
    slope, dose = rng.normal(size=400), rng.uniform(0, 1, 400)
    pairs = nre.Simulations({"slope": slope}, rng.normal(slope * dose), conditions={"dose": dose})
    options = {"epochs": 1, "random_seed": 1, "progressbar": False}
    with pytest.warns(nre.TrainingWarning):
        ratio = nre.train(pairs, loss=nre.losses.DNRE(), **options)
    x, given = rng.normal(size=25), rng.uniform(0, 1, 25)
    with pm.Model() as model:
        data = [pm.Data("x_data", x), pm.Data("dose", given)] if replaceable else [x, given]
        some, doses = pm.Minibatch(*data, batch_size=4)
        at = pm.Normal("slope", 0, 1)
        nre.RatioLikelihood("x", ratio, slope=at, dose=doses, observed=some, total_size=25)
        pm.Potential("of_some", nre.log_ratio(ratio, some, slope=at, dose=doses).sum())
    [reference] = best_reference(ratio, np.column_stack([x, given]))
    compiled = model.compile_logp(vars=[model["x"], model["of_some"]], sum=False)
    for _ in range(5):
        for found in compiled({"slope": reference}):
            np.testing.assert_allclose(found, 0, atol=1e-9)


def test_what_is_no_minibatch_is_left_as_it_is():
    with pm.Model():
        data = pm.Data("data", X)
    x, given = data * 2, {"dose": data}
    found, conditions = some_of_the_whole(x, given)
    assert found is x
    assert conditions["dose"] is data
    assert some_of_the_whole(x) == (x, None)


def test_rows_of_much_data_are_as_a_reference_is_chosen_by():
    with pm.Model():
        data = pm.Data("data", X)
    for whole in (X, data):
        found, _ = some_of_the_whole(pm.Minibatch(whole, batch_size=5) + 1.0)
        np.testing.assert_array_equal(found.eval(), X[::3] + 1)
