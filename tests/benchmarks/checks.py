"""What each diagnostic can see: ``python -m tests.benchmarks.checks``, from the repository's root.

Exact ratios of all tasks must pass, but for one in a hundred; ratios made wrong in known ways
should not. Takes about an hour of one core, resumes, and writes the tables of docs/diagnostics.md.
"""

import argparse
from collections import Counter, defaultdict
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch

import pymc_nre as nre
from pymc_nre import diagnostics
from tests.benchmarks.results import Results
from tests.controls import changed

_DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"
TASKS = tuple(name for name in nre.tasks.__all__ if name != "Posterior")
# What a thing made wrong is called. Shifts are in units of the parameter and of the observation.
CONTROLS = {
    "exact": {},
    "log ratio times 1.5": {"power": 1.5},
    "log ratio times 0.67": {"power": 0.67},
    "shifted in the parameters": {"of_theta": 0.3},
    "shifted in x": {"of_x": 1.0},
}
PAIRS, DRAWS = 1_000, 300
RIGHT = ("right", "usual")


def main():
    options = _options()
    torch.set_num_threads(1)
    results = Results(options.work / "checks.jsonl", ("task", "control", "seed"))
    for seed in range(options.seeds):
        for task, control in product(TASKS, CONTROLS):
            if control == "exact" or seed < options.repeats:
                which = {"task": task, "control": control, "seed": seed}
                results.get(partial(verdicts, **which), **which)
        print(seed, flush=True)
    _write(results.read().values(), options.out)


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmark_results"))
    parser.add_argument("--out", type=Path, default=_DOCS)
    parser.add_argument("--seeds", type=int, default=200, help="of exact ratios")
    parser.add_argument("--repeats", type=int, default=10, help="of ratios made wrong")
    return parser.parse_args()


def verdicts(task, control, seed):
    """By the name of the check; of `sbc` all that are not right."""
    task = getattr(nre.tasks, task)()
    exact = task.estimator()
    ratio = changed(exact, **CONTROLS[control]) if CONTROLS[control] else exact
    pairs = task.simulate(PAIRS, random_seed=[1, seed])
    quiet = {"random_seed": seed, "progressbar": False}
    ranks = diagnostics.posterior_ranks(ratio, pairs, draws=DRAWS, **quiet)
    found = {
        "coverage": diagnostics.coverage(ranks),
        "tarp": diagnostics.tarp(ranks),
        "reliability": diagnostics.reliability(ranks),
        "normalization": diagnostics.normalization(ranks),
        "convergence": diagnostics.convergence(ratio, pairs, n=(1, 10, 100), truths=30, **quiet),
    }
    found = {check: result.attrs["verdict"] for check, result in found.items()}
    wrong = {str(v) for v in diagnostics.sbc(ranks)["verdict"].to_numpy()} - {"right"}
    found["sbc"] = ", ".join(sorted(wrong)) or "right"
    if control != "exact" or seed % 2 == 0:  # these take longer
        own = task.simulate(5_000, random_seed=[2, seed])
        found["auc"] = diagnostics.auc(ratio, own, n=1_000, points=1, random_seed=seed).verdict
        data = task.simulate(1, random_seed=[3, seed]).x
        found["lc2st"] = diagnostics.lc2st(
            ratio, pairs, data, draws=DRAWS, random_seed=seed
        ).verdict
        found["observation_check"] = diagnostics.observation_check(
            ratio, own, data, random_seed=seed
        ).verdict
    return {"verdicts": found}


def _write(records, out):
    by = defaultdict(lambda: defaultdict(list))
    for record in records:
        for check, verdict in record["verdicts"].items():
            by[record["control"]][check].append(verdict)
    checks = list(by["exact"])
    lines = [
        f"| made wrong | {' | '.join(f'`{c}`' for c in checks)} |",
        "|---" * (len(checks) + 1) + "|",
    ]
    for control in CONTROLS:
        if control != "exact" and by[control]:
            cells = " | ".join(_cell(by[control][check]) for check in checks)
            lines.append(f"| {control} | {cells} |")
    (out / "checks_controls.inc").write_text("\n".join(lines) + "\n")
    lines = ["| check | runs | false alarms | share |", "|---|---|---|---|"]
    for check, found in by["exact"].items():
        known = [v for v in found if v != "not known"]
        alarms = sum(v not in RIGHT for v in known)
        lines.append(f"| `{check}` | {len(known):,} | {alarms} | {alarms / len(known):.1%} |")
    (out / "checks_alarms.inc").write_text("\n".join(lines) + "\n")
    print((out / "checks_controls.inc").read_text(), (out / "checks_alarms.inc").read_text())


def _cell(found):
    """How often something was found, and what most often."""
    known = [v for v in found if v != "not known"]
    wrong = [v for v in known if v not in RIGHT]
    if not known:
        return "not known"
    share = f"{len(wrong) / len(known):.0%}"
    kinds = Counter(" ".join(v.split()[-2:]) for v in wrong)
    return (
        f"{share}, {kinds.most_common(1)[0][0]}" if wrong and np.mean([*kinds.values()]) else share
    )


if __name__ == "__main__":
    main()
