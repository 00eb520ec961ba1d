"""Does a process grow that compiles models of one ratio after another?

Run by ``python tests/benchmarks/many_ratios.py``. Each turn makes a ratio of other weights, a model
of it, compiles its log density and gradient, evaluates them, and drops everything. PyTensor itself
remembers of what it has compiled. So the same loop runs with ``pm.Normal`` in the ratio's place, in
a process of its own, and what counts is the difference. Written to the table is the resident memory
above that after the first fifty turns.
"""

import argparse
import ctypes
import ctypes.util
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pymc as pm

import pymc_nre as nre

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from machine import describe
from tables import Table
from untrained import make_estimator

HERE = Path(__file__).parent
TURNS, FIRST = 1_000, 50
MOST_MEGABYTES = 20.0
LOOPS = ("RatioLikelihood", "pm.Normal")


def main():
    arguments = _arguments()
    if arguments.loop:
        print(json.dumps(grown(arguments.loop, arguments.turns)))
        return
    found = {loop: _alone(loop, arguments.turns) for loop in LOOPS}
    ours, theirs = found.values()
    rows = [
        [turn, a, b, a - b] for (turn, a), (_, b) in zip(ours.items(), theirs.items(), strict=True)
    ]
    columns = ("models", *LOOPS, "difference")
    title = f"Resident memory above that after {FIRST} models, MB"
    table = Table(title, columns, rows, f"Measured on {describe()}.").markdown()
    major = pm.__version__.split(".")[0]
    (arguments.out / f"many_ratios_pymc{major}.inc").write_text(table)
    print(table)
    assert max(row[-1] for row in rows) <= MOST_MEGABYTES


def grown(loop, turns, first=FIRST):
    """Megabytes above those after the first turns, by the number of turns."""
    marks = sorted({first, *np.linspace(first, turns, 5).astype(int).tolist()})
    found = {}
    for turn in range(1, turns + 1):
        _turn(loop, turn)
        if turn in marks:
            found[turn] = resident()
    return {turn: megabytes - found[first] for turn, megabytes in found.items() if turn > first}


def _turn(loop, seed):
    x = np.linspace(-1, 1, 20)[:, None]
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        if loop == "pm.Normal":
            pm.Normal("x", mu, 1, observed=x)
        else:
            ratio = make_estimator({"mu": ()}, (1,), nre.networks.MLP((8,)), seed=seed)
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x)
    point = {"mu": np.array(0.1)}
    assert np.isfinite(model.compile_logp()(point))
    assert np.isfinite(model.compile_dlogp()(point)).all()


def resident():
    """Megabytes that this process holds, once garbage is collected and given back."""
    gc.collect()
    name = ctypes.util.find_library("c")
    if name and hasattr(library := ctypes.CDLL(name), "malloc_trim"):
        library.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _alone(loop, turns):
    command = [sys.executable, __file__, "--loop", loop, "--turns", str(turns)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {int(turn): found for turn, found in json.loads(lines.splitlines()[-1]).items()}


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--loop", choices=LOOPS, help="run one loop in this process")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "docs/benchmarks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
