"""Seconds to the first value in a fresh process, beyond a plain PyMC model.

With empty caches, with warm ones, and with warm ones but another network and another n. The
import of torch is not counted; what it takes is shown.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from tables import Table
from worker import HERE, ONE_THREAD

CASES = {  # file and number of observations
    "empty caches": ("network.nre", 10),
    "warm caches": ("network.nre", 10),
    "warm caches, retrained network, other n": ("retrained.nre", 37),
}
_PARTS = ("import pymc_nre", "load", "model", "compile", "first value")


def run(context):
    """One table of totals and one of parts."""
    engines = context.engines()
    rounds = [_round(engines, context) for _ in range(1 if context.quick else context.rounds)]
    context.record("cold_start", rounds=rounds)
    totals, parts = [], []
    for case in CASES:
        plain = median(_total(one["plain", case]) for one in rounds)
        row = [case, plain]
        for engine in engines:
            row.append(median(_total(one[engine, case]) for one in rounds) - plain)
            parts.append(_parts_row(engine, case, rounds))
        totals.append(row)
    heads = ("caches", "plain model", *(f"{engine}: beyond it" for engine in engines))
    names = ("engine", "caches", *_PARTS, "import torch (not counted)")
    return [
        Table("Seconds to the first value, import of torch not counted", heads, totals),
        Table("Its parts, import of PyMC not shown", names, parts),
    ]


def _round(engines, context):
    """Parts by contestant and case, each contestant with caches of its own."""
    results = {}
    for engine in ("plain", *engines):
        with tempfile.TemporaryDirectory() as caches:
            for case, (network, n) in CASES.items():
                arguments = () if engine == "plain" else (context.folder / network, engine)
                results[engine, case] = _process(context.python, caches, n, *arguments)
                context.say(f"{engine}, {case}: {results[engine, case]}")
    return results


def _process(python, caches, *arguments):
    flags = os.environ.get("PYTENSOR_FLAGS", "")
    own = {
        "PYTENSOR_FLAGS": ",".join(filter(None, [flags, f"base_compiledir={caches}/pytensor"])),
        "NUMBA_CACHE_DIR": f"{caches}/numba",
    }
    command = [python, HERE / "first_value.py", *arguments]
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | ONE_THREAD | own,
        capture_output=True,
        text=True,
        cwd=Path(caches),
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _total(parts):
    """All but the import of torch, which is within another part."""
    return sum(parts.values()) - 2 * parts["import torch"]


def _parts_row(engine, case, rounds):
    ours = [one[engine, case] for one in rounds]
    row = [engine, case, *(median(parts[name] for parts in ours) for name in _PARTS)]
    return [*row, median(parts["import torch"] for parts in ours)]
