"""What older versions have written is read, and public names stay.

The files of tests/data were written before the package was divided into rooms, and stay for good.
"""

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.diagnostics.model_sbc.chains import Chains
from pymc_nre.networks import MLP
from pymc_nre.training.trainer import Trainer

DATA = Path(__file__).parents[1] / "data"
BEFORE = DATA / "before_the_move"
ESTIMATORS = sorted(path.stem for path in BEFORE.glob("*.nre"))
# Double precision differs by 1e-14 from machine to machine.
SAME = {"rtol": 1e-10, "atol": 1e-12}
# A few epochs in single precision on another processor: 1e-7 a step, and larger where it adds up.
NEAR = {"rtol": 1e-3, "atol": 1e-3}


def log_ratios(ratio, expected, name):
    theta, x = expected[f"{name}/theta"], expected[f"{name}/x"]
    return ratio.log_ratio(x, **ratio.layout.unpack(theta))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_load_and_give_the_same_log_ratios(name, tmp_path):
    expected = np.load(BEFORE / "expected.npz")
    ratio = nre.load(BEFORE / f"{name}.nre")
    np.testing.assert_allclose(
        log_ratios(ratio, expected, name), expected[f"{name}/log_ratio"], **SAME
    )
    assert ratio.digest == str(expected[f"{name}/digest"])
    ratio.save(tmp_path / "again.nre")
    assert nre.load(tmp_path / "again.nre") == ratio


def test_there_is_one_of_each_kind():
    assert ESTIMATORS == ["budget", "centered", "deep_set", "ensemble", "mlp", "residual"]
    assert nre.load(BEFORE / "budget.nre").budget.simulations == 5_000
    assert nre.load(BEFORE / "ensemble.nre").members == 2
    assert "around one posterior" in repr(nre.load(BEFORE / "centered.nre"))
    assert nre.load(BEFORE / "residual.nre").layout.integer == {"k"}


def resumed(checkpoint, **options):
    """The training of which the checkpoint was written after five of eight epochs."""
    data = np.load(BEFORE / "training.npz")
    simulations = nre.Simulations({"mu": data["mu"], "beta": data["beta"]}, data["x"])
    settings = {"network": MLP((8, 8)), "epochs": 8, "random_seed": 5, "progressbar": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The validation loss", nre.TrainingWarning)
        return nre.train(simulations, checkpoint=checkpoint, **settings | options)


def counted(monkeypatch, owner, name):
    """A list that grows by one at every call."""
    calls, original = [], getattr(owner, name)

    def calling(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(owner, name, calling)
    return calls


def test_a_training_goes_on(tmp_path, monkeypatch):
    epochs = counted(monkeypatch, Trainer, "epoch")
    data = np.load(BEFORE / "training.npz")
    shutil.copy(BEFORE / "training.checkpoint", tmp_path)
    ratio = resumed(tmp_path / "training.checkpoint")
    assert len(epochs) == 3
    losses = ratio.history["validation_loss"].to_numpy()
    # Those before the interruption come from the file.
    np.testing.assert_array_equal(losses[:5], data["validation_loss"][:5])
    np.testing.assert_allclose(losses, data["validation_loss"], **NEAR)
    x, theta = data["x"][:12], ratio.layout.unpack(data["theta"])
    np.testing.assert_allclose(ratio.log_ratio(x, **theta), data["log_ratio"], **NEAR)


def test_twin_another_training_does_not(tmp_path):
    shutil.copy(BEFORE / "training.checkpoint", tmp_path)
    with pytest.raises(ValueError, match="belongs to another training run"):
        resumed(tmp_path / "training.checkpoint", random_seed=6)


def test_a_calibration_goes_on(tmp_path, monkeypatch):
    chains = counted(monkeypatch, Chains, "__call__")
    expected = np.load(BEFORE / "calibration.npz")
    shutil.copy(BEFORE / "calibration.checkpoint", tmp_path)
    ratio = nre.load(BEFORE / "budget.nre", simulator=lambda rng, mu: rng.normal(mu, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pm.Model() as model:
            mu, data = pm.Normal("mu", 0, 2), np.array([0.3, -0.2, 1.1])
            nre.RatioLikelihood("x", ratio, mu=mu, observed=data, engine="torch")
        ranks = nre.diagnostics.sbc_model(
            model,
            replicates=3,
            draws=20,
            tune=10,
            sampler="pymc",
            random_seed=1,
            checkpoint=tmp_path / "calibration.checkpoint",
            progressbar=False,
        )
    assert ranks.sizes["pair"] == 3
    assert len(chains) == 1
    np.testing.assert_array_equal(ranks["pit"][:2], expected["pit"])
    np.testing.assert_array_equal(ranks["truth"][:2], expected["truth"])


def test_public_names_are_the_same_list():
    names = sorted(nre.__all__)
    for module in ("diagnostics", "losses", "networks", "plots", "point", "steps", "tasks"):
        names += [f"{module}.{name}" for name in sorted(getattr(nre, module).__all__)]
    assert names == (DATA / "public_names.txt").read_text().split()


DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+):: ([\w.]+)", flags=re.MULTILINE)


def documented(page):
    """Full names of the entries of a page."""
    entries, module = set(), ""
    for directive, name in DIRECTIVE.findall(page):
        if directive in ("currentmodule", "automodule"):
            module = name
        else:
            entries.add(f"{module}.{name}")
    return entries


def test_public_names_are_documented_and_listed():
    docs = Path(__file__).parents[2] / "docs"
    entries = set().union(*(documented(page.read_text()) for page in docs.glob("api/*.md")))
    modules = ("diagnostics", "losses", "networks", "plots", "point", "steps", "tasks")
    names = set((DATA / "public_names.txt").read_text().split()) - set(modules)
    assert entries == {f"pymc_nre.{name}" for name in names}
    listed = re.findall(r"`~(pymc_nre\.[\w.]+)`", (docs / "api.md").read_text())
    assert sorted(listed) == sorted(entries)


def test_twin_names_of_another_module_do_not_count():
    page = ".. automodule:: pymc_nre.diagnostics\n   :no-members:\n\n.. autofunction:: sbc\n"
    assert documented(page) == {"pymc_nre.diagnostics.sbc"}
