"""PyMC models around anybody's likelihood, and their compiled functions."""

import warnings

import numpy as np
import problem
import pymc as pm
import pytensor


def model_of(likelihood, x):
    """The prior, and whatever ``likelihood(mu, x)`` adds to the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pm.Model() as model:
            likelihood(_means(x), x)
    return model


def _means(x):
    """One mean of all, or means ``(groups, 1)`` of x of shape ``(groups, each)``."""
    if x.ndim == 1:
        return pm.Uniform("mu", problem.LOW, problem.HIGH)
    center, spread = pm.Normal("center", 0, 5), pm.HalfNormal("spread", 3)
    return pm.Normal("mu", center, spread, shape=len(x))[:, None]


def evaluator(likelihood, **options):
    """The function that PyMC's own NUTS calls, as an evaluator."""

    def build(x):
        function = model_of(likelihood, x).logp_dlogp_function(ravel_inputs=True, **options)
        function.set_extra_values({})
        return function, lambda mu: problem.unbounded(mu).reshape(1).astype(pytensor.config.floatX)

    return build


def sampler(likelihood, step, **options):
    """`pymc.sample` on one core, with a step method by name; draws ``(chains, draws, D)``."""
    models = {}  # compiled anew by every call, as users' are

    def sample(x, chains, tune, draws, seed):
        if x.shape not in models:
            models[x.shape] = model_of(likelihood, x)
        model = models[x.shape]
        with warnings.catch_warnings(), model:
            warnings.simplefilter("ignore")
            how = {"nuts_sampler": "pymc"} | options
            if step != "NUTS":
                how = {"step": getattr(pm, step)()}
            idata = pm.sample(
                draws,
                tune=tune,
                chains=chains,
                cores=1,
                random_seed=seed,
                progressbar=False,
                compute_convergence_checks=False,
                **how,
            )
        posterior = [idata["posterior"][free.name].to_numpy() for free in model.free_RVs]
        return np.concatenate([part.reshape(chains, draws, -1) for part in posterior], axis=-1)

    return sample
