"""What it gains to go on from a trained ratio with more simulations, and what that costs.

``python -m tests.benchmarks.growing``, from the repository's root. A ratio is trained on 5,000
simulations. Then there are 5,000 more: one goes on with all of them, another is trained on them
from new weights. Held-out loss is that of contrasts at every scale, on 20,000 other simulations.
Takes five minutes, and resumes.
"""

import copy
import time
import warnings
from functools import partial
from itertools import product

import numpy as np

import pymc_nre as nre
from pymc_nre.training.batching.batches import batches_of
from pymc_nre.training.batching.contrasts import ContrastedBatches
from pymc_nre.training.loop import _validate

from .combinations import measure_all, parser_of
from .sbibm.catalog import TASKS
from .sbibm.recipes import simulations
from .tables import Table

CHOSEN = ("slcp", "two_moons", "bernoulli_glm")
SEEDS = (1, 2)
N, TEST = 5_000, 20_000
LOSS = nre.losses.MultiScale()
OPTIONS = {
    "network": nre.networks.MLP((64, 64, 64)),
    "measure_budget": False,
    "progressbar": False,
}
KEYS = ("task", "seed")


def main():
    warnings.simplefilter("ignore")
    options = parser_of(__doc__).parse_args()
    measure_all("growing", KEYS, product(CHOSEN, SEEDS), measured, table, options)


def measured(task, seed):
    """Held-out loss and seconds of the first, of one from new weights, and of one that goes on."""
    task = TASKS[task]
    first, more = (simulations(task, N, 100 * seed + k) for k in (1, 2))
    test, options = simulations(task, TEST, 99), OPTIONS | {"random_seed": seed}
    begun, seconds = timed(partial(nre.train, first, **options))
    found = {"first": (held_out(begun, test), seconds)}
    new, seconds = timed(partial(nre.train, first + more, **options))
    found["new"] = held_out(new, test), seconds
    grown, seconds = timed(
        partial(nre.train, first + more, **options | {"start": begun, "network": None})
    )
    return found | {"grown": (held_out(grown, test), seconds)}


def timed(train):
    began = time.process_time()
    return train(), time.process_time() - began


def held_out(ratio, test):
    """On pairs that nobody has seen, with the same candidates for all."""
    batches = ContrastedBatches.wanted_by(LOSS, batches_of(test, LOSS, 0.9, "cpu", 5), 5)
    return _validate(copy.deepcopy(ratio.network).float(), LOSS, batches)


def table(records):
    """Mean losses over seeds, and seconds of the processor."""
    rows = []
    for task in CHOSEN:
        own = [records[task, seed] for seed in SEEDS]
        cells = [_cell(own, name) for name in ("first", "new", "grown")]
        gained = [each["new"][0] - each["grown"][0] for each in own]
        shown = ", ".join(f"{gain:+.4f}" for gain in gained)
        rows.append([task, *cells, shown])
    heads = ("task", "5,000", "10,000 from new weights", "10,000 from those", "gain by seed")
    return Table("Growing", heads, rows).markdown()


def _cell(own, name):
    losses, seconds = np.transpose([each[name] for each in own])
    return f"{losses.mean():.4f} ({seconds.mean():.0f} s)"


if __name__ == "__main__":
    main()
