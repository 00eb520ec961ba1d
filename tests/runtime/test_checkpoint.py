"""A killed training resumes to the very bits it would have reached.

Each kill is a real one: a process that trains sends itself SIGKILL at a chosen moment, after
which nothing of it runs any more, and the tests' own process goes on from its file.
"""

import hashlib
import itertools
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from once import once

import pymc_nre as nre
from pymc_nre.exceptions import EstimatorFileError
from pymc_nre.runtime.archive import read_archive, write_archive
from pymc_nre.runtime.checkpoint import Checkpoint, fingerprint
from pymc_nre.training.trainer import Trainer

EPOCHS = 6

# What is trained, here and in the process that is killed: on little, with a dropout layer,
# whose masks come from torch's global stream, so that this stream has to be resumed as well.
TRAIN = """
import torch
import pymc_nre as nre

class Dropping(torch.nn.Sequential):
    def __init__(self, theta_size, event_shape):
        super().__init__(
            torch.nn.Linear(theta_size + 1, 16), torch.nn.SiLU(), torch.nn.Dropout(0.1),
            torch.nn.Linear(16, 1),
        )

    def forward(self, theta, x):
        return super().forward(torch.cat([theta, x[:, None]], -1))

def train(path):
    simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
    return nre.train(
        simulations, network=Dropping, epochs=6, patience=100, batch_size=100, random_seed=5,
        checkpoint=path, progressbar=False,
    )
"""
KILLED = """
import json, multiprocessing, os, signal, sys
from pymc_nre.runtime import archive, checkpoint
from pymc_nre.training import trainer as descent

def die_at_call(number, function, before=True):
    calls = []
    def wrapped(*arguments, **options):
        calls.append(1)
        if before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if not before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

checkpoint._SHARE = 1e9  # write after every epoch, however long it takes
def train_and_die(moment, path):
    match moment:
        case "in the first epoch":
            descent.Trainer._descend = die_at_call(3, descent.Trainer._descend)
        case "in the middle of an epoch":
            descent.Trainer._descend = die_at_call(40, descent.Trainer._descend)
        case "while a checkpoint is written":
            archive.os.replace = die_at_call(3, os.replace)
        case "right after a checkpoint":
            archive.os.replace = die_at_call(4, os.replace, before=False)
        case "after the last epoch":
            archive.os.replace = die_at_call(6, os.replace, before=False)
    train(path)

codes = {}
for moment, path in json.loads(sys.argv[1]).items():
    # A fork of its own for each, which has imported everything already.
    process = multiprocessing.get_context("fork").Process(target=train_and_die, args=(moment, path))
    process.start()
    process.join()
    codes[moment] = process.exitcode
print(json.dumps(codes))
"""
MOMENTS = (
    "in the first epoch",
    "in the middle of an epoch",
    "while a checkpoint is written",
    "right after a checkpoint",
    "after the last epoch",
)


def train(path):
    namespace = {"__name__": "training"}
    exec(TRAIN, namespace)
    return namespace["train"](path)


def bits(ratio):
    """Weights and losses, to the last bit."""
    weights = {name: w.numpy().tobytes() for name, w in ratio.network.state_dict().items()}
    losses = {str(name): values.to_numpy().tobytes() for name, values in ratio.history.items()}
    return weights | losses


@pytest.fixture(scope="module")
def uninterrupted():
    return bits(train(None))


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """By moment: the file of a training that was killed, and how its process ended."""
    found = once(tmp_path_factory, "killed", lambda: _killed(tmp_path_factory.mktemp("killed")))
    return {moment: (Path(path), code) for moment, (path, code) in found.items()}


def _killed(folder):
    paths = {moment: str(folder / str(number)) for number, moment in enumerate(MOMENTS)}
    command = [sys.executable, "-c", TRAIN + KILLED, json.dumps(paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    return {moment: (path, codes[moment]) for moment, path in paths.items()}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_training_resumes_to_the_same_bits(moment, killed, uninterrupted):
    path, code = killed[moment]
    assert code == -signal.SIGKILL
    assert path.exists() == (moment != "in the first epoch")
    assert bits(train(path)) == uninterrupted


def quick(simulations, path, **options):
    options = {"epochs": EPOCHS, "batch_size": 100, "random_seed": 5} | options
    return nre.train(simulations, checkpoint=path, progressbar=False, **options)


@pytest.fixture
def simulations():
    return nre.tasks.GaussianMean().simulate(500, random_seed=1)


def digest(ratio):
    parts = (w.numpy().tobytes() for w in ratio.network.state_dict().values())
    return hashlib.sha256(b"".join(parts)).hexdigest()


class StopsAt:
    """The default loss with Ctrl-C at one of its calls."""

    def __init__(self, call):
        self.loss, self.left = nre.losses.MultiScale(), call

    def __getattr__(self, name):
        return getattr(self.loss, name)

    def __call__(self, net, theta, x, *others):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.loss(net, theta, x, *others)

    def __repr__(self):
        return repr(self.loss)


def interrupt(monkeypatch, step):
    """Ctrl-C at a gradient step, whoever computes gradients."""
    descend, steps = Trainer._descend, itertools.count(1)

    def interrupted(self, *batch):
        if next(steps) == step:
            raise KeyboardInterrupt
        return descend(self, *batch)

    monkeypatch.setattr(Trainer, "_descend", interrupted)


# Gradients of a loss of our own are computed by torch.
@pytest.mark.parametrize("loss", [None, StopsAt(math.inf)], ids=["by hand", "by torch"])
def test_ctrl_c_then_resume(simulations, tmp_path, monkeypatch, loss):
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    whole = quick(simulations, None, loss=loss)
    with monkeypatch.context() as patch:
        interrupt(patch, 10)
        with pytest.warns(nre.TrainingWarning, match="was interrupted after"):
            part = quick(simulations, tmp_path / "t", loss=loss)
    assert digest(part) != digest(whole)
    resumed = quick(simulations, tmp_path / "t", loss=loss)
    assert digest(resumed) == digest(whole)
    assert resumed.history.sizes["epoch"] == EPOCHS


def test_without_the_random_streams_bits_would_differ(simulations, tmp_path, monkeypatch):
    """The twin: what `restore` restores is needed."""
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    whole = quick(simulations, None)
    with monkeypatch.context() as patch:
        interrupt(patch, 10)
        with pytest.warns(nre.TrainingWarning, match="was interrupted after"):
            quick(simulations, tmp_path / "t")
    restore = Trainer.restore
    monkeypatch.setattr(
        Trainer, "restore", lambda self, t: restore(self, t | {"order": self.order.get_state()})
    )
    assert digest(quick(simulations, tmp_path / "t")) != digest(whole)


def test_a_finished_training_is_not_trained_again(simulations, tmp_path):
    first = quick(simulations, tmp_path / "t")
    again = quick(simulations, tmp_path / "t", loss=StopsAt(4))  # none but three at the start
    assert digest(again) == digest(first)


def test_a_seed_that_was_not_given_is_remembered(simulations, tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    with pytest.warns(nre.TrainingWarning, match="was interrupted after"):
        quick(simulations, tmp_path / "t", loss=StopsAt(14), random_seed=None)
    resumed = quick(simulations, tmp_path / "t", random_seed=None)
    assert resumed.history.sizes["epoch"] == EPOCHS


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"loss": nre.losses.NREA()}, "loss"),
        ({"network": nre.networks.MLP((8,))}, "network"),
        ({"epochs": 7}, "settings"),
        ({"random_seed": 6}, "random_seed"),
    ],
)
def test_another_training_is_not_resumed(simulations, tmp_path, changed, named):
    quick(simulations, tmp_path / "t")
    with pytest.raises(ValueError, match=rf"another training run, with other .*{named}.*delete"):
        quick(simulations, tmp_path / "t", **changed)


def test_other_simulations_are_not_trained_on(simulations, tmp_path):
    quick(simulations, tmp_path / "t")
    other = nre.tasks.GaussianMean().simulate(500, random_seed=2)
    with pytest.raises(ValueError, match="with other simulations"):
        quick(other, tmp_path / "t")


def test_an_estimator_is_no_checkpoint(simulations, tmp_path):
    quick(simulations, None).save(tmp_path / "t")
    with pytest.raises(EstimatorFileError, match=r"not a pymc_nre\.Checkpoint"):
        quick(simulations, tmp_path / "t")


def test_writing_takes_a_small_share_of_the_time(simulations, tmp_path, monkeypatch):
    """A write that costs seconds is not made after every epoch."""
    written = []

    def slow(path, metadata, arrays, file_format):
        clock[0] += 5.0
        written.append(len(metadata["facts"]["train_loss"]))
        path.touch()

    clock = [0.0]

    def tick():
        clock[0] += 0.1
        return clock[0]

    monkeypatch.setattr("pymc_nre.runtime.checkpoint.write_archive", slow)
    monkeypatch.setattr("pymc_nre.runtime.checkpoint.time.monotonic", tick)
    quick(simulations, tmp_path / "t", epochs=100, patience=100)
    assert written == [1, 100]


def test_fingerprints_know_functions_by_name_not_by_address():
    def networks():
        def summary(event_shape):
            return event_shape

        return nre.networks.MLP(embedding=summary)

    one, other = networks(), networks()
    assert one.embedding is not other.embedding
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(nre.networks.MLP(embedding=networks))


def test_another_validation_share_is_another_training(simulations, tmp_path):
    quick(simulations, tmp_path / "t")
    with pytest.raises(ValueError, match=r"with other .*settings"):
        quick(simulations, tmp_path / "t", validation=0.2)


def test_numpy_numbers_can_be_saved(simulations, tmp_path):
    ratio = quick(
        simulations, tmp_path / "t", epochs=np.int64(2), random_seed=np.int64(5),
        learning_rate=np.float32(0.01), batch_size=np.int32(100), patience=np.int64(3),
    )  # fmt: skip
    ratio.save(tmp_path / "ratio.nre")
    assert nre.load(tmp_path / "ratio.nre") == ratio


def test_a_missing_folder_is_told_before_training(simulations, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder of the checkpoint .* does not exist"):
        quick(simulations, tmp_path / "nowhere" / "t", loss=StopsAt(1))


def test_two_runs_do_not_share_a_checkpoint(simulations, tmp_path):
    with (
        Checkpoint(tmp_path / "t").held(),
        pytest.raises(RuntimeError, match=r"^The checkpoint .*t is in use by this process\. Wait"),
    ):
        quick(simulations, tmp_path / "t", loss=StopsAt(1))
    quick(simulations, tmp_path / "t")  # it was given back
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_what_cannot_be_written_is_told_before_training(simulations, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may all
    message = r"^The checkpoint .*t cannot be written \(The folder of .* is read-only.*another path"
    with pytest.raises(PermissionError, match=message):
        quick(simulations, tmp_path / "t", loss=StopsAt(1))


def fails(path, metadata, arrays, file_format):
    raise OSError(28, "No space left on device", str(path))


def test_a_full_disk_costs_the_file_and_not_the_training(simulations, tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    whole = quick(simulations, None)
    monkeypatch.setattr("pymc_nre.runtime.checkpoint.write_archive", fails)
    with pytest.warns(nre.TrainingWarning) as warned:
        ratio = quick(simulations, tmp_path / "t")
    assert digest(ratio) == digest(whole)
    (told,) = (str(each.message) for each in warned if "checkpoint" in str(each.message))
    assert "No space left on device" in told
    assert str(tmp_path / "t") in told


def test_it_is_written_again_when_there_is_room(simulations, tmp_path, monkeypatch):
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    calls = []

    def fails_at_first(*arguments, **options):
        calls.append(1)
        (fails if len(calls) < 3 else write_archive)(*arguments, **options)

    monkeypatch.setattr("pymc_nre.runtime.checkpoint.write_archive", fails_at_first)
    with pytest.warns(nre.TrainingWarning, match="cannot be written"):
        first = quick(simulations, tmp_path / "t")
    assert digest(quick(simulations, tmp_path / "t", loss=StopsAt(4))) == digest(first)


def rewritten(path, change):
    """With other facts or tensors, and a checksum that fits."""
    metadata, arrays = read_archive(path, "pymc_nre.Checkpoint")
    change(metadata["facts"], arrays)
    facts = {name: metadata[name] for name in ("identity", "random_seed", "facts")}
    write_archive(path, facts, arrays, "pymc_nre.Checkpoint")


def moment(make):
    def change(facts, arrays):
        arrays["run/optimizer/0/exp_avg"] = make(arrays["run/optimizer/0/exp_avg"])

    return change


@pytest.mark.parametrize(
    "change",
    [
        moment(lambda array: array.ravel()[:1]),  # the optimizer's compiled code wrote beyond it
        moment(lambda array: array.astype(np.float64)),
        lambda facts, arrays: arrays.pop("best/body.1.bias"),
        lambda facts, arrays: arrays.update({"run/torch": arrays["run/torch"][:9]}),
        lambda facts, arrays: arrays.update({"run/order": arrays["run/order"].astype(float)}),
        lambda facts, arrays: facts.update(train_loss=3),
        lambda facts, arrays: facts.update(more=3),
        lambda facts, arrays: facts.update(best_epoch=99),
    ],
    ids=["moment", "type", "weights", "stream", "order", "losses", "facts", "best"],
)
def test_what_no_training_wrote_is_not_resumed(simulations, tmp_path, monkeypatch, change):
    monkeypatch.setattr("pymc_nre.runtime.checkpoint._SHARE", 1e9)
    with pytest.warns(nre.TrainingWarning, match="was interrupted after"):
        quick(simulations, tmp_path / "t", loss=StopsAt(14))
    rewritten(tmp_path / "t", change)
    with pytest.raises(ValueError, match="belongs to another training run"):
        quick(simulations, tmp_path / "t")


@pytest.mark.parametrize(
    ("name", "value"), [("identity", []), ("random_seed", "5"), ("facts", {"seconds": "many"})]
)
def test_a_checkpoint_has_a_form(tmp_path, name, value):
    facts = {"identity": {}, "random_seed": 5, "facts": {}} | {name: value}
    write_archive(tmp_path / "t", facts, {}, "pymc_nre.Checkpoint")
    with pytest.raises(EstimatorFileError, match=rf"holds what no .*: {name} must be"):
        Checkpoint(tmp_path / "t").chosen_seed(None)
