"""One chain for each data set of a model, with one compilation.

The data of the model are shared variables (see `pymc_nre.diagnostics.model_sbc.replicates`), which
compiled code takes as inputs. So a sampler is compiled once, where it is first used: in this
process, or in each process of an executor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pymc as pm
from pymc.initial_point import make_initial_point_fn
from pymc.sampling.mcmc import assign_step_methods, instantiate_steppers
from pymc.step_methods import CompoundStep

from ...compat import posterior_of, start_chain
from .replicates import data_name

__all__ = ["Chains", "chosen_sampler"]

SAMPLERS = ("auto", "nutpie", "pymc")
_STARTS = 10  # PyMC, too, tries ten starting points
Data = Mapping[str, np.ndarray]
Drawn = tuple[dict[str, np.ndarray], int]  # draws (draws, *own) by name; how many diverged


def chosen_sampler(sampler: str, model: pm.Model) -> str:
    """What ``sampler="auto"`` stands for; ValueError if it cannot sample the model."""
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}.")
    discrete = [rv.name for rv in model.free_RVs if not _is_continuous(rv)]
    if sampler == "nutpie" and discrete:
        raise ValueError(
            f"nutpie samples continuous variables only, not {', '.join(discrete)}. Use "
            "sampler='pymc'."
        )
    if sampler == "nutpie" and find_spec("nutpie") is None:
        raise ValueError("sampler='nutpie' needs nutpie: pip install nutpie, or use 'pymc'.")
    if sampler == "auto":
        return "nutpie" if find_spec("nutpie") is not None and not discrete else "pymc"
    return sampler


def _is_continuous(rv: Any) -> bool:
    return np.dtype(rv.type.dtype).kind == "f"


@dataclass
class Chains:
    """Draws of one chain given any data, of a model whose data are shared variables.

    Parameters
    ----------
    model : pymc.Model
    names : sequence of str
        Variables whose draws are wanted.
    sampler : {"nutpie", "pymc"}
    draws, tune : int
    target_accept : float
    """

    model: pm.Model
    names: Sequence[str]
    sampler: str
    draws: int
    tune: int
    target_accept: float

    def __post_init__(self) -> None:
        self._set_up()

    def _set_up(self) -> None:
        self._compiled: Callable[[Data, np.random.SeedSequence], Drawn] | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name[0] != "_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()  # compiled again where it is used

    def __call__(self, data: Data, seed: np.random.SeedSequence) -> Drawn:
        """Draws ``(draws, *own)`` by name, and the number of diverging ones."""
        with self._lock:
            if self._compiled is None:
                build = {"nutpie": _with_nutpie, "pymc": _with_pymc}[self.sampler]
                self._compiled = build(self)
        return self._compiled(data, seed)


def _with_nutpie(chains: Chains) -> Callable[[Data, np.random.SeedSequence], Drawn]:
    """A function that samples in threads of its own, without Python: many may run at once."""
    import nutpie

    compiled = nutpie.compile_pymc_model(chains.model, var_names=list(chains.names))

    def sample(data: Data, seed: np.random.SeedSequence) -> Drawn:
        running = nutpie.sample(
            compiled.with_data(**{data_name(name): values for name, values in data.items()}),
            draws=chains.draws,
            tune=chains.tune,
            chains=1,
            cores=1,
            seed=int(seed.generate_state(1)[0]),
            target_accept=chains.target_accept,
            save_warmup=False,
            progress_bar=False,
            blocking=False,  # where it blocks, Ctrl-C would pass for a finished chain
        )
        try:
            found = running.wait()
        except BaseException:
            running.cancel()
            raise
        posterior = posterior_of(found)
        drawn = {name: posterior[name].isel(chain=0).to_numpy() for name in chains.names}
        return drawn, int(found["sample_stats"]["diverging"].sum())

    return sample


def _with_pymc(chains: Chains) -> Callable[[Data, np.random.SeedSequence], Drawn]:
    """A function that runs PyMC's own steps, one chain at a time."""
    model = chains.model
    step = _steps(model, chains.target_accept)
    start_at = make_initial_point_fn(
        model=model, jitter_rvs={rv for rv in model.free_RVs if _is_continuous(rv)}
    )
    log_density = model.compile_logp()
    values = model.compile_fn(
        model.replace_rvs_by_values([model[name] for name in chains.names]),
        inputs=model.value_vars,
        on_unused_input="ignore",
    )
    lock = threading.Lock()  # the data and the steps are there once

    def start(rng: np.random.Generator) -> dict[str, np.ndarray]:
        for _ in range(_STARTS):
            point = start_at(int(rng.integers(2**31)))
            if np.isfinite(log_density(point)):
                return point
        raise pm.SamplingError(
            f"None of {_STARTS} starting points has a finite log density. Give initval= to the "
            "variables of the model."
        )

    def sample(data: Data, seed: np.random.SeedSequence) -> Drawn:
        rng = np.random.default_rng(seed)
        with lock:
            for name, data_set in data.items():
                model.rvs_to_values[model[name]].set_value(data_set)
            point = start(rng)
            _prepare(step, rng, chains.tune, chains.draws)
            kept, diverging = [], 0
            for i in range(chains.tune + chains.draws):
                if i == chains.tune:
                    step.stop_tuning()
                point, stats = step.step(point)
                if i >= chains.tune:
                    kept.append(values(point))
                    diverging += any(bool(stat.get("diverging", False)) for stat in stats)
        columns = zip(*kept, strict=True)
        return dict(zip(chains.names, map(np.stack, columns), strict=True)), diverging

    return sample


def _steps(model: pm.Model, target_accept: float) -> Any:
    """The steps that `pymc.sample` would take."""
    with model:
        _, selected = assign_step_methods(model)
        options = {"nuts": {"target_accept": target_accept}}
        options = {kind.name: options[kind.name] for kind in selected if kind.name in options}
        steps = instantiate_steppers(model, [], selected, step_kwargs=options)
        return CompoundStep(steps) if isinstance(steps, list) else steps


def _prepare(step: Any, rng: np.random.Generator, tune: int, draws: int) -> None:
    """Make steps forget the chain before."""
    start_chain(step, rng, tune, draws)
    for one in getattr(step, "methods", [step]):  # a compound step passes on less than all
        one.tune = bool(tune)
        if hasattr(one, "reset_tuning"):
            one.reset_tuning()
        if hasattr(one, "iter_count"):
            one.iter_count = 0
