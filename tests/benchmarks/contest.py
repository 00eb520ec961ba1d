"""What a process of contestants can be told to do, whatever they are.

An evaluator is a function ``build(x)`` that gives a function of mu, in whatever coordinate it
likes, to a value and a gradient: ``(function, coordinate)``. A sampler is a function
``sample(x, chains, tune, draws, seed)`` that gives draws ``(chains, draws, D)`` of mu, or of the
D parameters of a hierarchy, its center first.
"""

import platform
import resource
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import problem
import worker


class Contest:
    """Evaluators, samplers and trainers by name."""

    def __init__(self, evaluators, samplers, trainers, libraries):
        self.evaluators, self.samplers, self.trainers = evaluators, samplers, trainers
        self.libraries = libraries
        self.ready = {}

    def serve(self):
        """Wait for orders."""
        orders = ("describe", "prepare", "time", "forget", "memory", "sample", "train")
        worker.serve({name: getattr(self, name) for name in orders})

    def describe(self):
        """Names, and versions of Python and of libraries."""
        versions = {name: _version(name) for name in self.libraries}
        return {
            "evaluators": list(self.evaluators),
            "samplers": list(self.samplers),
            "trainers": list(self.trainers),
            "libraries": {"Python": platform.python_version()} | versions,
        }

    def prepare(self, name, n):
        """Build an evaluator; its values and gradients at the probes."""
        function, coordinate = self.evaluators[name](problem.observations(n))
        points = [coordinate(mu) for mu in problem.PROBES]
        self.ready[name] = function, points
        answers = [function(point) for point in points]
        return {
            "values": [_number(value) for value, _ in answers],
            "gradients": [_number(gradient) for _, gradient in answers],
        }

    def time(self, name, seconds):
        """Microseconds of processor time per evaluation, over about that many seconds."""
        function, points = self.ready[name]
        rounds, elapsed = 1, 0.0
        while True:
            began = time.process_time()
            for _ in range(rounds):
                for point in points:
                    function(point)
            elapsed = time.process_time() - began
            if elapsed > seconds / 2:
                return elapsed / rounds / len(points) * 1e6
            rounds = max(2 * rounds, int(rounds * seconds / max(elapsed, 1e-6)))

    def forget(self):
        """Free the evaluators."""
        self.ready.clear()

    def memory(self, name, n):
        """Peak resident memory above a small data set's and the data itself, in MB."""
        self.prepare(name, problem.OBSERVED)
        before = _peak()
        function, coordinate = self.evaluators[name](problem.observations(n))
        function(coordinate(problem.MEAN))
        return _peak() - before - 8 * n / 1e6

    def sample(self, name, data, path, chains, tune, draws, seed):
        """Seconds that a sampler takes; the draws go to a file."""
        sample, x = self.samplers[name], problem.DATA[data]()
        began = time.process_time()
        result = sample(x, chains, tune, draws, seed)
        seconds = time.process_time() - began
        np.save(path, np.asarray(result, float).reshape(chains, draws, -1))
        return seconds

    def train(self, name, batch, epochs, quick):
        """Seconds that training takes, and the epochs it ran."""
        mu, x = problem.simulations(10_000 if quick else problem.SIMULATIONS)
        began = time.process_time()
        epochs = self.trainers[name](mu, x, batch, epochs)
        return {"seconds": time.process_time() - began, "epochs": epochs}


def _number(value):
    return float(np.asarray(value).ravel()[0])


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # kB on Linux


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
