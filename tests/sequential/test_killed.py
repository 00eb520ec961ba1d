"""Rounds that are killed go on, and end with the same bits.

Each kill is a real one: a process sends itself SIGKILL at a chosen moment, and the tests' own
process goes on from the files.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pymc as pm
import pytest
from once import once
from quick_rounds import PRIOR, bits, quick

SMALL = {"n": 450, "epochs": 6, "method": "posterior"}
pytestmark = [
    pytest.mark.one_python,
    pytest.mark.filterwarnings("ignore:The validation loss:pymc_nre.TrainingWarning"),
]
# What of, in which call: three rounds have 3 calls of each but the epochs, of which they have 18.
QUICK = ("simulate 2", "record 8", "keep 2")
MANY = ("simulate 1", "simulate 3", "record 1", "record 6", "record 12", "record 18", "keep 3")
PLACES = {
    "simulate": ("pymc_nre.sequential.study", "Study"),
    "record": ("pymc_nre.training.trainer", "TrainingState"),
    "keep": ("pymc_nre.sequential.rounds", None),
}


def die_in(moment):
    """Let this process end in a call of a function."""
    name, number = moment.split()
    module, kind = PLACES[name]
    owner = sys.modules[module] if kind is None else getattr(sys.modules[module], kind)
    function, calls = getattr(owner, name), []

    def dying(*arguments, **options):
        calls.append(1)
        if len(calls) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    setattr(owner, name, dying)


def killed_at(moments, folder):
    """By moment: the file, and how its process ended."""
    paths = {moment: str(Path(folder) / moment.replace(" ", "_")) for moment in moments}
    command = [sys.executable, "-W", "ignore", __file__, json.dumps(paths)]
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # as pytest has set it
    options = {"capture_output": True, "text": True, "timeout": 600}
    done = subprocess.run(command, env=os.environ | found, **options)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    return {moment: (path, codes[moment]) for moment, path in paths.items()}


@pytest.fixture(scope="module")
def whole():
    return bits(quick(**SMALL))


def check(moments, whole, found):
    for moment in moments:
        path, code = found[moment]
        assert code == -signal.SIGKILL, moment
        assert bits(quick(checkpoint=path, **SMALL)) == whole, moment


def test_killed_rounds_end_with_the_same_bits(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    check(QUICK, whole, once(tmp_path_factory, "rounds", lambda: killed_at(QUICK, folder)))


@pytest.mark.slow
def test_rounds_killed_at_many_moments_end_with_the_same_bits(whole, tmp_path):
    check(MANY, whole, killed_at(MANY, tmp_path))


def test_what_is_done_is_not_done_again(whole, tmp_path):
    def broken(rng, mu):
        raise AssertionError("it was simulated already")

    path = tmp_path / "rounds"
    quick(checkpoint=path, **SMALL)
    again = quick(checkpoint=path, simulator=broken, **SMALL)
    assert bits(again) == whole
    with pytest.raises(ValueError, match="another run of rounds, with other settings"):
        quick(checkpoint=path, **SMALL | {"method": "truncated"})
    with pytest.raises(ValueError, match="other random_seed"):
        quick(checkpoint=path, random_seed=2, **SMALL)
    kept = quick(checkpoint=path, **SMALL | {"random_seed": None})  # the file knows its seed
    assert bits(kept) == whole


def test_other_nuisance_is_another_run(tmp_path):
    def shifted(rng, mu, nuisance):
        return rng.normal(mu + nuisance, 1.0)

    def found(spread):
        prior = PRIOR | {"nuisance": pm.Normal.dist(0, spread)}
        options = {
            "parameters": ["mu"],
            "checkpoint": tmp_path / "rounds",
            "rounds": 1,
            "epochs": 1,
        }
        return quick(n=200, prior=prior, simulator=shifted, **options)

    assert bits(found(0.1)) == bits(found(0.1))
    with pytest.raises(ValueError, match="another run of rounds, with other prior"):
        found(5.0)


if __name__ == "__main__":
    import multiprocessing

    def run(moment, path):
        die_in(moment)
        quick(checkpoint=path, **SMALL)

    codes = {}
    for moment, path in json.loads(sys.argv[1]).items():
        # A fork of its own for each, which has imported everything already.
        process = multiprocessing.get_context("fork").Process(target=run, args=(moment, path))
        process.start()
        process.join()
        codes[moment] = process.exitcode
    print(json.dumps(codes))
