"""Ensembles: the mean of several ratios, in torch, in compiled code, in models and on disk."""

import warnings

import numpy as np
import pymc as pm
import pytest
import torch
import xarray as xr
from traced import evaluator_of, traced
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.kernels.traced.evaluator import Traced
from pymc_nre.networks import MLP, DeepSet, ResidualMLP
from pymc_nre.ops.engines.compilable import compilable

N = 300  # several blocks of rows
NETWORKS = {
    "MLP": MLP((16, 8)),
    "residual": ResidualMLP(12, 2, norm="layer"),
    "embedding": MLP((16, 8), embedding=DeepSet((8, 4))),
}


def members(network=None, n=3, normalized=True, event_shape=(2,)):
    """Untrained estimators with different weights, biases and standardizations, one domain."""
    domain = Domain.from_draws(np.random.default_rng(0).normal(1, 2, (500, 3)))
    return [
        make_estimator(
            event_shape=event_shape, network=network, seed=seed, history=False,
            domain=domain, normalized=normalized,
        )
        for seed in range(n)
    ]  # fmt: skip


def points(event_shape=(2,), n=N):
    rng = np.random.default_rng(4)
    return rng.normal(1, 1, (n, 3)), rng.normal(-1, 3, (n, *event_shape)), rng.normal(size=(n, 3))


def by_hand(ratios, theta, x):
    """Log ratios and gradients of the mean, of those of the members."""
    parts = [TorchEvaluator(ratio.network).value_and_gradient(theta, x) for ratio in ratios]
    logits, slopes = (np.stack(part) for part in zip(*parts, strict=True))
    if not ratios[0].normalized:
        return logits.mean(0), slopes.mean(0)
    value = np.log(np.exp(logits).mean(0))
    weights = np.exp(logits - value) / len(ratios)
    return value, (weights[..., None] * slopes).sum(0)


@pytest.mark.one_python
@pytest.mark.parametrize("normalized", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", NETWORKS)
def test_torch_and_kernels_give_the_mean(network, normalized):
    event_shape = (3, 2) if network == "embedding" else (2,)
    ratios = members(NETWORKS[network], normalized=normalized, event_shape=event_shape)
    combined = nre.ensemble(ratios)
    evaluator = TorchEvaluator(combined.network)
    theta, x, v = points(event_shape)
    both = [
        (evaluator_of(traced(combined.network, 3, event_shape, embedded=embedded)), rows)
        for embedded, rows in ((True, evaluator.features(x)), (False, x))
    ]
    for each in (theta, theta[:1]):
        check_mean(evaluator, both, by_hand(ratios, each, x), each, x, v)


def check_mean(evaluator, both, expected, theta, x, v):
    """By torch, and by machine code with what it takes for observations."""
    for got, wanted in zip(evaluator.value_and_gradient(theta, x), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)
    product = evaluator.hessian_product(theta, x, v)
    for compiled, rows in both:
        value, gradient = compiled.value_and_gradient(theta, rows)
        np.testing.assert_allclose(value, expected[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(gradient, expected[1], rtol=0, atol=1e-12)
        alone = compiled.value(theta, rows)
        np.testing.assert_allclose(alone, value, rtol=0, atol=1e-12)
        found = compiled.hessian_product(theta, rows, v)
        np.testing.assert_allclose(found, product, rtol=0, atol=1e-11)


def test_a_mean_of_logits_is_something_else():
    theta, x, _ = points()
    of_ratios, of_logits = (
        nre.ensemble(members(normalized=normalized)).evaluator.value(theta, x)
        for normalized in (True, False)
    )
    assert np.all(of_ratios >= of_logits - 1e-12)  # Jensen
    assert np.max(of_ratios - of_logits) > 0.01


def test_a_huge_logit_does_not_overflow():
    ratios = members(n=2)
    for ratio in ratios:
        with torch.no_grad():
            ratio.network.body[-1].bias += 2_000
    theta, x, _ = points()
    compiled = evaluator_of(traced(nre.ensemble(ratios).network, 3, (2,)))
    value, gradient = compiled.value_and_gradient(theta, x)
    assert np.all((value > 1_900) & (value < 2_100))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("network", ["MLP", "embedding"])
def test_engines_agree_in_a_model(network):
    event_shape = (3, 2) if network == "embedding" else (2,)
    ratio = nre.ensemble(members(NETWORKS[network], event_shape=event_shape))
    _, x, _ = points(event_shape, n=7)
    found = {}
    for engine in ("compiled", "torch"):
        with pm.Model() as model:
            data = pm.Data("data", x)
            mu, beta = pm.Normal("mu", 1, 1), pm.Normal("beta", 1, 1, shape=2)
            nre.RatioLikelihood("x", ratio, mu=mu, beta=beta, observed=data, engine=engine)
        point = {"mu": np.array(0.7), "beta": np.array([1.2, 0.4])}
        logp, slope = model.compile_logp(), model.compile_dlogp()
        found[engine] = [logp(point), *slope(point)]
        pm.set_data({"data": x[::-1] * 1.1}, model=model)
        found[engine] += [logp(point), *slope(point)]
    np.testing.assert_allclose(found["compiled"], found["torch"], rtol=1e-10)
    assert abs(found["torch"][0] - found["torch"][4]) > 1e-3


@pytest.mark.parametrize("normalized", [True, False])
def test_saved_and_loaded(normalized, tmp_path):
    ratio = nre.ensemble(members(normalized=normalized))
    ratio.save(tmp_path / "mean.nre")
    again = nre.load(tmp_path / "mean.nre")
    assert again == ratio
    assert again.members == 3
    assert "3 x MLP" in repr(again)
    assert again.network.mean_of == ("ratios" if normalized else "logits")


def test_networks_of_ones_own_need_their_factory(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self, theta_size, event_shape):
            super().__init__()
            self.layer = torch.nn.Linear(theta_size + 2, 1)

        def forward(self, theta, x):
            return self.layer(torch.cat([theta, x], -1))

    ratios = members(Own)
    ratio = nre.ensemble(ratios)
    theta, x, _ = points()
    np.testing.assert_allclose(ratio.evaluator.value(theta, x), by_hand(ratios, theta, x)[0])
    ratio.save(tmp_path / "own.nre")
    assert nre.load(tmp_path / "own.nre", network=Own) == ratio


def test_members_of_different_depth_are_refused():
    one, other = members(n=2)[0], members(MLP((8,), activation="tanh"), n=2)[1]
    with pytest.raises(ValueError, match=r"the same network, got MLP\(hidden=\(8, 4\)"):
        nre.ensemble([one, other])


def test_what_does_not_belong_together_is_refused():
    one, other, *_ = members()
    with pytest.raises(ValueError, match="at least one"):
        nre.ensemble([])
    with pytest.raises(TypeError, match="ensemble: ratios: expected a RatioEstimator, got str"):
        nre.ensemble([one, "x"])
    with pytest.raises(ValueError, match="an ensemble already"):
        nre.ensemble([one, nre.ensemble([one, other])])
    with pytest.raises(ValueError, match="the same shape of an observation"):
        nre.ensemble([one, members(event_shape=(4,))[0]])
    with pytest.raises(ValueError, match="the same normalization"):
        nre.ensemble([one, members(normalized=False)[0]])
    with pytest.raises(ValueError, match=r"the same domain.*same simulations"):
        nre.ensemble([one, make_estimator(event_shape=(2,), seed=7)])
    assert nre.ensemble([one]) is one


# Training.

SIMULATIONS = nre.tasks.GaussianMean().simulate(600, random_seed=1)


def train(n=3, **options):
    options = {"random_seed": 5, "epochs": 4, "batch_size": 50} | options
    return nre.train(SIMULATIONS, members=n, progressbar=False, **options)


def test_train_gives_members_of_their_own():
    ratio = train()
    assert ratio.members == 3
    first, second, third = ratio.network.members
    alone = train(1)
    pairs = zip(first.parameters(), alone.network.parameters(), strict=True)
    assert all(torch.equal(mine, its) for mine, its in pairs)
    assert not torch.equal(second.x_in.weight, third.x_in.weight)
    # Other simulations were held out, so that the moments are those of others.
    assert not torch.equal(second.standardize_x.mean, third.standardize_x.mean)
    assert ratio == train()
    assert ratio.history.train_loss.dims == ("member", "epoch")
    assert ratio.history.sizes == {"member": 3, "epoch": 4}
    assert len(ratio.history.attrs["best_loss"]) == 3
    assert ratio.history.attrs["n_train"] == 540
    assert "validation loss" in repr(ratio)


def test_histories_of_other_lengths_survive_saving(tmp_path):
    ratio = nre.ensemble([train(1), train(1, random_seed=6, epochs=6)])
    assert np.isnan(ratio.history.train_loss[0, 4:]).all()
    assert np.isfinite(ratio.history.train_loss[1]).all()
    ratio.save(tmp_path / "two.nre")
    xr.testing.assert_identical(nre.load(tmp_path / "two.nre").history, ratio.history)


def test_an_ensemble_is_nearer_to_the_truth():
    # The mean of the members' ratios has a smaller error in its ratio than the members have on
    # average: that is Jensen's inequality for a squared error, and holds without exception.
    task = nre.tasks.GaussianMean()
    held_out = task.simulate(4_000, random_seed=2)
    exact = np.exp(task.estimator().log_ratio(held_out.x, mu=held_out.parameters["mu"]))
    ratio = train(5, epochs=20)

    def error(network):
        log_ratio = TorchEvaluator(network).value(held_out.theta, held_out.x)
        return np.mean((np.exp(log_ratio) - exact) ** 2)

    alone = [error(member) for member in ratio.network.members]
    assert error(ratio.network) < np.mean(alone)


def test_each_member_resumes_from_its_own_file(tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    whole = train(checkpoint=path)
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{path.name}{k}" for k in ("", ".1", ".2")
    }
    (tmp_path / "run.checkpoint.2").unlink()
    trained = []
    descend = nre.training.trainer.Trainer.epoch
    monkeypatch.setattr(
        nre.training.trainer.Trainer, "epoch", lambda run, k: trained.append(k) or descend(run, k)
    )
    assert train(checkpoint=path, random_seed=None) == whole
    assert trained == [0, 1, 2, 3]  # the third member only


# Members have four epochs each: half a first member is better than none, half another is not.
@pytest.mark.parametrize(("at", "left"), [(2, 1), (4, 1), (6, 1), (10, 2)])
def test_ctrl_c_leaves_the_members_that_are_complete(at, left, monkeypatch):
    epochs = []
    descend = nre.training.trainer.Trainer.epoch

    def interrupted(run, index):
        if len(epochs) == at:
            raise KeyboardInterrupt
        epochs.append(index)
        return descend(run, index)

    monkeypatch.setattr(nre.training.trainer.Trainer, "epoch", interrupted)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ratio = train()
    assert ratio.members == left
    told = [str(warning.message) for warning in caught]
    assert f"The ensemble has {left} of 3 members" in told[-1]
    assert all(warning.filename == __file__ for warning in caught)


def test_ctrl_c_before_there_is_anything(monkeypatch):
    def interrupted(run, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(nre.training.trainer.Trainer, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train()


def test_a_factory_that_gives_the_same_module_again():
    with torch.random.fork_rng():
        torch.manual_seed(1)  # a network that learns too little would warn
        module = nre.networks.MLP((64, 64)).build(1, ())
    with pytest.raises(ValueError, match="build a new one at each call"):
        train(network=lambda theta_size, event_shape: module)


def test_no_members_are_refused():
    with pytest.raises(ValueError, match="train: members: expected at least 1, got 0"):
        train(0)


@pytest.mark.one_python
def test_center_takes_an_ensemble():
    task = nre.tasks.GaussianMean()
    supply = nre.Online(task.prior(), task.simulator, batched=True, random_seed=2)
    centered = nre.center(train(2), supply, steps=100, random_seed=3, progressbar=False)
    assert centered.members == 2
    assert isinstance(compilable(centered, walled=True), Traced)
