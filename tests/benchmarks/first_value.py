"""One fresh process, to its first value: ``first_value.py N [ESTIMATOR ENGINE]``.

Without an estimator it is a plain PyMC model. Prints the processor seconds of each part as
JSON; the import of torch, wherever it happens, is a part of its own.
"""

import importlib.machinery
import json
import os
import sys


def now():
    """Processor seconds so far, those of compilers that were called included."""
    return sum(os.times()[:4])


class Clock:
    """Seconds since it was last looked at, by name."""

    def __init__(self):
        self.parts, self.last = {}, now()

    def stop(self, name):
        """Call what passed ``name``."""
        time = now()
        self.parts[name], self.last = time - self.last, time


class TorchTimer:
    """An import finder that takes the time of one package."""

    seconds = 0.0

    def find_spec(self, name, path=None, target=None):
        """Find torch as usual, and time it."""
        if name != "torch":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def timed(module):
            began = now()
            execute(module)
            self.seconds = now() - began

        spec.loader.exec_module = timed
        return spec


def main(n, estimator=None, engine=None):
    torch = TorchTimer()
    sys.meta_path.insert(0, torch)
    clock = Clock()
    import numpy as np
    import pymc as pm

    clock.stop("import pymc")
    if estimator is not None:
        import pymc_nre as nre

        clock.stop("import pymc_nre")
        ratio = nre.load(estimator)
        clock.stop("load")
    x = np.random.default_rng(0).normal(2.0, 1.0, int(n))
    with pm.Model() as model:
        mu = pm.Uniform("mu", -10, 10)
        if estimator is None:
            pm.Normal("x", mu, 1.0, observed=x)
        else:
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x, engine=engine)
    clock.stop("model")
    function = model.logp_dlogp_function(ravel_inputs=True)
    function.set_extra_values({})
    clock.stop("compile")
    function(np.array([0.3]))
    clock.stop("first value")
    return clock.parts | {"import torch": torch.seconds}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
