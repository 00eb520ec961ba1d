"""Do changed files harm whoever loads them? ``python tests/benchmarks/fuzz_files.py``.

Takes about half an hour on one core. Files of estimators, of simulations and of trainings are
changed at random, their bytes or their contents with a new checksum (`mutations`), in a process
with a limit of memory that is started again where it dies. Each is loaded, and used if it loads:
estimators are evaluated by torch and by compiled code, told, and now and then put into a model,
trainings are gone on with, and simulations sliced, joined and saved. Good are a file that loads and
an error that says what is wrong with it; all else is printed, with the number that makes it again
(``--first NUMBER --count 1``).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pymc as pm
import torch
from mutations import mutated

import pymc_nre as nre
from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
from pymc_nre.ops.engines.compilable import compilable, whole
from pymc_nre.runtime.checkpoint import Checkpoint

DATA = Path(__file__).parents[1] / "data" / "before_the_move"
MEMORY = 2**29  # of data, above what the libraries map
SLOW = 5.0  # seconds of the processor
CHECKPOINTS, SIMULATIONS = 0.1, 0.1  # of the files
GOOD = ("loaded", "refused", "another run", "asks for its network")
MODELS, TRAININGS = 100, 10  # of so many that load, one is put into a model, or trained on


def main():
    options = _parser().parse_args()
    if options.child:
        return _work(options)
    tally, worst, bad = Counter(), 0.0, []
    first, last, began = options.first, options.first + options.count, time.monotonic()
    while first < last:
        command = [sys.executable, __file__, "--child", f"--first={first}"]
        command += [f"--seed={options.seed}", f"--count={last - first}", f"--work={options.work}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                record = json.loads(line)
                first = record["number"] + 1
                if record.get("begun"):
                    continue
                worst = max(worst, record["seconds"])
                is_good = record["outcome"] in GOOD
                tally[record["kind"], record["outcome"] if is_good else "bad"] += 1
                if not is_good:
                    bad.append(record["number"])
                    print(record["number"], record["kind"], record["outcome"], flush=True)
                if record["number"] % 10_000 == 0:
                    print(f"{record['number']:,}", dict(tally), f"{worst:.2f} s", flush=True)
        if child.returncode:
            bad.append(first - 1)
            print(f"{first - 1} died with {child.returncode}", flush=True)
    took = time.monotonic() - began
    print(f"{options.count:,} files in {took:,.0f} s, the slowest in {worst:.2f} s")
    for (kind, outcome), count in sorted(tally.items()):
        print(f"  {kind}, {outcome}: {count:,}")
    print(f"{len(bad):,} bad")
    return len(bad) > 0


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=120_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"), help="a fast folder")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


# --- the process that loads ------------------------------------------------------------------


def _work(options):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    files = {path: path.read_bytes() for path in sorted(DATA.glob("*.nre"))}
    training = (DATA / "training.checkpoint").read_bytes()
    identity = _identity(DATA / "training.checkpoint")
    simulations = _simulations(options.work / f"simulations_{options.seed}_{options.first}")
    path = options.work / f"fuzzed_{options.seed}_{options.first}"
    for file in files:
        _load(file, 1)  # what is compiled at first is not counted
    most = _data_of_this_process() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for number in range(options.first, options.first + options.count):
        rng = np.random.default_rng((options.seed, number))
        share = rng.random()
        if share < CHECKPOINTS:
            of, use, seed = "checkpoint", _resume, training
        elif share < CHECKPOINTS + SIMULATIONS:
            of, use, seed = "simulations", _load_simulations, simulations
        else:
            seed = list(files.values())[rng.integers(len(files))]
            of, use = "estimator", _load
        content, kind = mutated(rng, seed)
        path.write_bytes(content)
        print(json.dumps({"number": number, "begun": True}), flush=True)
        began = time.process_time()  # others may want the processor too
        outcome = _outcome(use, path, number, identity)
        seconds = time.process_time() - began
        if seconds > SLOW and outcome in ("loaded", "refused"):
            outcome = f"took {seconds:.1f} s"
        kind = f"{of}, {kind}"
        record = {"number": number, "kind": kind, "outcome": outcome, "seconds": seconds}
        print(json.dumps(record), flush=True)
    path.unlink()


def _data_of_this_process():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])


def _outcome(use, path, number, identity):
    try:
        return use(path, number, identity)
    except nre.EstimatorFileError:
        return "refused"
    except ValueError as error:
        if "belongs to another training run" in str(error):
            return "another run"
        return traceback.format_exc()
    except TypeError as error:
        if "holds a network of your own" in str(error):
            return "asks for its network"
        return traceback.format_exc()
    except BaseException:
        return traceback.format_exc()


def _load(path, number, identity=None):
    """Load an estimator; an error after that is one that loading should have seen."""
    ratio = nre.load(path)
    try:
        _use(ratio, number)
    except nre.EstimatorFileError as error:
        raise AssertionError("loaded, and refused afterwards") from error
    return "loaded"


def _simulations(path):
    """The bytes of a file of simulations, with an integer, a vector and log densities."""
    prior = {"mu": pm.Normal.dist(0, 1, shape=2), "n": pm.DiscreteUniform.dist(1, 9)}
    made = nre.simulate(
        prior,
        lambda rng, mu, n: rng.normal(mu.sum(-1), n)[:, None] * np.ones(3),
        40,
        batched=True,
        random_seed=1,
        progressbar=False,
    )
    made.save(path)
    content = path.read_bytes()
    path.unlink()
    return content


def _load_simulations(path, number, identity=None):
    """Load simulations; what loads can be used, and comes back from another file as it is."""
    found = nre.Simulations.load(path, simulator=_nothing)
    rows = found[: max(1, len(found) // 2)]
    joined = rows + found
    assert len(joined) == len(rows) + len(found)
    assert f"{found!r} {joined.batched} {joined.is_complete}"
    found.to_xarray()
    again = path.with_name(f"{path.name}_again")
    joined.save(again)
    loaded = nre.Simulations.load(again)
    again.unlink()
    np.testing.assert_array_equal(loaded.theta, joined.theta)
    np.testing.assert_array_equal(loaded.x, joined.x)
    assert loaded.n_failed == joined.n_failed
    return "loaded"


def _nothing(rng, **parameters):
    raise AssertionError("no simulator is called")


def _use(ratio, number):
    rng = np.random.default_rng(0)
    theta = ratio.domain.draws[rng.integers(len(ratio.domain.draws), size=5)]
    x = ratio.probe_x[rng.integers(len(ratio.probe_x), size=5)]
    values = ratio.log_ratio(x, **ratio.layout.unpack(theta))
    assert values.shape == (5,)
    text = f"{ratio!r} {ratio.digest} {ratio.describe_domain()}"
    text.encode()
    assert ratio.domain.inside(theta).shape == (5,)
    ratio.domain.beyond(theta)
    for found in (compilable(ratio, walled=True), whole(ratio, walled=True)):
        if found is not None and not isinstance(found, str):
            engine = CompiledEvaluator.of(found)
            rows = ratio.evaluator.features(x) if found.program.embedded else x
            engine.value_and_gradient(theta, rows)
    if number % MODELS == 0:
        with pm.Model():
            given = ratio.layout.unpack(theta[0])
            nre.RatioLikelihood("x", ratio, observed=x, **given)


def _identity(path):
    checkpoint = Checkpoint(path)
    return checkpoint._read()[0]["identity"]


def _resume(path, number, identity):
    Checkpoint(path).load(identity)
    if number % TRAININGS == 0:
        data = np.load(DATA / "training.npz")
        simulations = nre.Simulations({"mu": data["mu"], "beta": data["beta"]}, data["x"])
        settings = {"network": nre.networks.MLP((8, 8)), "epochs": 8, "random_seed": 5}
        nre.train(simulations, checkpoint=path, progressbar=False, **settings)
    return "loaded"


if __name__ == "__main__":
    sys.exit(main())
