"""Benchmarks of pymc_nre and its neighbors: ``python tests/benchmarks/run.py``.

Writes the tables that docs/benchmarks.md includes. See there for what they mean. The
neighbors' environments are made at the first run unless they are given.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from worker import ONE_THREAD, Worker

# The runner itself trains the network and computes effective sample sizes.
os.environ |= ONE_THREAD

ROOT = Path(__file__).parents[2]
BENCHMARKS = ("evaluation", "sampling", "cold_start", "memory", "growth", "training")
EXTRAS = ("neighbors", "setu")  # of ours, each with an environment of its own


@dataclass(frozen=True)
class Context:
    """What every benchmark gets."""

    python: Path
    neighbors: Path | None
    setu: Path | None
    folder: Path
    quick: bool
    rounds: int

    def contestants(self):
        """All contestants, to be used in a ``with``."""
        from contestants import Contestants

        return Contestants(self.python, self.neighbors, self.setu, self.folder)

    def engines(self):
        """Names that ``engine=`` of the installed library accepts."""
        log = self.folder / "contestants.log"
        with Worker(self.python, "contestants_ours.py", self.folder, log=log) as worker:
            names = worker.ask("describe")["evaluators"]
        engines = [name.removeprefix("pymc_nre, ") for name in names if name.startswith("pymc_nre")]
        return [engine for engine in engines if "," not in engine]

    def record(self, benchmark, **facts):
        """Keep what was measured, as a JSON line."""
        facts = {key: _plain(value) for key, value in facts.items()}
        with open(self.folder / "results.jsonl", "a") as lines:
            lines.write(json.dumps({"benchmark": benchmark} | facts) + "\n")

    @staticmethod
    def say(text):
        """Progress, for whoever waits."""
        print(text, flush=True)


def main():
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    given = (options.neighbors_python, options.setu_python)
    neighbors, setu = (_environment(*one, options) for one in zip(EXTRAS, given, strict=True))
    context = Context(
        Path(sys.executable), neighbors, setu, options.work, options.quick, options.rounds
    )
    _networks(context)
    import machine

    for name in options.only:
        tables = import_module(name).run(context)
        text = "\n".join(table.markdown() for table in tables)
        path = options.out / f"{name}_pymc{version('pymc').split('.')[0]}.inc"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\nMeasured on {machine.describe()}.\n")
        print(f"\n{text}\n{path}", flush=True)


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--rounds", type=int, default=3, help="of what takes minutes")
    parser.add_argument("--neighbors-python", type=Path, help="of an environment that has them")
    parser.add_argument("--setu-python", type=Path, help="of one that has setu, apart from them")
    parser.add_argument("--without", nargs="+", choices=EXTRAS, default=(), help="who stays away")
    scratch = Path(tempfile.gettempdir()) / "pymc_nre_benchmarks"
    parser.add_argument("--work", type=Path, default=scratch, help="networks, logs, raw results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks")
    return parser.parse_args()


def _environment(extra, given, options):
    """The Python that was named, or one in an environment made here of an extra of ours."""
    if extra in options.without:
        return None
    if given:
        return given
    folder = options.work / extra
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", f"{ROOT}[{extra}]"], check=True)
    return python


def _networks(context):
    """Train what the contestants share, once."""
    import weights

    for seed, name in ((1, "network.nre"), (2, "retrained.nre")):
        if not (context.folder / name).exists():
            weights.train(context.folder / name, seed, quick=context.quick)


def _plain(value):
    """JSON takes text as keys."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
