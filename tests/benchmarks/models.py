"""PyMC models around anybody's likelihood, and their compiled functions."""

import warnings

import problem
import pymc as pm
import pytensor


def model_of(likelihood, x):
    """The prior, and whatever ``likelihood(mu, x)`` adds to the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pm.Model() as model:
            likelihood(pm.Uniform("mu", problem.LOW, problem.HIGH), x)
    return model


def evaluator(likelihood):
    """The function that PyMC's own NUTS calls, as an evaluator."""

    def build(x):
        function = model_of(likelihood, x).logp_dlogp_function(ravel_inputs=True)
        function.set_extra_values({})
        return function, lambda mu: problem.unbounded(mu).reshape(1).astype(pytensor.config.floatX)

    return build


def sampler(likelihood, step, nuts_sampler="pymc"):
    """`pymc.sample` on one core, with a step method by name."""
    model = []  # one model, compiled anew by every call as users' are

    def sample(x, chains, tune, draws, seed):
        if not model:
            model.append(model_of(likelihood, x))
        with warnings.catch_warnings(), model[0]:
            warnings.simplefilter("ignore")
            if step == "NUTS":
                options = {"nuts_sampler": nuts_sampler}
            else:
                options = {"step": getattr(pm, step)()}
            idata = pm.sample(
                draws,
                tune=tune,
                chains=chains,
                cores=1,
                random_seed=seed,
                progressbar=False,
                compute_convergence_checks=False,
                **options,
            )
        return idata["posterior"]["mu"].to_numpy()

    return sample
