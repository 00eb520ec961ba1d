r"""Where true values rank among the posterior draws of a user's own model: its calibration.

If a model's posteriors are right, the values that its data were drawn at are one more draw of them.
So over data sets of the model's own making (see `pymc_nre.diagnostics.model_sbc.replicates`) the
rank of a true value :math:`\theta^*` among L independent draws is uniform. With v from U(0, 1) and
ties counted by :math:`e`,

.. math:: u = \frac{\#\{\theta_l < \theta^*\} + v\, (e + 1)}{L + 1} \sim U(0, 1)

for any L. Draws of a chain are not independent, which would spread the ranks. So each parameter's
chain is thinned to as many draws as are effective.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pymc as pm
import xarray as xr

from ...exceptions import CannotDrawError, PosteriorWarning, warn
from ...likelihood.model_parameters import model_in_use
from ...runtime.arrays import real_number, true_or_false, whole_number
from ...runtime.checkpoint import Checkpoint, CheckpointWriter, fingerprint
from ...runtime.executors import Outcome, as_they_end, executor_of, shares_memory, unpickled
from ...runtime.progress import progress
from ...runtime.random_streams import plain_seed
from ..calibration import FEW
from .chains import Chains, chosen_sampler
from .records import DONE, FAILED, PER_PARAMETER, TO_DO, Replicated, Table
from .replicates import Replicates

__all__ = ["sbc_model"]

_HOPELESS = 10  # if this many failed and none succeeded, all would


def sbc_model(
    model: pm.Model | None = None,
    *,
    replicates: int = 200,
    var_names: Sequence[str] | None = None,
    draws: int = 500,
    tune: int = 500,
    target_accept: float = 0.9,
    sampler: str = "auto",
    executor: Executor | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> xr.Dataset:
    """Rank true values among the posterior draws of your own model, for `sbc`.

    Each replicate draws parameters from the model's own prior, whatever that is, and data of the
    model's own shape from its likelihoods: a `RatioLikelihood` calls its simulator, other observed
    variables draw from their distribution. Then it samples the model with these data. All of them
    need one compilation. The model and the data in it stay as they are.

    Parameters
    ----------
    model : pymc.Model, optional
        By default the one in context.
    replicates : int
        How many data sets.
    var_names : sequence of str, optional
        Free variables and deterministics to rank; by default all free variables.
    draws, tune : int
        Of the one chain of each replicate.
    target_accept : float
        Of NUTS, between 0 and 1.
    sampler : {"auto", "nutpie", "pymc"}
        ``"auto"`` takes nutpie where it is installed and all free variables are continuous, else
        the steps that `pymc.sample` takes.
    executor : concurrent.futures.Executor, optional
        Runs the replicates; by default this thread does. With nutpie threads do: they share what
        is compiled. Each process compiles for itself.
    checkpoint : str or path-like, optional
        A file that follows the run, from which the same call goes on after a kill, or with more
        replicates.
    random_seed : int, Generator or SeedSequence, optional
        Results depend on it, and not on the executor.
    progressbar : bool

    Returns
    -------
    xarray.Dataset
        For each replicate that was sampled (pair) and each number (parameter): ``pit``, the rank
        in [0, 1], uniform if posteriors are right; ``ess``, the effective number of draws that it
        rests on; ``truth``, ``mean`` and ``sd``, the true value, and the posterior's mean and
        standard deviation. ``diverging`` (pair) is the number of diverging transitions. The
        attribute ``failed`` counts the replicates that are left out.

    Raises
    ------
    TypeError
        If there is no model.
    ValueError
        If an argument does not fit, data sets of the model cannot be drawn (potentials, improper
        priors, transforms that cut a prior off, ratios without a simulator, minibatches), or the
        checkpoint belongs to another run.
    RuntimeError
        If more than half of the replicates fail, with the first error.

    Warns
    -----
    PosteriorWarning
        If replicates fail, some parameter has fewer than 10 effective draws in half of them, or
        the run is interrupted, which leaves those before the first gap.

    See Also
    --------
    sbc : What the ranks say.
    posterior_ranks : The same for a ratio by itself, without MCMC.

    References
    ----------
    S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration
    (2018), arXiv:1804.06788.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> with pm.Model() as model:
    ...     mu = pm.Normal("mu", 0, 2)
    ...     x = nre.RatioLikelihood("x", ratio, mu=mu, observed=[0.3, -0.2, 1.1], engine="torch")
    >>> options = {"replicates": 3, "draws": 200, "tune": 100, "sampler": "pymc", "random_seed": 1}
    >>> ranks = nre.diagnostics.sbc_model(model, progressbar=False, **options)
    >>> dict(ranks["pit"].sizes)
    {'pair': 3, 'parameter': 1}
    """
    model = model_in_use(model, "sbc_model")
    if model is None:
        raise TypeError("sbc_model needs a model. Pass it, or call inside `with model:`.")
    replicates = whole_number(replicates, "sbc_model: replicates")
    draws = whole_number(draws, "sbc_model: draws", least=FEW)
    tune = whole_number(tune, "sbc_model: tune", least=0)
    target_accept = real_number(target_accept, "sbc_model: target_accept", above=0, below=1)
    progressbar = true_or_false(progressbar, "sbc_model: progressbar")
    sampler = chosen_sampler(sampler, model)
    file = Checkpoint(checkpoint, "calibration run", "pymc_nre.Calibration")
    seed = file.chosen_seed(plain_seed(random_seed))
    drawn = Replicates(model, var_names)
    chains = Chains(drawn.model, list(drawn.layout.shapes), sampler, draws, tune, target_accept)
    table = Table(replicates, drawn.layout.size)
    writer = CheckpointWriter(file, _identity(drawn, chains, seed), seed)
    try:
        with file.held():
            writer.known = table.take(writer.resume(), file.path)
            _fill(table, _Replicate(drawn, chains, seed), executor, writer, progressbar)
    except (KeyboardInterrupt, BrokenExecutor) as error:
        table = table.before_first_gap()
        if not (table.state == DONE).any():
            raise
        how = "Interrupted"
        if isinstance(error, BrokenExecutor):  # a replicate has taken all memory, say
            how = f"Stopped by {type(error).__name__}"
        warn(
            f"{how}: returning the first {len(table.state):,} of {replicates:,} replicates.",
            PosteriorWarning,
        )
    _tell(table, drawn.layout.labels)
    settings = {"sampler": sampler, "draws": draws, "tune": tune, "random_seed": seed}
    return table.to_xarray(drawn.layout.labels, **settings)


@dataclass(frozen=True)
class _Replicate:
    """All that a replicate needs; runs in a worker."""

    drawn: Replicates
    chains: Chains
    seed: int

    def __call__(self, index: int) -> Outcome:
        """Draw a data set, sample, rank. Seeds are spawned from the run's by the index."""
        for_data, for_chain, for_ranks = _seeds(self.seed, index)
        layout = self.drawn.layout
        try:
            made = self.drawn.draw(np.random.default_rng(for_data))
            draws, diverging = self.chains(made.data, for_chain)
            draws = layout.pack(draws)
        except CannotDrawError:
            raise
        except Exception:
            return Outcome(index, index + 1, None, np.zeros(1, bool), traceback.format_exc())
        ess = _effective(draws)
        pit = _ranks(made.truth, draws, ess, np.random.default_rng(for_ranks))
        values = np.stack([pit, ess, made.truth, draws.mean(0), draws.std(0, ddof=1)])
        return Outcome(index, index + 1, Replicated(values, diverging), np.ones(1, bool))


def _seeds(seed: int, index: int) -> list[np.random.SeedSequence]:
    """For the data, the chain and the ranks of a replicate."""
    return np.random.SeedSequence(seed, spawn_key=(index,)).spawn(3)


def _run(replicate: _Replicate | bytes, index: int) -> Outcome:
    if isinstance(replicate, bytes):
        replicate = unpickled(replicate)
    return replicate(index)


def _effective(draws: np.ndarray) -> np.ndarray:
    """Effective numbers ``(P,)`` of draws ``(S, P)`` of a chain, at least 1 and at most S."""
    import arviz as az

    found = np.array([float(az.ess(column[None])) for column in draws.T])
    # A chain that never moves tells nothing, but that of an integer may be certain.
    still = np.ptp(draws, axis=0) == 0
    found[still] = np.where(draws[0] == np.rint(draws[0]), len(draws), 1)[still]
    return np.clip(np.nan_to_num(found, nan=1.0), 1.0, len(draws))


def _ranks(
    truth: np.ndarray, draws: np.ndarray, ess: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Ranks ``(P,)`` in [0, 1] of true values ``(P,)`` among thinned draws ``(S, P)``."""
    found = np.empty(len(truth))
    for k, v in enumerate(rng.uniform(size=len(truth))):
        kept = draws[np.linspace(0, len(draws) - 1, int(ess[k])).astype(int), k]
        below, ties = (kept < truth[k]).sum(), (kept == truth[k]).sum()
        found[k] = (below + v * (ties + 1)) / (len(kept) + 1)
    return found


def _fill(
    table: Table,
    replicate: _Replicate,
    executor: Executor | None,
    writer: CheckpointWriter,
    progressbar: bool,
) -> None:
    """Run what is still to do."""
    to_do = np.flatnonzero(table.state == TO_DO)
    with progress(enabled=progressbar) as display:
        bar = display.add_task("calibrating", total=len(table.state), status="")
        display.update(bar, completed=len(table.state) - len(to_do))
        try:
            for outcome in _outcomes(replicate, to_do, executor_of(executor)):
                table.enter(outcome)
                _give_up_if_hopeless(table)
                writer.write(table.known, table.to_file)
                done, failed = ((table.state == s).sum() for s in (DONE, FAILED))
                status = f"{failed:,} failed" if failed else ""
                display.update(bar, completed=int(done + failed), status=status)
        finally:
            writer.write(table.known, table.to_file, last=True)


def _outcomes(replicate: _Replicate, to_do: np.ndarray, executor: Executor) -> Iterator[Outcome]:
    task: _Replicate | bytes = replicate
    if not shares_memory(executor):
        task = cloudpickle.dumps(replicate)
    return as_they_end(executor, _run, ((task, int(index)) for index in to_do))


def _give_up_if_hopeless(table: Table) -> None:
    if (table.state == FAILED).sum() >= _HOPELESS and not (table.state == DONE).any():
        raise _all_failed(table)


def _all_failed(table: Table) -> RuntimeError:
    failed, tried = (table.state == FAILED).sum(), (table.state != TO_DO).sum()
    return RuntimeError(
        f"{failed:,} of {tried:,} replicates failed. The first error was:\n\n{table.error}"
    )


def _identity(drawn: Replicates, chains: Chains, seed: int) -> dict[str, str]:
    """What must be the same for a run to be resumed; the first data set stands for all."""
    try:
        first = drawn.draw(np.random.default_rng(_seeds(seed, 0)[0]))
        data = fingerprint(first.truth, *first.data.values())
    except CannotDrawError:
        raise
    except Exception as error:  # this one is counted among those that fail
        data = fingerprint(type(error))
    settings = (chains.sampler, chains.draws, chains.tune, chains.target_accept)
    return {
        "random_seed": fingerprint(seed),
        "variables": fingerprint(drawn.layout.shapes),
        "sampler, draws, tune or target_accept": fingerprint(settings),
        "ratios": fingerprint(drawn.ratios),
        "prior, simulator or shape of the data": data,
    }


def _tell(table: Table, labels: list[str]) -> None:
    """Raise if hardly any replicate succeeded; warn of what ranks cannot rest on."""
    done, failed = (int((table.state == s).sum()) for s in (DONE, FAILED))
    if failed > done:
        raise _all_failed(table)
    if failed:
        _warn(
            f"{failed:,} of {done + failed:,} replicates failed and are left out, which bends the "
            f"ranks if failing depends on the values. The first error was:\n\n{table.error}"
        )
    ess = np.median(table.values[table.state == DONE][:, PER_PARAMETER.index("ess")], axis=0)
    if ess.min() < FEW:
        _warn(
            f"Half of the ranks of {labels[ess.argmin()]} rest on fewer than {ess.min():.1f} "
            "effective draws: their chains had not settled. Give more draws= and tune=, or write "
            "the model so that it is easier to sample."
        )


def _warn(text: str) -> None:
    warn(text, PosteriorWarning)
