"""Training for incomplete observations: masks, files, and what refuses."""

import numpy as np
import pymc as pm
import pytest
import torch
from quick_training import quick
from torch import nn

import pymc_nre as nre
from pymc_nre.estimators import contents
from pymc_nre.exceptions import EstimatorFileError
from pymc_nre.networks import MLP, DeepSet
from pymc_nre.simulation.conditions.missing import Missing
from pymc_nre.training.batching.batches import batches_of
from pymc_nre.training.batching.masks import MaskedBatches

NAN = np.nan
DATA = np.array([[0.5, NAN, 1.0], [NAN] * 3, [1.0, -2.0, NAN], [0.1, 0.2, 0.3]])
SMALL = {"network": MLP((8,)), "missing": 0.4, "batch_size": 32}


def own_embedding(event_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(event_shape)), 4), nn.Tanh())


def arrays(n, seed=1):
    rng = np.random.default_rng(seed)
    mu = rng.normal(0, 2, n)
    return mu, rng.normal(mu[:, None], 1.0, (n, 3))


@pytest.fixture(scope="module")
def simulations():
    mu, x = arrays(2_000)
    return nre.Simulations({"mu": mu}, x, simulator=lambda rng, mu: rng.normal(mu, 1.0, 3))


@pytest.fixture(scope="module")
def ratio(simulations):
    return quick(simulations, **SMALL)


def masked(simulations, seed=1, loss=None):
    loss = nre.losses.NREA() if loss is None else loss
    whole = batches_of(simulations, loss, 0.1, "cpu", seed)
    return MaskedBatches(whole, Missing.of(0.4, (3,)), seed)


def epoch(batches, index):
    return list(batches.epoch(index, 100, torch.Generator().manual_seed(index)))


def test_masks_are_new_in_each_batch_and_epoch(simulations):
    batches = masked(simulations)
    holes = [x.isnan() for index in range(3) for _, x in epoch(batches, index)]
    assert len({each.numpy().tobytes() for each in holes}) == len(holes)
    share = torch.cat(holes).float().mean()
    expected = (0.4 - 0.4**3) / (1 - 0.4**3)
    assert share == pytest.approx(expected, abs=5 * np.sqrt(0.25 / (3 * 3 * 1_800)))


def test_masks_of_an_epoch_do_not_depend_on_those_before(simulations):
    one, other = masked(simulations), masked(simulations)
    epoch(one, 0)
    for mine, its in zip(epoch(one, 1), epoch(other, 1), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=0, equal_nan=True)


def test_held_out_observations_keep_their_masks_and_moments_are_of_whole_ones(simulations):
    batches, other = masked(simulations), masked(simulations)
    torch.testing.assert_close(batches.held_out, other.held_out, rtol=0, atol=0, equal_nan=True)
    assert 0.3 < batches.held_out[1].isnan().float().mean() < 0.5
    assert not batches.training[1].isnan().any()


def test_order_and_parameters_are_those_without_masks(simulations):
    whole = batches_of(simulations, nre.losses.NREA(), 0.1, "cpu", 1)
    for (theta, x), (own, plain) in zip(
        epoch(masked(simulations), 0), epoch(whole, 0), strict=True
    ):
        assert (theta == own).all()
        assert (x == plain)[~x.isnan()].all()


def test_masks_are_of_observations_alone(ratio):
    mu, x = arrays(2_000)
    dose = np.random.default_rng(3).uniform(size=2_000)
    made = quick(nre.Simulations({"mu": mu}, x, conditions={"dose": dose}), **SMALL)
    batches = masked(nre.Simulations({"mu": mu}, x, conditions={"dose": dose}))
    assert not batches.held_out[1][:, 3].isnan().any()
    assert np.isfinite(made.log_ratio(DATA, mu=0.5, dose=0.5)).all()
    with pytest.raises(ValueError, match="dose: 1 of 1 values are NaN"):
        made.log_ratio(DATA, mu=0.5, dose=NAN)


def test_observations_at_a_reference_have_masks_too(simulations):
    x = np.random.default_rng(2).normal(size=(500, 3))
    reference = nre.Simulations({"mu": np.zeros(500)}, x)
    loss = nre.losses.CARL(reference)
    assert masked(simulations, loss=loss).held_out[2].isnan().any()
    made = quick(simulations, loss=loss, **SMALL)
    assert np.isfinite(made.log_ratio(DATA, mu=0.5)).all()


def test_fresh_simulations_get_masks(simulations):

    online = nre.Online(
        {"mu": pm.Normal.dist(0, 2)},
        lambda rng, mu: rng.normal(mu[:, None], 1.0, (len(mu), 3)),
        batched=True,
        per_epoch=2_000,
        random_seed=1,
    )
    assert np.isfinite(quick(online, **SMALL).log_ratio(DATA, mu=0.5)).all()


def test_the_law_is_told(ratio):
    assert "  missing     0.4 of each number\n" in repr(ratio)
    assert "trials" in repr(ratio) or ratio.budget is None


@pytest.mark.parametrize("given", [0.4, DATA, np.isnan(DATA), [0.0, 0.2, 0.3]])
def test_files_hold_the_law(simulations, given, tmp_path):
    made = quick(simulations, **SMALL | {"missing": given})
    made.save(tmp_path / "a.nre")
    loaded = nre.load(tmp_path / "a.nre")
    assert loaded == made
    assert loaded.missing == made.missing == Missing.of(given, (3,))
    np.testing.assert_array_equal(loaded.log_ratio(DATA, mu=0.5), made.log_ratio(DATA, mu=0.5))


def test_embeddings_of_ones_own_come_back_by_their_factory(simulations, tmp_path):
    network = MLP((8,), embedding=own_embedding)
    made = quick(simulations, **SMALL | {"network": network})
    made.save(tmp_path / "a.nre")
    assert nre.load(tmp_path / "a.nre", network=network) == made


def test_older_versions_refuse_such_files_clearly(ratio, tmp_path, monkeypatch):
    ratio.save(tmp_path / "a.nre")
    monkeypatch.delitem(contents._LATER, "missing")
    with pytest.raises(EstimatorFileError, match="this version does not know: 'missing'"):
        nre.load(tmp_path / "a.nre")


def test_a_file_that_tells_of_other_observations_is_refused(ratio):
    forms = {name: contents.Form.of(array) for name, array in ratio._to_arrays().items()}
    metadata = ratio._metadata()
    assert not contents.problems(metadata, forms)
    other = metadata | {"missing": Missing.of(0.4, (4,)).to_dict()}
    [told] = contents.problems(other, forms)
    assert told == "missing does not fit observations of shape (3,)"
    assert "missing: expected the fields" in contents.problems(metadata | {"missing": {}}, forms)[0]
    del other["missing"]
    assert "does not fit what is told of missing numbers" in contents.problems(other, forms)[0]


def test_a_training_resumes_with_its_masks(simulations, tmp_path, monkeypatch):
    options = SMALL | {"epochs": 4, "checkpoint": tmp_path / "a"}
    whole = quick(simulations, **SMALL | {"epochs": 4})

    def interrupted(self, index, *arguments):
        if index == 2:
            raise KeyboardInterrupt
        return epochs(self, index, *arguments)

    epochs = MaskedBatches.epoch
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    with monkeypatch.context() as patched:
        patched.setattr(MaskedBatches, "epoch", interrupted)
        with pytest.warns(nre.TrainingWarning, match="interrupted after 2 epochs"):
            quick(simulations, **options)
    calls = []

    def counted(self, index, *arguments):
        calls.append(index)
        return epochs(self, index, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(MaskedBatches, "epoch", counted)
        assert quick(simulations, **options) == whole
    assert calls == [2, 3]
    with pytest.raises(ValueError, match="settings"):
        quick(simulations, **options | {"missing": 0.3})


def test_members_have_masks_of_their_own(simulations):
    made = quick(simulations, members=2, **SMALL)
    assert made.members == 2
    assert np.isfinite(made.log_ratio(DATA, mu=0.5)).all()
    assert made.log_ratio(DATA, mu=0.5)[1] == 0
    alone = quick(simulations, **SMALL | {"missing": 0.3})
    with pytest.raises(ValueError, match=r"the same missing numbers, got 0\.4 of each"):
        nre.ensemble([quick(simulations, **SMALL), alone])


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"missing": np.zeros((5, 2), bool)}, ValueError, r"shape \(m, 3\), got \(5, 2\)"),
        ({"missing": np.full((5, 3), NAN)}, ValueError, "every number of every observation"),
        ({"network": lambda *sizes: nn.Linear(1, 1)}, TypeError, "MLP or ResidualMLP"),
        ({"network": MLP(embedding=DeepSet(masked=True))}, ValueError, "a mask of its own"),
    ],
)
def test_what_cannot_be_trained_is_told_at_once(simulations, options, error, told):
    with pytest.raises(error, match=told):
        quick(simulations, **SMALL | options)


def test_budget_and_diagnostics_look_at_incomplete_simulations(ratio):
    mu, x = arrays(2_000, seed=5)
    held_out = nre.Simulations({"mu": mu}, x, prior={"mu": pm.Normal.dist(0, 2)})
    budget = nre.trial_budget(ratio, held_out)
    seen = nre.Simulations({"mu": mu}, x)
    seen.x = ratio.missing.masked(x, np.random.default_rng(0))
    np.testing.assert_array_equal(
        budget.bias_squared_limit, nre.trial_budget(ratio, seen).bias_squared_limit
    )
    report = nre.diagnostics.report(
        ratio,
        held_out[:400],
        observed=DATA,
        draws=100,
        random_seed=1,
        progressbar=False,
    )
    assert {"coverage", "sbc", "lc2st", "observation_check", "auc"} <= set(report.checks)
    assert report.checks["observation_check"].attrs["verdict"] != "foreign"
    far = nre.diagnostics.observation_check(
        ratio, held_out, np.where(np.isnan(DATA), NAN, 40.0), random_seed=1
    )
    assert far.attrs["verdict"] == "foreign"
