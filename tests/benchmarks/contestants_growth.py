"""Our engines over networks of any size, named by their sizes in JSON."""

import json
import warnings
from functools import cache

import contestants_ours
import numpy as np
import pymc as pm
from contest import Contest

import pymc_nre as nre


@cache
def ratio_of(width, depth, parameters):
    """Hardly trained: only its size matters here."""
    rng = np.random.default_rng(1)
    theta = rng.normal(size=(1_000, parameters))
    x = rng.normal(theta.mean(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nre.train(
            nre.Simulations({"theta": theta}, x),
            network=nre.networks.MLP((width,) * depth),
            epochs=1,
            random_seed=1,
            progressbar=False,
        )


def evaluator(engine, width, depth, parameters, n, own=False):
    """As `models.evaluator`, with a vector of parameters; ``own``: one of its own for each row."""

    def build(x):
        ratio, options = ratio_of(width, depth, parameters), contestants_ours.ENGINES[engine]
        with warnings.catch_warnings(), pm.Model() as model:
            warnings.simplefilter("ignore")
            theta = pm.Normal("theta", shape=parameters)
            if own:
                theta = theta + np.linspace(-1, 1, n)[:, None]
            nre.RatioLikelihood("x", ratio, theta=theta, observed=x, **options)
            function = model.logp_dlogp_function(ravel_inputs=True)
        function.set_extra_values({})
        return function, lambda mu: np.full(parameters, mu / 10)

    return build


class Evaluators(dict):
    """Made when asked for; iterated over, the engines there are."""

    def __missing__(self, name):
        return evaluator(**json.loads(name))


def main():
    engines = contestants_ours.engines(ratio_of(8, 1, 1), "theta", np.zeros(1))
    Contest(Evaluators(dict.fromkeys(engines)), {}, {}, ("pymc_nre",)).serve()


if __name__ == "__main__":
    main()
