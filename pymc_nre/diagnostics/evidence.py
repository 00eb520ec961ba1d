r"""Which prior, or which structure of parameters, do the data favor? Within one ratio.

The marginal likelihood of data under a model is a mean of the likelihood over its prior. A ratio
is the likelihood up to a factor of the data alone, p(x), and of a ratio that is not normalized
up to another. Both cancel between two models that use the same ratio on the same data, so

.. math:: \log \frac{p(x \mid A)}{p(x \mid B)} = \log \frac
    {E_{\theta \sim A} \prod_i r(x_i \mid \theta)} {E_{\theta \sim B} \prod_i r(x_i \mid \theta)}

is as right as the ratio is. Between two ratios they do not cancel, and nothing is compared.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from ..compat import for_arviz, has_log_likelihood, posterior_of
from ..likelihood.model_parameters import check_model, conditions_of, ratios_of
from ..runtime.arrays import true_or_false, whole_number
from ..runtime.random_streams import seed_sequence

__all__ = ["compare", "log_marginal_ratio"]


def log_marginal_ratio(
    model: pm.Model,
    other: pm.Model,
    *,
    draws: int = 2_000,
    chains: int = 4,
    random_seed: Any = None,
    progressbar: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Log of how much more probable the data are under one model than under another.

    Both models use the same ratio on the same data and differ in their priors, or in how
    parameters depend on one another. By sequential Monte Carlo from each prior.

    Parameters
    ----------
    model, other : pymc.Model
    draws : int
        Particles of each chain.
    chains : int
        Independent runs for each model, whose spread is the standard error.
    random_seed : int, Generator or SeedSequence, optional
    progressbar : bool
    **options
        For `pymc.sample_smc`.

    Returns
    -------
    xarray.Dataset
        ``log_ratio`` (natural logarithm; positive favors the first) and its standard
        ``error``. The attribute ``summary`` says what it means.

    Raises
    ------
    ValueError
        If the models do not use the same ratio on the same data, or have potentials, whose
        share of a prior is not known.

    References
    ----------
    J. Ching and Y.-C. Chen, Transitional Markov chain Monte Carlo method for Bayesian model
    updating, model class selection, and model averaging (2007), Journal of Engineering Mechanics
    133.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> def with_prior(sd):
    ...     with pm.Model() as model:
    ...         nre.RatioLikelihood("x", ratio, observed=[2.0, 2.5], mu=pm.Normal("mu", 0, sd))
    ...     return model
    >>> few = {"draws": 200, "chains": 2, "cores": 1, "random_seed": 1, "progressbar": False}
    >>> found = nre.diagnostics.log_marginal_ratio(with_prior(3), with_prior(0.1), **few)
    >>> float(found["log_ratio"]) > 0
    True
    """
    draws = whole_number(draws, "log_marginal_ratio: draws")
    # at least two, for the error comes of them
    chains = whole_number(chains, "log_marginal_ratio: chains", least=2)
    progressbar = true_or_false(progressbar, "log_marginal_ratio: progressbar")
    _check({"the first": model, "the second": other})
    seeds = seed_sequence(random_seed).generate_state(2).tolist()
    settings = {"draws": draws, "chains": chains, "progressbar": progressbar, **options}
    found = [
        _log_marginals(one, settings | {"random_seed": seed})
        for one, seed in zip((model, other), seeds, strict=True)
    ]
    log_ratio = float(found[0].mean() - found[1].mean())
    error = math.sqrt(sum(values.var(ddof=1) / len(values) for values in found))
    favored, times = ("first", log_ratio) if log_ratio > 0 else ("second", -log_ratio)
    return xr.Dataset(
        {"log_ratio": log_ratio, "error": error},
        attrs={
            "summary": f"The data are {math.exp(min(times, 700)):.3g} times as probable under the "
            f"{favored} model: log ratio {log_ratio:.2f} ± {error:.2g}."
        },
    )


def compare(models: Mapping[str, tuple[pm.Model, Any]], **options: Any) -> Any:
    """Compare models by leave-one-out cross-validation, if that is possible with their ratios.

    Parameters
    ----------
    models : mapping of str to tuple of pymc.Model and InferenceData or DataTree
        Each model and its posterior. Pointwise log likelihoods are computed where they are
        missing.
    **options
        For `arviz.compare`.

    Returns
    -------
    pandas.DataFrame
        Of `arviz.compare`. Differences of ``elpd`` are those of log likelihoods; the values
        themselves lack the log evidence of each observation, the same for all models.

    Raises
    ------
    ValueError
        If the models do not use the same ratio on the same data: what their log ratios lack is
        then not the same.

    References
    ----------
    A. Vehtari, A. Gelman and J. Gabry, Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC (2017), Statistics and Computing 27.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> def of(task):
    ...     with pm.Model() as model:
    ...         ratio, mu = task.estimator(), pm.Normal("mu")
    ...         nre.RatioLikelihood("x", ratio, observed=[1.0], engine="torch", mu=mu)
    ...     return model
    >>> one, two = (of(nre.tasks.GaussianMean(half_width)) for half_width in (10, 20))
    >>> try:
    ...     nre.diagnostics.compare({"one": (one, None), "two": (two, None)})
    ... except ValueError as error:
    ...     print(str(error).split(".")[0])
    one and two model use different ratios for 'x'
    """
    import arviz as az

    _check_pairs(models)
    _check({name: model for name, (model, _) in models.items()})
    found = {}
    for name, (model, idata) in models.items():
        posterior = _posterior(name, model, idata)
        if not hasattr(idata, "groups") or not has_log_likelihood(idata):
            own = for_arviz(posterior)  # what was given stays as it is
            idata = pm.compute_log_likelihood(own, model=model, progressbar=False)
        found[name] = idata
    return az.compare(found, **options)


def _check_pairs(models: Any) -> None:
    """Raise TypeError unless it is a mapping to pairs."""
    pairs = list(models.values()) if isinstance(models, Mapping) else []
    if not pairs or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise TypeError(
            "compare: models: expected a dict such as {'one': (model, idata), 'two': (other, "
            f"its_idata)}}, got {models!r}."
        )


def _posterior(name: str, model: pm.Model, idata: Any) -> xr.Dataset:
    """The draws of that model, by chain; ValueError if they are none."""
    posterior = posterior_of(idata, f"compare: {name}")
    absent = [free.name for free in model.free_RVs if free.name not in posterior]
    if absent:
        raise ValueError(
            f"compare: {name}: the posterior lacks {', '.join(absent)}, free variables of the "
            "model. Pass the model that was sampled."
        )
    return posterior.transpose("chain", "draw", ...)


def _check(models: Mapping[str, pm.Model]) -> None:
    """Refuse models whose marginal likelihoods have not the same unknown factor."""
    used = {}
    for name, model in models.items():
        check_model(model, f"{name} model")
        if model.potentials:
            raise ValueError(
                f"{name} model has potentials ({', '.join(v.name for v in model.potentials)}): "
                "what of them is prior and what likelihood is not known. Use RatioLikelihood."
            )
        used[name] = _what_is_observed(model)
        if not any(digest for digest, _ in used[name].values()):
            raise ValueError(f"{name} model has no RatioLikelihood.")
    first, *others = used
    for name in others:
        for variable in used[first].keys() | used[name].keys():
            one, two = used[first].get(variable), used[name].get(variable)
            if one is None or two is None or one[1] != two[1]:
                raise ValueError(
                    f"{first} and {name} model do not have the same data for {variable!r}. Models "
                    "are compared on the same observed variables with the same values."
                )
            if one[0] != two[0]:
                raise ValueError(
                    f"{first} and {name} model use different ratios for {variable!r}. Each lacks "
                    "an evidence of its own, so their log ratios cannot be compared. Train one "
                    "ratio on a prior that covers both models."
                )


def _what_is_observed(model: pm.Model) -> dict[str, tuple[str, bytes]]:
    """The ratio's digest (empty for ordinary variables) and the data of each observed variable.

    What is known beside observations is a part of them.
    """
    ratios = ratios_of(model)
    data = {
        variable.name: [model.rvs_to_values[variable], *conditions_of(variable)]
        for variable in model.observed_RVs
    }
    return {
        name: (
            ratios[name].digest if name in ratios else "",
            b"".join(_bytes(value.eval(mode="FAST_COMPILE")) for value in values),
        )
        for name, values in data.items()
    }


def _bytes(value: np.ndarray) -> bytes:
    return repr(value.shape).encode() + np.ascontiguousarray(value, dtype=float).tobytes()


def _log_marginals(model: pm.Model, settings: dict[str, Any]) -> np.ndarray:
    """Log marginal likelihoods, one for each chain."""
    with model, warnings.catch_warnings():
        # ArviZ takes the few stages of each chain for draws.
        warnings.filterwarnings("ignore", "More chains", UserWarning)
        idata = pm.sample_smc(compute_convergence_checks=False, **settings)
    by_chain = idata["sample_stats"]["log_marginal_likelihood"].to_numpy()
    # By stage and of type object, NaN in all but the last.
    values = [np.hstack([np.ravel(stage) for stage in np.ravel(stages)]) for stages in by_chain]
    return np.array(
        [[x for x in np.asarray(stages, float) if np.isfinite(x)][-1] for stages in values]
    )
