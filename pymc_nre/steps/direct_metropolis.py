"""A Metropolis step that asks a direct ratio which of two points the data prefer."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

import numpy as np
import pymc as pm
from pymc.pytensorf import compile as compile_function
from pymc.pytensorf import join_nonshared_inputs
from pymc.stats.convergence import SamplerWarning, WarningType
from pymc.variational.minibatch_rv import MinibatchRandomVariable

from ..likelihood.model_parameters import direct_likelihoods_of, model_in_use, parameters_of
from .comparison import Comparison

__all__ = ["DirectRatioMetropolis"]

_EVERY = 10  # steps between points that are compared in a cycle
_ENOUGH = 20  # cycles
# Log ratios. Of random errors that leave so much more than half move the law by .05 in total
# variation, of those that leave less one in fifty.
_FAR = 0.2


class DirectRatioMetropolis(pm.Metropolis):
    r"""Metropolis steps by a direct ratio, one evaluation for each proposal.

    A proposal :math:`\theta'` is accepted with probability

    .. math:: \min\Bigl(1, \frac{p(\theta')}{p(\theta)} \prod_i r(x_i \mid \theta', \theta)\Bigr),

    with the priors of everything that depends on :math:`\theta`. For models with a
    `RatioLikelihood` of a direct ratio (loss `DNRE`); other likelihoods in them, those of ordinary
    ratios too, count by differences as in `pymc.Metropolis`, which proposals and tuning are of.

    Direct ratios of three points should add up to nothing in a cycle. What a network leaves is
    measured on the chain's own points and data, ``transitivity`` among the sample stats: its root
    mean square, of log ratios. Where it is not small the stationary law is not quite the posterior,
    and a warning says so. Where it is small the law is that of an ordinary ratio, whose errors
    leave nothing in cycles and add up over trials as ever: they are for diagnostics to find.

    Parameters
    ----------
    vars : list of variables, optional
        Of the model; by default all of them.
    model : pymc.Model, optional
        By default the one in context.
    **options
        ``S``, ``proposal_dist``, ``scaling``, ``tune``, ``tune_interval``, ``blocked``, ``rng`` and
        more, as `pymc.Metropolis` takes them. Proposals must be symmetric.

    Raises
    ------
    TypeError
        If there is no model.
    ValueError
        If the model has no direct ratio, or one of a minibatch.

    References
    ----------
    Cobb et al. (2023), Direct amortized likelihood ratio estimation, arXiv:2311.10571.

    Examples
    --------
    >>> import pymc as pm
    >>> import pymc_nre as nre
    >>> simulations = nre.tasks.GaussianMean().simulate(2_000, random_seed=1)
    >>> loss = nre.losses.DNRE()
    >>> ratio = nre.train(simulations, loss=loss, epochs=5, random_seed=1, progressbar=False)
    >>> with pm.Model():
    ...     mu = pm.Normal("mu", 0, 2)
    ...     x = nre.RatioLikelihood("x", ratio, mu=mu, observed=[0.3, -0.2, 1.1])
    ...     step = nre.steps.DirectRatioMetropolis()
    ...     idata = pm.sample(
    ...         50, tune=50, step=step, chains=1, random_seed=1, progressbar=False,
    ...         compute_convergence_checks=False,
    ...     )
    """

    name = "direct_ratio_metropolis"
    stats_dtypes_shapes: ClassVar[dict[str, Any]] = pm.Metropolis.stats_dtypes_shapes | {
        "transitivity": (np.float64, []),
        "warning": (SamplerWarning, None),
    }

    def __init__(
        self,
        vars: Any = None,  # PyMC's name
        *,
        model: pm.Model | None = None,
        initial_point: dict[str, np.ndarray] | None = None,
        compile_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        model = model_in_use(model, "DirectRatioMetropolis")  # without one PyMC has raised before
        likelihoods = _checked(model)
        point = model.initial_point() if initial_point is None else initial_point
        given = {"initial_point": point, "compile_kwargs": compile_kwargs}
        super().__init__(vars, model=_Rest(model, likelihoods), **given, **options)
        self._rest = self.delta_logp
        self._comparisons = [Comparison(model, each) for each in likelihoods]
        self._parameters = self._compiled(model, likelihoods, point, compile_kwargs or {})
        self.delta_logp = self._compare
        self._forget_cycles()

    def _compiled(
        self,
        model: pm.Model,
        likelihoods: list[Any],
        point: dict[str, np.ndarray],
        options: dict[str, Any],
    ) -> Any:
        """What the likelihoods are given as parameters, of a point of this step's variables."""
        given = [parameter for each in likelihoods for parameter in parameters_of(each)]
        outputs = model.replace_rvs_by_values(given)
        others = [each for each in model.value_vars if each not in self.vars]
        shared = {each: self.shared[each.name] for each in others}
        outputs, point_of = join_nonshared_inputs(
            point=point, outputs=outputs, inputs=self.vars, shared_inputs=shared
        )
        return compile_function([point_of], outputs, on_unused_input="ignore", **options)

    def _compare(self, q: np.ndarray, q0: np.ndarray) -> float:
        """What Metropolis calls a difference of log densities."""
        rest = float(self._rest(q, q0))
        return rest + self._by_data(q, q0) if np.isfinite(rest) else rest

    def _by_data(self, q: np.ndarray, q0: np.ndarray) -> float:
        """Log ratio of all data, of one point to another."""
        one, other = iter(self._parameters(q)), iter(self._parameters(q0))
        total = 0.0
        for comparison in self._comparisons:
            sides = [[next(side) for _ in comparison.layout.shapes] for side in (one, other)]
            if not all(map(np.array_equal, *sides)):  # else it moved hyperparameters alone
                total += comparison(*sides)
        return total

    def astep(self, q0: Any) -> tuple[Any, list[dict[str, Any]]]:
        """One step; every tenth time the point is kept, to be compared in a cycle."""
        for comparison in self._comparisons:
            comparison.read_data()
        q, [stats] = super().astep(q0)
        if self._steps % _EVERY == 0:
            self._go_round(q.data)
        self._steps += 1
        stats["transitivity"] = self.transitivity
        stats["warning"] = self._warning()
        return q, [stats]

    @property
    def transitivity(self) -> float:
        """Root mean square of log ratios in cycles of three points of the chain; NaN at first."""
        return float(np.sqrt(self._square / self._cycles)) if self._cycles else np.nan

    def _go_round(self, point: np.ndarray) -> None:
        """Compare a point with the two that were kept before, in a cycle."""
        if any(np.array_equal(point, known) for known in self._points):
            return
        self._points.append(np.array(point))
        if len(self._points) == self._points.maxlen:
            a, b, c = self._points
            around = self._by_data(a, b) + self._by_data(b, c) + self._by_data(c, a)
            self._square += around**2
            self._cycles += 1

    def reset_tuning(self) -> None:
        """Begin anew, as for another chain."""
        super().reset_tuning()
        self._forget_cycles()

    def _forget_cycles(self) -> None:
        self._points: deque[np.ndarray] = deque(maxlen=3)
        self._steps, self._cycles, self._square, self._warned = 0, 0, 0.0, False

    def _warning(self) -> SamplerWarning | None:
        """What is told, once, where cycles do not close."""
        if self._warned or self.tune or self._cycles < _ENOUGH or self.transitivity < _FAR:
            return None
        self._warned = True
        return SamplerWarning(
            WarningType.BAD_PARAMS,
            "DirectRatioMetropolis: log ratios in cycles of three points should add up to nothing, "
            f"and on these data leave {self.transitivity:.2g} (root mean square), so that what is "
            "sampled is not quite the posterior. Train on more simulations, with DNRE('additive') "
            "or the default loss.",
            "warn",
        )


class _Rest:
    """A model whose log density leaves some likelihoods out."""

    def __init__(self, model: pm.Model, likelihoods: list[Any]) -> None:
        self._model, self._without = model, likelihoods

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def logp(self) -> Any:
        """Of all else: priors, other likelihoods, potentials."""
        others = [rv for rv in self._model.basic_RVs if rv not in self._without]
        return self._model.logp(vars=[*others, *self._model.potentials])


def _checked(model: pm.Model) -> list[Any]:
    likelihoods = direct_likelihoods_of(model)
    if not likelihoods:
        raise ValueError(
            "DirectRatioMetropolis: expected a model with a RatioLikelihood of a direct ratio, "
            "trained with loss=DNRE(), got none. Ordinary ratios are sampled by pm.Metropolis(), "
            "and faster by NUTS."
        )
    for each in likelihoods:
        if isinstance(each.owner.op, MinibatchRandomVariable):
            raise ValueError(
                f"DirectRatioMetropolis: {each.name} is observed by minibatches, with total_size=: "
                "steps compare two points by the same data. Observe all data."
            )
    return likelihoods
