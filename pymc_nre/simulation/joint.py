"""Prior draws through a simulator: what is drawn, what is a parameter, what is nuisance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..exceptions import SimulationWarning, warn
from ..runtime.arrays import finite_array, true_or_false, whole_number
from ..runtime.executors import executor_of
from ..runtime.random_streams import seed_sequence
from .conditions.designs import Designs, check_apart, names_of_variables
from .conditions.layout import side_by_side
from .drawn import Drawn
from .execution import Job, observations_of, points_of, run, warn_failed, why_failed
from .forward import ForwardDraw, as_dtype
from .parameters import Layout
from .prior import Prior
from .simulations import Simulations
from .simulator import Simulator
from .slices import Simulated

__all__ = ["JointSimulator", "simulate"]


def simulate(
    prior: Any,
    simulator: Callable[..., Any] | str,
    n: int,
    *,
    parameters: Collection[str] | None = None,
    conditions: Mapping[str, Any] | Collection[str] | None = None,
    at: Mapping[str, Any] | None = None,
    batched: bool = False,
    iid: bool = False,
    executor: Executor | None = None,
    random_seed: Any = None,
    progressbar: bool = True,
) -> Simulations:
    """Draw parameters from a prior and simulate an observation at each draw.

    Parameters
    ----------
    prior : pymc.Model or dict
        A model whose free variables are the parameters (scalars, vectors or arrays), or a
        dict of name to ``pm.X.dist()``. The ratio will be valid where this prior lives: make
        it wide.
    simulator : callable or str
        ``simulator(rng, **parameters)`` gives one observation, a number or an array whose
        shape never varies. ``rng`` is a `numpy.random.Generator`, the parameters have their
        own shapes and are the simulator's to change. A string names a variable of the prior
        model, observed or free, that is its own simulator: whatever else it depends on is drawn
        too.
    n : int
        Number of simulations.
    parameters : collection of str, optional
        The parameters that the ratio shall see; by default all. The rest are nuisance: drawn
        with the others and passed to the simulator, in predictive sampling too, and so
        marginalized over their prior.
    conditions : mapping or collection of str, optional
        Known inputs of an observation, such as a dose or a stimulus, which the simulator gets by
        name beside the parameters. By name a distribution ``pm.X.dist(...)``, or an array
        ``(m, *own)`` of the designs that occur (the rows of all arrays belong together); or names
        of variables of the prior. They are drawn independently of the parameters, and the ratio is
        that of an observation given its conditions: `RatioLikelihood` takes them as data.
    at : mapping of str to array, optional
        Simulate at these values of the parameters instead of draws (nuisance is still
        drawn); for the reference of `pymc_nre.losses.CARL`.
    batched : bool
        If True, the simulator takes up to 1,000 draws at once: every parameter has a leading
        axis of draws, and so has what it returns. A block that raises is halved and tried again,
        down to the draws that fail.
    iid : bool
        If True, a simulation is m points that are independent given the parameters, shape
        ``(m, *event)``, batched ``(n, m, *event)``, and the ratio of a single point is learned,
        from all of them. m may vary, by the length of what is returned or by a mask of whole
        points, but not with the parameters. All variables must be parameters: points that share
        nuisance are not independent.
    executor : concurrent.futures.Executor, optional
        Where the simulator runs: a process or thread pool, or a cluster's executor; by
        default in this thread.
    random_seed : int, Generator or SeedSequence, optional
        The same seed gives the same simulations, whatever the executor.
    progressbar : bool
        Show the number done, the rate, and the time left.

    Returns
    -------
    Simulations
        The successful simulations, in the order of the draws.

    Raises
    ------
    SimulationError
        If no simulation succeeded; it shows the first traceback.
    TypeError
        If ``n``, ``executor`` or ``random_seed`` is none, or the simulator returns no numbers for
        one of the first hundred draws.
    ValueError
        If the shape of an observation varies within the first hundred draws, a batched simulator
        returns the wrong number of observations, the prior has no free variables, infinite draws
        or names that cannot be used, or names in ``parameters`` or ``at`` do not fit.

    Warns
    -----
    SimulationWarning
        If simulations raised, exited, were not finite, or (after the first hundred) gave something
        else than an observation like the others: they are left out, and of several points those
        that are not finite. On Ctrl-C, or when a worker
        dies, what is done is returned.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> prior = {"mu": pm.Uniform.dist(-10, 10), "sigma": pm.HalfNormal.dist(2)}
    >>> simulator = lambda rng, mu, sigma: rng.normal(mu, sigma)
    >>> nre.simulate(prior, simulator, 500, random_seed=1, progressbar=False)
    Simulations: 500 pairs, parameters mu (scalar), sigma (scalar), observation scalar

    With sigma as a nuisance parameter:

    >>> nre.simulate(
    ...     prior, simulator, 500, parameters=["mu"], random_seed=1, progressbar=False
    ... )
    Simulations: 500 pairs, parameters mu (scalar), observation scalar

    A response to a known dose:

    >>> nre.simulate(
    ...     {"slope": pm.Normal.dist(0, 2)},
    ...     lambda rng, slope, dose: rng.normal(slope * dose, 1.0),
    ...     500,
    ...     conditions={"dose": pm.Uniform.dist(0, 1)},
    ...     random_seed=1,
    ...     progressbar=False,
    ... )
    Simulations: 500 pairs, parameters slope (scalar), conditions dose (scalar), observation scalar
    """
    n = whole_number(n, "n")
    progressbar = true_or_false(progressbar, "simulate: progressbar")
    joint_simulator = JointSimulator.of(prior, simulator, parameters, batched, conditions, iid)
    return joint_simulator.run(
        n, at=at, executor=executor, seed=random_seed, progressbar=progressbar
    )


@dataclass(frozen=True, eq=False)
class JointSimulator:
    """A prior, which of its variables are parameters, and a simulator.

    Attributes
    ----------
    prior : Prior
        Of parameters and nuisance together.
    parameters : tuple of str
        What the ratio sees.
    simulator : Simulator
        Takes all variables of the prior, and gives all points of a simulation.
    predictor : Simulator
        Takes the parameters and conditions alone, and gives single observations.
    conditions : tuple of str
        What is known beside an observation.
    designs : Designs, optional
        Where they come from, if not from the prior.
    """

    prior: Prior
    parameters: tuple[str, ...]
    simulator: Simulator
    predictor: Simulator
    conditions: tuple[str, ...] = ()
    designs: Designs | None = None

    @classmethod
    def of(
        cls,
        prior: Any,
        simulator: Callable[..., Any] | str,
        parameters: Collection[str] | None,
        batched: bool,
        conditions: Any = None,
        iid: bool = False,
    ) -> JointSimulator:
        """What a user means by the arguments of `simulate`."""
        batched, iid = true_or_false(batched, "batched"), true_or_false(iid, "iid")
        if isinstance(simulator, str):
            variable = _variable(prior, simulator)
            known = Prior.of(prior, simulated=simulator)
            by_name, designs = _conditions(conditions, known)
            if designs is not None:
                raise ValueError(
                    f"The conditions of a variable of the model, simulator={simulator!r}, are "
                    "variables of the model too: name them, conditions=['dose'], got distributions "
                    "or arrays."
                )
            names = _chosen(parameters, known, prior, by_name, iid)
            itself = ForwardDraw({simulator: variable}, known.variables)
            given = {name: known.variables[name] for name in (*names, *by_name)}
            predictor = Simulator(ForwardDraw({simulator: variable}, given), True, iid=iid)
            return cls(known, names, Simulator(itself, True, iid=iid), predictor.single, by_name)
        if not callable(simulator):
            raise TypeError(
                "simulator must be a function simulator(rng, **parameters) or the name of a "
                f"variable of the prior model, got {type(simulator).__name__}."
            )
        known = Prior.of(prior)
        by_name, designs = _conditions(conditions, known)
        names = _chosen(parameters, known, prior, by_name, iid)
        predictor = Simulator(simulator, batched, known.given([*names, *by_name]), iid).single
        given = by_name if designs is None else designs.names
        simulator = Simulator(simulator, batched, iid=iid)
        return cls(known, names, simulator, predictor, given, designs)

    def run(
        self,
        n: int,
        *,
        at: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        seed: Any = None,
        progressbar: bool = True,
        partial: bool = True,
    ) -> Simulations:
        """``n`` simulations, or on Ctrl-C those that are done, if ``partial``."""
        executor = executor_of(executor)
        prior_seed, simulator_seed = seed_sequence(seed).spawn(2)
        drawn = self._draw(n, np.random.default_rng(prior_seed), at)
        if self.designs is not None:
            designs, rng = self.designs, np.random.default_rng(prior_seed.spawn(1)[0])
            drawn = drawn.beside(lambda blocks: designs.beside(blocks, rng))
        job = Job(self.simulator, drawn, simulator_seed)
        outcomes = run(job, executor, progressbar, partial)
        simulations = self._collect(job, outcomes)
        simulations.as_drawn = at is None
        return simulations

    def replicate(
        self,
        draws: int,
        replicates: int,
        *,
        executor: Executor | None = None,
        seed: Any = None,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws of the parameters ``(n, *own)`` with observations ``(n, replicates, *event)``.

        Nuisance and conditions are drawn anew for each observation, and observations are packed
        with their conditions. Draws of which a simulation fails are left out.
        """
        prior_seed, simulator_seed = seed_sequence(seed).spawn(2)
        rng = np.random.default_rng(prior_seed)
        drawn = self.prior.draw(draws, rng)
        own = {name: drawn[name] for name in self.parameters}
        each = {name: np.repeat(value, replicates, axis=0) for name, value in own.items()}
        n, nuisance = draws * replicates, self.prior.given(self.parameters)
        values = each if nuisance is None else each | nuisance.draw(rng, each, n)
        if self.designs is not None:
            values |= self.designs.draw(n, np.random.default_rng(prior_seed.spawn(1)[0]))
        job = Job(self.simulator.single, Drawn.whole(values), simulator_seed)
        outcomes = run(job, executor, False, False)
        succeeded, observations = observations_of(outcomes)
        if self.conditions:
            given = {name: values[name][succeeded] for name in self.conditions}
            observations = side_by_side(observations, given)
        x = np.empty((n, *observations.shape[1:]))
        x[succeeded] = observations
        whole = succeeded.reshape(draws, replicates).all(1)
        kept = {name: value[whole] for name, value in own.items()}
        return kept, x.reshape(draws, replicates, *x.shape[1:])[whole]

    def _draw(self, n: int, rng: np.random.Generator, at: Mapping[str, Any] | None) -> Drawn:
        if at is None:
            return Drawn(n, _checked(self.prior.blocks(n, rng)))
        layout = Layout({name: self.prior.shapes[name] for name in self.parameters})
        if not isinstance(at, Mapping):
            raise TypeError(
                f"at must name each parameter, at={{'{self.parameters[0]}': 0.0}}, got an object "
                f"of type {type(at).__name__}."
            )
        layout.check_names(at, "at")
        values = {}
        for name, own in layout.shapes.items():
            value = finite_array(at[name], f"at: {name}")
            if value.shape != own:
                raise ValueError(
                    f"at: parameter {name!r} has shape {own} in the prior, got {value.shape}."
                )
            # Else a float parameter at 0 would be taken for an integer.
            cast = as_dtype(value, np.dtype(self.prior.variables[name].dtype))
            if cast.dtype.kind in "iu" and not np.array_equal(cast, value):
                raise ValueError(f"at: parameter {name!r} is an integer, got {value}.")
            value = cast
            values[name] = np.broadcast_to(value, (n, *own))
        nuisance = self.prior.given(self.parameters)
        if nuisance is not None:
            values |= nuisance.draw(rng, values, n)
        return Drawn.whole(values)

    def _collect(self, job: Job, outcomes: list[Simulated]) -> Simulations:
        lost, iid = 0, self.simulator.iid
        if iid:
            succeeded, x, lost = points_of(outcomes)
        else:
            succeeded, x = observations_of(outcomes)
        rows = job.drawn.rows(0, len(succeeded))
        everything = succeeded.all()  # then no second copy of many
        kept, given = (
            {n: rows[n] if everything else rows[n][succeeded] for n in names}
            for names in (self.parameters, self.conditions)
        )
        simulations = Simulations(
            kept,
            x,
            iid=iid,
            prior=self.prior.marginal(self.parameters),
            simulator=self.predictor,
        )
        # A simulation has its conditions, whatever the number of its points.
        if iid:
            given = {k: np.repeat(v, simulations.counts, axis=0) for k, v in given.items()}
        simulations.take_conditions(given)
        simulations.n_failed = int((~succeeded).sum()) + lost
        if simulations.n_failed:
            warn_failed(simulations.n_failed, len(succeeded), why_failed(outcomes, iid), lost)
            _warn_dependent(simulations)
        return simulations


def _warn_dependent(simulations: Simulations) -> None:
    """Warn if conditions tell of parameters by which simulations succeed."""
    if simulations.dependence:
        warn(
            f"Among the simulations that succeeded {simulations.dependence}. The ratio then counts "
            "what conditions tell of success, P(success | parameters, conditions): mend the "
            "simulator, or shrink prior and conditions to where it works.",
            SimulationWarning,
        )


def _variable(prior: Any, name: str) -> Any:
    """The variable of a prior model that is its own simulator."""
    named = getattr(prior, "named_vars", None)
    if named is None:
        raise TypeError(
            f"simulator={name!r} names a variable of a model, so the prior must be a pymc.Model, "
            f"got {type(prior).__name__}."
        )
    if name not in named:
        raise ValueError(
            f"The prior model has no variable {name!r} to simulate; it has {', '.join(named)}."
        )
    return named[name]


def _conditions(given: Any, prior: Prior) -> tuple[tuple[str, ...], Designs | None]:
    """Names of variables of the prior that are conditions, or others that are drawn beside it."""
    if callable(getattr(given, "items", None)):  # a table too
        given = dict(given.items())
    by_name = names_of_variables(given, prior)
    if by_name or not given:
        return by_name, None
    check_apart(given, prior.variables)
    return (), Designs(given)


def _chosen(
    parameters: Collection[str] | None,
    prior: Prior,
    given: Any,
    conditions: Collection[str],
    iid: bool,
) -> tuple[str, ...]:
    """Those of the free variables that are asked for, of a prior as it was given."""
    if parameters is None:
        return tuple(name for name in prior.variables if name not in conditions)
    if isinstance(parameters, str):
        parameters = [parameters]
    if not isinstance(parameters, Collection):
        raise TypeError(
            f"parameters must be names of variables, such as {list(prior.variables)[:1]}, got an "
            f"object of type {type(parameters).__name__}."
        )
    both = [name for name in parameters if name in conditions]
    if both:
        raise ValueError(
            f"{', '.join(both)} cannot be a parameter and a condition. A condition is known where "
            "the ratio is used, a parameter is not: name it in one of parameters= and conditions=."
        )
    unknown = [name for name in parameters if name not in prior.variables]
    if unknown or not parameters:
        raise ValueError(
            f"parameters must name free variables of the prior, {', '.join(prior.variables)}; got "
            f"{', '.join(map(repr, parameters)) or 'none'}.{_of_computed(unknown, given)}"
        )
    nuisance = [name for name in prior.variables if name not in (*parameters, *conditions)]
    if iid and nuisance:
        raise ValueError(
            f"iid=True: the points of a simulation share {', '.join(nuisance)}, and so they are "
            f"not independent given {', '.join(parameters)}. Expected all variables of the prior "
            "as parameters: leave out parameters=, or let the simulator draw the others for each "
            "point."
        )
    return tuple(name for name in prior.variables if name in parameters)


def _of_computed(names: Sequence[str], prior: Any) -> str:
    """What to do about parameters that the prior model computes from others."""
    computed = {each.name for each in getattr(prior, "deterministics", ())}
    name = next((name for name in names if name in computed), None)
    if name is None:
        return ""
    return (
        f" {name} is a pm.Deterministic, computed from those: let the ratio see them, and the "
        f"simulator compute {name}. Or draw and simulate yourself, and pass what you have: "
        f"nre.Simulations({{{name!r}: draws}}, x)."
    )


def _checked(blocks: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """The same; ValueError if the first draws are not finite, before any is simulated."""
    for number, block in enumerate(blocks):
        for name, values in block.items():
            bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
            if number == 0 and bad.any():
                raise ValueError(
                    f"The prior of {name} is NaN or infinite in {bad.sum():,} of {len(values):,} "
                    f"draws. Give it a distribution whose draws are finite."
                )
        yield block
