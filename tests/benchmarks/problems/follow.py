"""From the defaults, by what the library says, to where it says no more or no more can be done."""

import logging
import re
import time
import warnings
from contextlib import contextmanager

import pymc as pm

import pymc_nre as nre

from .base import summaries

__all__ = ["follow", "next_of"]

_STATIONS = 6
_INSIDE = "All posterior draws are inside"
# What advice says, and what is then done; of several the first that is said and not yet done.
_REMEDIES = {
    r"[Mm]easure it": "measure the budget",
    r"around=idata": "center around the posterior",
    r"nre\.Online\(|nre\.center\(ratio, \.\.\.\)": "fine-tune",
    r"narrower (training )?prior": "train around the posterior",
    r"on more simulations": "train on four times as many",
}
_SAID = re.compile(r"simulator, ([\d_]+)\)")  # how many simulations measure the budget


def follow(problem, simulations=20_000, epochs=None, draws=500, tell=lambda record: None):
    """Records of all stations: what was done, errors and widths, what was said, seconds."""
    began = time.monotonic()
    x = problem.data()
    exact = problem.exact(x)
    journey = _Journey(problem, x, simulations, {"epochs": epochs} if epochs else {}, draws)
    records, done = [], []
    action = "defaults"
    while action and len(records) < _STATIONS:
        began_here = time.process_time()
        words = journey.do(action)
        done.append(action)
        if action != "measure the budget":
            words += journey.sample()
        found = journey.found
        records.append(
            {
                "station": action,
                "error": {k: (found[k][0] - m) / s for k, (m, s) in exact.items()},
                "width": {k: found[k][1] / s for k, (m, s) in exact.items()},
                "words": words,
                "seconds": round(time.process_time() - began_here),
            }
        )
        tell(records[-1])
        journey.said = " ".join(words)
        action = next_of(words, done, problem)
    return {"problem": problem.name, "stations": records, "wall": round(time.monotonic() - began)}


def next_of(words, done, problem):
    said = " ".join(words)
    found = {what: re.search(phrase, said) for phrase, what in _REMEDIES.items()}
    if not hasattr(problem, "narrower"):
        found["train around the posterior"] = None
    places = {what: hit.start() for what, hit in found.items() if hit and what not in done}
    return min(places, key=places.get, default=None)


class _Journey:
    def __init__(self, problem, x, simulations, options, draws):
        self.problem, self.x, self.n = problem, x, simulations
        self.options, self.draws = options, draws
        self.model = self.idata = self.ratio = self.found = self.said = None

    def do(self, action):
        """What was advised; all that is said meanwhile."""
        with _heard() as words:
            if action in ("defaults", "train on four times as many"):
                self.n *= 1 if action == "defaults" else 4
                self._train()
            elif action == "train around the posterior":
                self.problem = self.problem.narrower(self.found)
                self._train()
            elif action == "measure the budget":
                simulations = self._simulations(5, int(_SAID.search(self.said)[1]))
                budget = nre.trial_budget(self.ratio, simulations)
                self.ratio = budget.attach(self.ratio)
                words.append(str(budget))
                self._model()
            elif action == "fine-tune":
                supply = nre.Online(self.problem.prior(), self.problem.simulator, batched=True)
                self.ratio = nre.center(self.ratio, supply, random_seed=1, progressbar=False)
            else:
                self.ratio = nre.center(
                    self.ratio,
                    around=self.idata,
                    model=self.model,
                    random_seed=1,
                    progressbar=False,
                )
            if self.ratio.normalized and action != "measure the budget":
                words += self._report()
        return words

    def _report(self):
        """What a report has to say against the ratio, and of trials that it cannot vouch for."""
        found = nre.diagnostics.report(
            self.ratio,
            self._simulations(7, 2_000),
            self.x,
            trials=self.problem.trials,
            random_seed=1,
            progressbar=False,
        )
        told = [row for row in found.rows if row[0] in found._failed or row[0] == "trial_budget"]
        return [f"{name} {summary} {advice}" for name, _, summary, advice in told]

    def _simulations(self, seed, n):
        return nre.simulate(
            self.problem.prior(),
            self.problem.simulator,
            n,
            batched=True,
            random_seed=seed,
            progressbar=False,
        )

    def _train(self):
        self.ratio = nre.train(
            self._simulations(1, self.n), random_seed=1, progressbar=False, **self.options
        )

    def _model(self):
        self.model = self.problem.model(self.ratio, self.x)

    def sample(self):
        """Draw the posterior; what is said when the model is built, and of the draws."""
        with _heard() as words:
            self._model()
            with self.model:
                self.idata = pm.sample(
                    self.draws, tune=500, chains=2, cores=1, random_seed=1, progressbar=False
                )
            check = nre.diagnostics.domain_check(self.idata, self.ratio, model=self.model)
            if not check.attrs["summary"].startswith(_INSIDE):
                words.append(check.attrs["summary"])
        names = getattr(self.problem, "quantities", [v.name for v in self.model.free_RVs])
        self.found = summaries(self.idata["posterior"], names)
        return words


@contextmanager
def _heard():
    """Warnings of the library, and what PyMC logs of chains that disagree or diverge."""
    words = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: words.append(record.getMessage())
    logger = logging.getLogger("pymc")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield words
    finally:
        logger.removeHandler(handler)
    ours = [w for w in told if w.category.__module__.startswith("pymc_nre")]
    words += [str(w.message) for w in ours]
