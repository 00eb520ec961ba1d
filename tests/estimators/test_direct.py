"""Estimators of direct ratios: called, converted, saved, and refused where they mean nothing."""

import numpy as np
import pymc as pm
import pytest
import torch
from direct_ratios import cyclic, direct

import pymc_nre as nre
from pymc_nre import losses, tasks
from pymc_nre.estimators import evaluator
from pymc_nre.estimators.contents import problems
from pymc_nre.estimators.direct import against, beside_reference, best_reference
from pymc_nre.networks import MLP
from pymc_nre.runtime.stored import Form

RNG = np.random.default_rng(1)
X = RNG.normal(0.5, 1.0, 20)


@pytest.fixture(scope="module", params=["antisymmetric", "plain"])
def trained(request):
    simulations = tasks.LocationScale().simulate(2_000, random_seed=1)
    loss = losses.DNRE(request.param, 3)
    return nre.train(simulations, loss=loss, epochs=3, random_seed=1, progressbar=False)


def test_value_is_the_difference_of_log_likelihoods():
    task, mu, other = tasks.GaussianMean(), RNG.uniform(-3, 3, 20), RNG.uniform(-3, 3, 20)
    found = direct(task).log_ratio(X, mu=mu, reference={"mu": other})
    expected = task.log_ratio(X, mu=mu) - task.log_ratio(X, mu=other)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("mu", "reference", "shape"),
    [
        (0.5, 0.0, (20,)),
        (np.zeros(20), 0.0, (20,)),
        (0.5, np.zeros(20), (20,)),
        (np.zeros((3, 1)), np.zeros(20), (3, 20)),
        (0.5, np.zeros((4, 1)), (4, 20)),
    ],
)
def test_batches_broadcast(mu, reference, shape):
    found = direct().log_ratio(X, mu=mu, reference={"mu": reference})
    assert found.shape == shape
    pairs = np.broadcast_arrays(X, mu, reference)
    one = [
        float(direct().log_ratio(x, mu=m, reference={"mu": r}))
        for x, m, r in zip(*map(np.ravel, pairs), strict=True)
    ]
    np.testing.assert_allclose(found.ravel(), one, atol=1e-12)


def test_reference_is_asked_for_and_refused():
    with pytest.raises(
        TypeError, match=r"expected what to compare with, reference=\{'mu': \.\.\.\}"
    ):
        direct().log_ratio(X, mu=0.0)
    with pytest.raises(TypeError, match="has a denominator of its own"):
        tasks.GaussianMean().estimator().log_ratio(X, mu=0.0, reference={"mu": 1.0})
    with pytest.raises(TypeError, match="log_ratio: reference"):
        direct().log_ratio(X, mu=0.0, reference={"sigma": 1.0})


def test_fixed_reference_makes_an_ordinary_ratio():
    task = tasks.GaussianMean()
    ratio = direct(task).relative_to(mu=0.7)
    expected = task.log_ratio(X, mu=0.2) - task.log_ratio(X, mu=0.7)
    np.testing.assert_allclose(ratio.log_ratio(X, mu=0.2), expected, atol=1e-10)
    assert ratio.reference == "fixed"
    assert "p(x | mu_ref)" in repr(ratio)
    assert "reference   mu = 0.7" in repr(ratio)
    assert "by 50 draws of the training prior" in repr(direct().marginal(50))
    with pytest.raises(ValueError, match="one value of each parameter"):
        direct().relative_to(mu=[0.0, 1.0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        direct().relative_to(mu=np.nan)
    with pytest.raises(TypeError, match="expected a direct ratio"):
        ratio.relative_to(mu=0.0)


def test_average_over_the_prior_is_the_ratio_to_the_evidence():
    task = tasks.GaussianMean()
    ratio = direct(task).marginal(2_000)
    x = np.array([-8.0, -1.0, 0.0, 3.0])
    # The mean of e^-f over S draws of U(-10, 10) has a relative error of sqrt(20 / 3.5 / S) = .053.
    np.testing.assert_allclose(ratio.log_ratio(x, mu=x), task.log_ratio(x, mu=x), atol=0.2)
    assert ratio.reference == "evidence"
    few = direct(task).marginal(3)
    assert np.abs(few.log_ratio(x, mu=x) - task.log_ratio(x, mu=x)).max() > 0.2
    with pytest.raises(
        ValueError, match=r"marginal: draws: expected at most [\d,]+, got 1,000,000"
    ):
        direct().marginal(1_000_000)


def test_marginal_takes_no_more_memory_for_more_rows(monkeypatch):
    ratio, widest = direct().marginal(100), []
    head = type(ratio.network).head

    def watched(self, theta, features):
        widest.append(max(len(theta), len(features)) * self.evaluations)
        return head(self, theta, features)

    monkeypatch.setattr(type(ratio.network), "head", watched)
    ratio.log_ratio(np.zeros(5_000), mu=np.zeros(5_000))
    assert max(widest) <= evaluator._BLOCK


def test_saved_and_loaded(trained, tmp_path):
    path = tmp_path / "direct.nre"
    mu, log_sigma = trained.parameters
    fixed = trained.relative_to(**{mu: 0.1, log_sigma: 0.2})
    for ratio in (trained, fixed, trained.marginal(50)):
        ratio.save(path)
        loaded = nre.load(path)
        assert loaded == ratio
        assert loaded.specification == ratio.specification == MLP((64, 64))
        assert repr(loaded).splitlines()[:-1] == repr(ratio).splitlines()[:-1]
        assert loaded.to("cpu") == ratio


def own(theta_size, event_shape):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(theta_size + 1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
            )

        def forward(self, theta, x):
            return self.layers(torch.cat([theta, x.reshape(len(x), 1)], -1))

    return Own()


def test_own_network_is_saved_and_loaded(tmp_path):
    path = tmp_path / "own.nre"
    simulations = tasks.LocationScale().simulate(2_000, random_seed=1)
    options = {"epochs": 20, "random_seed": 1, "progressbar": False}
    ratio = nre.train(simulations, loss=losses.DNRE(), network=own, **options)
    ratio.save(path)
    assert nre.load(path, network=own) == ratio


def test_ensemble_stays_antisymmetric(tmp_path):
    simulations = tasks.LocationScale().simulate(500, random_seed=1)
    options = {"epochs": 1, "random_seed": 1, "progressbar": False, "members": 2}
    ratio = nre.train(simulations, loss=losses.DNRE(), **options)
    one, other = ({"mu": m, "log_sigma": s} for m, s in ((0.1, 0.2), (1.0, -0.3)))
    forth = ratio.log_ratio(X, reference=other, **one)
    np.testing.assert_allclose(forth, -ratio.log_ratio(X, reference=one, **other), atol=1e-12)
    for made in (ratio, ratio.marginal(20)):
        made.save(tmp_path / "e.nre")
        assert nre.load(tmp_path / "e.nre") == made
        assert made.members == 2


@pytest.mark.parametrize("make", [lambda r: r.marginal(20), lambda r: r.relative_to(mu=0.5)])
def test_ensembles_are_made_of_direct_ratios_themselves(make):
    with pytest.raises(ValueError, match=r"was made of a direct one\. Combine those from before"):
        nre.ensemble([make(direct()), make(direct())])


def test_additive_head_is_an_ordinary_estimator():
    simulations = tasks.GaussianMean().simulate(1_500, random_seed=1)
    options = {"epochs": 2, "random_seed": 1, "progressbar": False}
    ratio = nre.train(simulations, loss=losses.DNRE("additive", 2), **options)
    same = nre.train(simulations, loss=losses.NREB(2), **options)
    assert not ratio.is_direct
    assert not ratio.normalized
    np.testing.assert_allclose(ratio.log_ratio(X, mu=0.3), same.log_ratio(X, mu=0.3), rtol=1e-4)


def test_what_wants_a_denominator_refuses_it(trained):
    simulations = tasks.LocationScale().simulate(1_200, random_seed=2)
    for call in (
        lambda: nre.diagnostics.report(trained, simulations),
        lambda: nre.trial_budget(trained, simulations),
        lambda: nre.posterior_grid(trained, X, pm.Uniform.dist(0, 1)),
        lambda: nre.center(trained, simulations),
        lambda: nre.diagnostics.observation_check(trained, simulations, X),
    ):
        with pytest.raises(TypeError, match=r"ratio\.marginal\(\)"):
            call()
    options = {"draws": 100, "random_seed": 1, "progressbar": False}
    ranks = nre.diagnostics.posterior_ranks(trained.marginal(20), simulations[:300], **options)
    assert nre.diagnostics.normalization(ranks)["evidence"] > 0


def test_features_of_one_parameter_vector_are_refused():
    simulations = tasks.GaussianMean().simulate(500, random_seed=1)
    network = MLP((16,), features=lambda theta, x: theta - x[:, None])
    with pytest.raises(ValueError, match="compares two parameter vectors"):
        nre.train(simulations, loss=losses.DNRE(), network=network, progressbar=False)


def test_reference_beside_the_observation_is_the_same_ratio(trained):
    view, mu = beside_reference(trained), np.array([0.3, -1.0])
    packed = {"mu": 0.5, "log_sigma": 0.1}
    found = view.log_ratio(X, reference=None, **packed) if view.conditions is None else None
    assert found is None
    rows = view.conditions.pack(X, {"reference": mu}, "test")
    values = view.evaluator.value(np.array([[0.5, 0.1]]), rows)
    expected = trained.log_ratio(X, reference={"mu": 0.3, "log_sigma": -1.0}, **packed)
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_best_reference_makes_the_data_likely():
    task, ratio = tasks.GaussianMean(), direct(error=cyclic)
    data = RNG.normal(4.0, 1.0, 50)
    found = best_reference(ratio, data)
    logs = task.log_ratio(data[:, None], mu=ratio.domain.draws[:256, 0]).sum(0)
    # Within what the error of the ratio can hide, .3 for each of 50 observations.
    assert logs.max() - task.log_ratio(data, mu=found[0]).sum() < 15
    assert abs(found[0] - 4.0) < 1.0
    sums = against(ratio, found, ratio.domain.draws[:256], data)
    assert sums.min() >= -1e-9


def test_a_reference_is_found_once_for_each_ratio_and_data(monkeypatch):
    asked = []

    def chosen(ratio, some):
        asked.append(len(some))
        return np.full(1, len(asked), float)

    monkeypatch.setattr("pymc_nre.estimators.direct._best_of_candidates", chosen)
    monkeypatch.setattr("pymc_nre.estimators.direct._found", {})
    monkeypatch.setattr("pymc_nre.estimators.direct._MOST_FOUND", 3)
    ratio, other, x = direct(), direct(tasks.GaussianMean(half_width=3.0)), np.arange(5.0)
    first = best_reference(ratio, x)
    first[:] = 9  # what is remembered is its own
    cases = ((ratio, x.copy()), (other, x), (ratio, x[:4]), (ratio, x + 1e-12))
    assert [best_reference(*case)[0] for case in cases] == [1, 2, 3, 4]
    assert best_reference(other, x) == 2
    assert best_reference(ratio, x) == 5  # forgotten, as the oldest of more than three


def test_altered_files_are_refused(trained, tmp_path):
    ratio = trained.marginal(10)
    forms = {name: Form(array.dtype, array.shape) for name, array in ratio._to_arrays().items()}
    metadata = ratio._metadata()
    assert problems(metadata, forms) == []
    for pairs in ({"antisymmetric": True, "references": 10**12}, {"references": 10}, [], None):
        assert problems(metadata | {"pairs": pairs}, forms)
    assert problems(metadata | {"reference": "pair"}, forms)
