"""Direct Metropolis: its stationary law without Monte-Carlo noise, and chains of it."""

import numpy as np
import pymc as pm
import pytest
import torch
from direct_ratios import cyclic, direct
from scipy import stats

import pymc_nre as nre
from pymc_nre import losses, tasks
from pymc_nre.steps import DirectRatioMetropolis
from pymc_nre.steps.comparison import Comparison

X = np.random.default_rng(3).normal(0.5, 1.0, 5)
QUIET = {"progressbar": False, "random_seed": 1, "compute_convergence_checks": False}


def model_of(ratio, data=X, **options):
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 2)
        nre.RatioLikelihood("x", ratio, mu=mu, observed=data, **options)
    return model


def stationary(model, comparison, grid, width):
    """The stationary law of Metropolis on a grid, whose proposals are normal steps."""
    prior = stats.norm(0, 2).logpdf(grid)
    logs = np.array([[comparison([one], [other]) for one in grid] for other in grid])
    accepted = np.minimum(1, np.exp(logs + prior[None] - prior[:, None]))
    proposed = np.exp(-0.5 * ((grid[None] - grid[:, None]) / width) ** 2)
    proposed /= proposed.sum(1).max()  # symmetric; what is left over stays
    moves = proposed * accepted
    np.fill_diagonal(moves, 0.0)
    moves += np.diag(1 - moves.sum(1))
    values, vectors = np.linalg.eig(moves.T)
    law = np.real(vectors[:, np.argmax(np.real(values))])
    return law / law.sum()


GRID = np.linspace(-1.5, 2.5, 81)


def exact(grid=GRID, data=X):
    law = np.exp(stats.norm(0, 2).logpdf(grid) + stats.norm(grid[:, None]).logpdf(data).sum(1))
    return law / law.sum()


@pytest.mark.one_python
@pytest.mark.parametrize("antisymmetric", [True, False])
@pytest.mark.parametrize("width", [0.15, 1.0])
def test_stationary_law_of_an_exact_ratio_is_the_posterior(antisymmetric, width):
    model = model_of(direct(antisymmetric=antisymmetric))
    comparison = Comparison(model, model.observed_RVs[0])
    law = stationary(model, comparison, GRID, width)
    np.testing.assert_allclose(law, exact(), atol=1e-8)


@pytest.mark.one_python
def test_plain_head_is_made_antisymmetric():
    """An error that is the same both ways cancels, and would make it wrong otherwise."""

    def sideways(one, other):
        return 0.3 * torch.cos(one[..., 0]) * torch.cos(other[..., 0])

    model = model_of(direct(error=sideways, antisymmetric=False))
    comparison = Comparison(model, model.observed_RVs[0])
    np.testing.assert_allclose(stationary(model, comparison, GRID, 0.3), exact(), atol=1e-8)
    comparison.antisymmetric = True  # its word is taken, as if it were
    assert np.abs(stationary(model, comparison, GRID, 0.3) - exact()).sum() / 2 > 0.02


def test_ratio_that_is_not_transitive_is_off():
    model = model_of(direct(error=cyclic))
    law = stationary(model, Comparison(model, model.observed_RVs[0]), GRID, 0.3)
    assert np.abs(law - exact()).sum() / 2 > 0.01


@pytest.mark.parametrize("outside", ["repel", "reject", "ignore"])
def test_comparison_agrees_with_the_model(outside):
    """Differences of what a model says, with its wall."""
    model = model_of(direct(), outside=outside, reference={"mu": 0.0})
    logp = model.compile_logp(vars=model.observed_RVs)
    comparison = Comparison(model, model.observed_RVs[0])
    for one, other in ((0.3, -0.5), (10.02, 9.0), (9.5, -9.5)):
        expected = logp({"mu": one}) - logp({"mu": other})
        found = comparison([np.array(one)], [np.array(other)])
        assert found == pytest.approx(expected, abs=1e-8) or found == expected == -np.inf


@pytest.mark.parametrize("task", tasks.__all__[:-1])
def test_every_task_is_compared_exactly(task):
    """Metropolis has the law of the ratio that it is told, and this is that of the likelihoods."""
    task = getattr(tasks, task)()
    simulations = task.simulate(7, random_seed=1)
    x, draws = simulations.x, simulations.parameters
    one, other = ({name: value[k] for name, value in draws.items()} for k in (0, 1))
    with pm.Model() as model:
        nre.RatioLikelihood("x", direct(task), observed=x, **one)
    comparison = Comparison(model, model.observed_RVs[0])
    found = comparison([*one.values()], [*other.values()])
    expected = (task.log_ratio(x, **one) - task.log_ratio(x, **other)).sum()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-8)


def test_compiled_and_torch_agree():
    simulations = tasks.LocationScale().simulate(2_000, random_seed=1)
    ratio = nre.train(simulations, loss=losses.DNRE(), epochs=3, random_seed=1, progressbar=False)
    with pm.Model() as model:
        nre.RatioLikelihood("x", ratio, mu=pm.Normal("mu"), log_sigma=0.1, observed=X)
    comparison = Comparison(model, model.observed_RVs[0])
    one, other = ([np.array(0.4), np.array(0.1)], [np.array(-0.2), np.array(0.3)])
    named = [dict(zip(ratio.parameters, values, strict=True)) for values in (one, other)]
    expected = ratio.log_ratio(X, reference=named[1], **named[0]).sum()
    assert comparison.evaluator is not ratio.evaluator
    assert comparison(one, other) == pytest.approx(expected, abs=1e-9)


def test_chain_has_the_posterior():
    with model_of(direct()):
        idata = pm.sample(4_000, tune=500, step=DirectRatioMetropolis(), chains=2, cores=1, **QUIET)
    precision = 1 / 4 + len(X)
    draws = idata["posterior"]["mu"]
    # 8,000 draws, some six of which count for one: five standard errors.
    error = 5 / np.sqrt(1_300 * precision)
    assert float(draws.mean()) == pytest.approx(X.sum() / precision, abs=error)
    assert float(draws.std()) == pytest.approx(precision**-0.5, rel=5 / np.sqrt(2 * 1_300))
    cycles = idata["sample_stats"]["transitivity"]
    assert float(cycles[..., -1].max()) < 1e-9


@pytest.mark.one_python
def test_hierarchy_beside_nuts():
    """Group means by direct steps, what they come from by NUTS; known exactly."""
    data = np.random.default_rng(4).normal([[0.5], [1.5], [-1.0]], 1.0, (3, 4))
    with pm.Model():
        middle = pm.Normal("middle", 0, 2)
        mu = pm.Normal("mu", middle, 1.0, shape=3)
        nre.RatioLikelihood("x", direct(), mu=mu[:, None], observed=data)
        steps = [pm.NUTS([middle]), DirectRatioMetropolis([mu])]
        idata = pm.sample(2_000, tune=400, step=steps, chains=2, cores=1, **QUIET)
    # Means of groups have variance 1 + 1/4 around the middle.
    precision = 1 / 4 + 3 / 1.25
    expected = data.mean(1).sum() / 1.25 / precision
    # 4,000 draws, some dozen of which count for one.
    error = 5 / np.sqrt(330 * precision)
    assert float(idata["posterior"]["middle"].mean()) == pytest.approx(expected, abs=error)
    groups = idata["posterior"]["mu"].mean(("chain", "draw")).to_numpy()
    means = (4 * data.mean(1) + expected) / 5
    np.testing.assert_allclose(groups, means, atol=5 * np.sqrt(0.3 / 330))


def test_steps_of_hyperparameters_alone_do_not_evaluate_the_network(monkeypatch):
    """They leave what the data depend on where it is."""
    compared = []

    def counted(self, one, other):
        compared.append((one, other))
        return 0.0

    monkeypatch.setattr(Comparison, "__call__", counted)
    with pm.Model():
        middle = pm.Normal("middle", 0, 2)
        mu = pm.Normal("mu", middle, 1.0)
        nre.RatioLikelihood("x", direct(), mu=mu, observed=X)
        DirectRatioMetropolis([middle]).delta_logp(np.array([0.2]), np.array([0.1]))
        assert not compared
        DirectRatioMetropolis([mu]).delta_logp(np.array([0.2]), np.array([0.1]))
    assert compared == [([0.2], [0.1])]


def test_other_likelihoods_and_integers_count_too():
    """An ordinary ratio of the same parameter, a transformed one, and a Poisson rate's counts."""
    counts = np.array([2, 4, 3])
    task = tasks.PoissonRate()
    name = next(iter(task.estimator().parameters))
    with pm.Model() as model:
        rate = pm.Uniform("rate", 0.5, 8.0)
        nre.RatioLikelihood("x", direct(task), observed=counts, **{name: rate})
        nre.RatioLikelihood("y", task.estimator(), observed=counts, **{name: rate})
        step = DirectRatioMetropolis()
    point = model.initial_point()
    q, q0 = np.array([0.7]), np.array([-0.3])
    full = model.compile_logp()
    expected = full({"rate_interval__": q[0]}) - full({"rate_interval__": q0[0]})
    assert point.keys() == {"rate_interval__"}
    assert step.delta_logp(q, q0) == pytest.approx(expected, abs=1e-8)


def test_cycles_that_do_not_close_are_told(caplog):
    def turning(one, other):
        return 0.5 * torch.sin(4 * one[..., 0]) * torch.cos(4 * other[..., 0])

    with model_of(direct(error=turning)), caplog.at_level("WARNING", "pymc"):
        idata = pm.sample(500, tune=300, step=DirectRatioMetropolis(), chains=1, **QUIET)
    assert "cycles of three points" in caplog.text
    assert float(idata["sample_stats"]["transitivity"][0, -1]) > 0.3


@pytest.mark.one_python
def test_chains_in_other_processes():
    options = QUIET | {"mp_ctx": "forkserver"}
    with model_of(direct()):
        step = DirectRatioMetropolis()
        one = pm.sample(50, tune=50, step=step, chains=2, cores=2, **options)
        other = pm.sample(50, tune=50, step=DirectRatioMetropolis(), chains=2, cores=1, **QUIET)
    np.testing.assert_array_equal(one["posterior"]["mu"], other["posterior"]["mu"])


def test_step_follows_data_that_are_replaced():
    """One step in two chains: the second had the posterior of the data of the first."""
    with pm.Model() as model:
        data, mu = pm.Data("data", X), pm.Normal("mu", 0, 2)
        nre.RatioLikelihood("x", direct(), mu=mu, observed=data)
        step = DirectRatioMetropolis()
    point = model.initial_point()
    logp = model.compile_logp()
    for values in (X, X - 3, np.tile(X, 3)):
        with model:
            pm.set_data({"data": values})
        step.step(point)
        expected = logp({"mu": 0.7}) - logp({"mu": -0.4})
        assert step.delta_logp(np.array([0.7]), np.array([-0.4])) == pytest.approx(expected)


def test_models_it_cannot_step_in_are_refused():
    with pm.Model():
        mu = pm.Normal("mu")
        nre.RatioLikelihood("x", tasks.GaussianMean().estimator(), mu=mu, observed=X)
        with pytest.raises(ValueError, match=r"expected a model with a RatioLikelihood of a dir"):
            DirectRatioMetropolis()
    with pm.Model():
        some = pm.Minibatch(X, batch_size=2)
        nre.RatioLikelihood("x", direct(), mu=pm.Normal("mu"), observed=some, total_size=len(X))
        with pytest.raises(ValueError, match="observed by minibatches"):
            DirectRatioMetropolis()
    with pytest.raises(TypeError, match="No model"):
        DirectRatioMetropolis()
