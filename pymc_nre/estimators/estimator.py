"""The artifact: a trained network, what it estimates, and where it may be trusted.

Everything that trains ends in a `RatioEstimator`; everything that infers begins with one. It is a
value: nothing is written into it, and `RatioEstimator.replace` makes another. Its network is
frozen, in float64 (Hamiltonian energies need it), and two estimators are equal when they give the
same log ratios for the same parameters.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from ..exceptions import DomainWarning, warn
from ..networks.base import RatioNetwork
from ..networks.calibration.calibrated import Calibrated
from ..networks.composed.correction import QuadraticCorrection
from ..networks.composed.over_references import OverReferences
from ..networks.specifications import curved, specification_to_dict
from ..runtime.archive import write_archive
from ..runtime.arrays import array_with_holes, real_array, true_or_false, whole_number
from ..runtime.devices import resolve_device
from ..simulation.conditions.labels import check_labels
from ..simulation.conditions.layout import Conditions, split_keywords
from ..simulation.conditions.missing import Missing
from ..simulation.parameters import Layout, broadcast_batches, check_dims, check_event_shape
from ..simulation.series.cuts import next_and_past
from ..simulation.simulator import Simulator, batched_of
from .contents import density_of, kept_of, pairs_of, problems, section
from .description import in_words
from .domain import Domain
from .evaluator import TorchEvaluator
from .parts import (
    as_trained,
    checked_network,
    described,
    frozen,
    own_data,
    own_probes,
    paired,
    taken,
    trained_networks,
)
from .trial_budgets.trial_budget import TrialBudget

__all__ = ["RatioEstimator"]

_PROBES = 16  # stored points on which a loaded network must agree with the saved one
_OF_THE_NETWORK = ("evaluator", "digest")  # derived of it
_REPLACEABLE = ("network", "normalized", "loss", "history", "simulator", "budget")


class RatioEstimator:
    r"""A log ratio :math:`\log r(\theta, x)`, one number for each observation.

    `pymc_nre.train` and `pymc_nre.load` make them.

    Parameters
    ----------
    network : RatioNetwork
        Its copy is frozen, converted to float64 and put in evaluation mode.
    parameters : mapping of str to tuple of int
        Own shape of each parameter, in packing order.
    domain : Domain
        Where the ratio was trained.
    probe_x : array, shape (m, *event)
        A few observations; with draws of the domain they identify the function.
    reference : {"evidence", "fixed", "pair", "nothing"}
        What the likelihood is divided by.
    normalized : bool
        Whether the logit is the log ratio itself, or only up to a function of ``x``.
    loss : str
        What it was trained with, for people.
    specification : MLP, ResidualMLP or None
        How to build the network again; None for a user's own, and for one that it does not build.
    integer : collection of str
        Names of the parameters that are integers.
    history : xarray.Dataset, optional
        Losses by epoch.
    simulator : Simulator or callable, optional
        Live, for predictive sampling; it is not saved.
    budget : TrialBudget, optional
        How many trials it bears, as `pymc_nre.trial_budget` measures it.
    batched : bool, optional
        Whether its simulator took many draws at once, where the simulator itself is gone.
    conditions : Conditions, optional
        What is known beside an observation; the network takes both as one vector.
    missing : Missing, optional
        How numbers of an observation were missing in training; they are NaN.
    observed : array, shape (n, *event), optional
        The data set that it was made for, of observations without their conditions, if it was made
        for one.

    Examples
    --------
    >>> import pymc_nre as nre
    >>> ratio = nre.tasks.GaussianMean().estimator()
    >>> ratio.log_ratio([0.0, 1.0], mu=0.5).round(3)
    array([1.952, 1.952])
    """

    def __init__(
        self,
        network: RatioNetwork,
        parameters: Mapping[str, tuple[int, ...]],
        *,
        domain: Domain,
        probe_x: np.ndarray,
        reference: str = "evidence",
        normalized: bool = True,
        loss: str = "",
        specification: Any = None,
        integer: Collection[str] = (),
        history: xr.Dataset | None = None,
        simulator: Simulator | Callable[..., Any] | None = None,
        budget: TrialBudget | None = None,
        batched: bool | None = None,
        conditions: Conditions | None = None,
        missing: Missing | None = None,
        observed: np.ndarray | None = None,
        theta_ref: np.ndarray | None = None,
    ) -> None:
        shapes = {name: tuple(map(int, shape)) for name, shape in parameters.items()}
        layout = Layout(shapes, frozenset(integer))
        given = {"normalized": normalized, "loss": loss, "history": history}
        if batched is not None:
            batched = true_or_false(batched, "RatioEstimator: batched")
        vars(self).update(
            network=frozen(network),
            layout=layout,
            domain=domain,
            probe_x=own_probes(probe_x, _PROBES),
            event_shape=tuple(network.event_shape),
            conditions=conditions,
            missing=missing,
            observed=own_data(observed),
            reference=reference,
            _theta_ref=own_data(theta_ref, "theta_ref"),
            _batched=batched,
            specification=described(specification, network, layout.size),
            **taken(given | {"simulator": simulator, "budget": budget}, layout),
        )

    def made_for(self, observed: np.ndarray | None, domain: Domain) -> RatioEstimator:
        """The same for one data set ``(n, *event)``, or all, and where the ratio of it is known."""
        return self._changed({"observed": own_data(observed), "domain": domain}, ("digest",))

    def _changed(self, changes: Mapping[str, Any], forgotten: Collection[str] = ()) -> Any:
        """A copy with other parts, and without what was derived of those it had."""
        other = object.__new__(type(self))
        kept = {name: part for name, part in vars(self).items() if name not in forgotten}
        vars(other).update(kept | dict(changes))
        return other

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"An estimator is a value and does not change. Make another: ratio = "
            f"ratio.replace({name}=...)."
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"An estimator is a value and does not change: it keeps its {name}.")

    def replace(self, **changes: Any) -> RatioEstimator:
        """Another estimator, the same but for what is given.

        Parameters
        ----------
        **changes
            ``simulator``, ``budget``, ``history``, ``loss``, ``normalized`` or ``network``, of
            which a copy is frozen and converted to float64; it has a specification only if that
            builds such a network, and a budget only if that is given beside it.

        Returns
        -------
        RatioEstimator

        Raises
        ------
        TypeError
            If anything else is given, or something of another type.
        ValueError
            If a network or a budget is one of other parameters or observations.

        Examples
        --------
        >>> import pymc_nre as nre
        >>> ratio = nre.tasks.GaussianMean().estimator()
        >>> ratio.replace(simulator=lambda rng, mu: rng.normal(mu, 1.0)) == ratio
        True
        """
        unknown = sorted(set(changes) - set(_REPLACEABLE))
        if unknown:
            raise TypeError(
                f"replace: expected {', '.join(_REPLACEABLE)}, got {', '.join(unknown)}. What "
                "else an estimator is made of belongs to its training: train another."
            )
        changes, forgotten = taken(changes, self.layout), ()
        if "network" in changes:
            network = checked_network(changes["network"], self._draws, self.probe_x)
            changes = {"budget": None} | changes | {"network": network}
            changes["specification"] = described(self.specification, network, self.layout.size)
            forgotten = _OF_THE_NETWORK
        if "simulator" in changes:  # what is taken away is remembered
            changes["_batched"] = self.batched
        return self._changed(changes, forgotten)

    @property
    def history(self) -> xr.Dataset:
        """Losses by epoch, and facts of the training in ``attrs``; a copy."""
        return vars(self)["history"].copy(deep=True)

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Own shape of each parameter, by name, in packing order."""
        return dict(self.layout.shapes)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation, without its conditions; ``event_shape`` is what the network takes."""
        return self.event_shape if self.conditions is None else self.conditions.event_shape

    @property
    def theta_ref(self) -> np.ndarray | None:
        """Packed parameters ``(D,)`` of the denominator, where these are fixed and known."""
        if self.reference == "fixed" and isinstance(self.trained, OverReferences):
            return self.trained.references[0].cpu().numpy()
        return self._theta_ref

    @property
    def is_direct(self) -> bool:
        """Whether it compares parameters with any others, and so wants these at each call."""
        return self.reference == "pair"

    @property
    def uncorrected(self) -> RatioNetwork:
        """The network without what local centering takes off."""
        return self.network.inner if self.is_locally_centered else self.network

    @property
    def trained(self) -> RatioNetwork:
        """The network as it was trained, without calibration and local centering."""
        return as_trained(self.network)

    @property
    def is_calibrated(self) -> bool:
        """Whether its logits were mapped to others, by `pymc_nre.calibrate`."""
        return isinstance(self.uncorrected, Calibrated)

    @property
    def is_locally_centered(self) -> bool:
        """Whether it was centered around one posterior: for its data, and no others."""
        return isinstance(self.network, QuadraticCorrection)

    @property
    def members(self) -> int:
        """How many networks there are: one, but in an ensemble."""
        return len(getattr(self.trained, "members", (1,)))

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(self.network.buffers()).device

    @cached_property
    def evaluator(self) -> TorchEvaluator:
        """The torch engine over this network."""
        return TorchEvaluator(self.network)

    @property
    def batched(self) -> bool | None:
        """Whether its simulator takes many draws at once; None if there never was a function."""
        return batched_of(self.simulator, self._batched)

    def log_ratio(
        self, x: Any, /, *, reference: Mapping[str, Any] | None = None, **parameters: Any
    ) -> np.ndarray:
        """Log ratios of observations and parameters.

        Parameters
        ----------
        x : array, shape (*batch, *event)
            Observations. Of a ratio that was trained with ``missing=`` numbers may be NaN or
            masked; the log ratio of one without any number is zero. Or `Transitions` of series,
            which hold their condition ``past``.
        reference : mapping of str to array, shape (*batch, *own), optional
            Of a direct ratio, by the loss `DNRE`: every parameter by name once more, of what to
            compare with.
        **parameters : array, shape (*batch, *own)
            Every parameter by name; batches broadcast against each other and against ``x``. And
            every condition, whose batch is that of ``x`` or broadcasts to it.

        Returns
        -------
        ndarray, shape (*batch,)

        Raises
        ------
        TypeError
            If a parameter is missing or unknown, something holds no real numbers, or a reference
            is missing or not wanted.
        ValueError
            If a shape does not fit, values are masked, or xarray's dimensions stand at other
            places: batches broadcast by place, not by name.
        """
        parameters, conditions = split_keywords(self.conditions, parameters)
        check_labels(x, conditions, "log_ratio")
        x, conditions = next_and_past(x, conditions, self.conditions, "log_ratio")
        packed = {", ".join(self.parameters): self.layout.pack(parameters)}
        own = {"x": (x, len(self.observation_shape))}
        own |= {name: (parameters[name], len(shape)) for name, shape in self.parameters.items()}
        check_dims(own, "log_ratio")
        if self._wants(reference):
            packed["reference"] = self.layout.pack(reference, "log_ratio: reference")
        x = (array_with_holes if self.missing else real_array)(x, "log_ratio: x")
        if self.conditions is not None:
            x = self.conditions.pack(x, conditions, "log_ratio")
        check_event_shape(self.event_shape, x.shape, "log_ratio: x")
        batch_of_x = x.shape[: x.ndim - len(self.event_shape)]
        batches = {"x": batch_of_x} | {name: part.shape[:-1] for name, part in packed.items()}
        batch = broadcast_batches(batches, "log_ratio")
        rows_x = np.broadcast_to(x, (*batch, *self.event_shape)).reshape(-1, *self.event_shape)
        values = self.evaluator.value(_rows(list(packed.values()), batch), rows_x)
        if self.missing is not None:
            values = np.where(self.missing.without_any(rows_x), 0.0, values)
        return values.reshape(batch)

    def _wants(self, reference: Any) -> bool:
        """Whether there is a reference, and is to be one."""
        if self.is_direct == (reference is not None):
            return self.is_direct
        names = ", ".join(f"{name!r}: ..." for name in self.parameters)
        if self.is_direct:
            raise TypeError(
                "log_ratio: this is a direct ratio of two parameter vectors; expected what to "
                f"compare with, reference={{{names}}}. Ordinary ratios are made of it by "
                "ratio.relative_to(...), and by ratio.marginal() one to the evidence."
            )
        raise TypeError(
            f"log_ratio: expected no reference, got {reference!r}: this ratio has a denominator of "
            "its own. Leave it out; ratios of two parameter vectors are differences of log ratios."
        )

    def relative_to(self, /, **reference: Any) -> RatioEstimator:
        r"""Of a direct ratio, the one to fixed parameters, :math:`p(x|\theta)/p(x|\theta_{ref})`.

        Parameters
        ----------
        **reference : array, shape (*own)
            Every parameter by name.

        Returns
        -------
        RatioEstimator
            An ordinary one, for models and diagnostics.

        Raises
        ------
        TypeError, ValueError
            If it is no direct ratio, or these are not its parameters.

        Warns
        -----
        DomainWarning
            If it was not trained there.

        Examples
        --------
        >>> import pymc_nre as nre
        >>> simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
        >>> loss = nre.losses.DNRE()
        >>> ratio = nre.train(simulations, loss=loss, epochs=2, random_seed=1, progressbar=False)
        >>> float(ratio.relative_to(mu=0.0).log_ratio(0.3, mu=0.0))
        0.0
        """
        self._check_direct("relative_to")
        return self._over(self.one_reference(reference, "relative_to")[None], "fixed")

    def marginal(self, draws: int = 256) -> RatioEstimator:
        r"""Of a direct ratio, the one to the evidence, by draws of the training prior.

        .. math:: \log r(\theta, x) = -\log \frac1S \sum_j e^{-f(\theta, \theta_j, x)}

        Of one observation. In a model of several, `RatioLikelihood` with ``evidence=`` adds up
        trials before it averages.

        Parameters
        ----------
        draws : int
            S; each evaluation takes that many of the network.

        Returns
        -------
        RatioEstimator
            An ordinary one, for models and diagnostics.

        Raises
        ------
        TypeError, ValueError
            If it is no direct ratio, or more draws are asked for than it keeps.

        References
        ----------
        Cobb et al. (2023), arXiv:2311.10571.

        Examples
        --------
        >>> import pymc_nre as nre
        >>> simulations = nre.tasks.GaussianMean().simulate(1_000, random_seed=1)
        >>> loss = nre.losses.DNRE()
        >>> ratio = nre.train(simulations, loss=loss, epochs=2, random_seed=1, progressbar=False)
        >>> ratio.marginal().reference
        'evidence'
        """
        self._check_direct("marginal")
        return self._over(self.references(draws, "marginal: draws"), "evidence")

    def one_reference(self, reference: Mapping[str, Any], who: str) -> np.ndarray:
        """Packed parameters ``(D,)`` to compare with; those it was not trained on are told."""
        theta = self.layout.pack_one(reference, who)
        if not self.domain.inside(theta):
            warn(
                f"{who}: these parameters are outside of what the ratio was trained on, "
                f"{self.describe_domain()}, and what it says of them is arbitrary. Compare with "
                "some inside, which make the data likely.",
                DomainWarning,
            )
        return theta

    def references(self, draws: Any, name: str) -> np.ndarray:
        """The first draws ``(S, D)`` of the training prior, always the same ones."""
        draws, known = whole_number(draws, name), self.domain.draws
        if draws > len(known):
            raise ValueError(f"{name}: expected at most {len(known):,}, got {draws:,}.")
        return known[:draws]

    def _check_direct(self, who: str) -> None:
        if not self.is_direct:
            raise TypeError(
                f"{who}: expected a direct ratio, trained with loss=DNRE(), got one that has a "
                "denominator of its own. Use it as it is."
            )

    def _over(self, references: np.ndarray, reference: str) -> RatioEstimator:
        """The ordinary ratio to the mean likelihood of parameters ``(S, D)``."""
        pairs = copy.deepcopy(self.network)
        network = frozen(OverReferences(pairs, torch.tensor(references, device=self.device)))
        changes = {"network": network, "reference": reference, "budget": None}
        return self._changed(changes, _OF_THE_NETWORK)

    def takes(self, x: np.ndarray) -> bool:
        """Whether all of observations ``(n, *)`` with their conditions is what networks take.

        That is finite numbers, and NaN where a number may be missing.
        """
        if self.missing is None:
            return bool(np.isfinite(x).all())
        beside = x.reshape(len(x), -1)[:, self.missing.size :]
        return not np.isinf(x).any() and not np.isnan(beside).any()

    def to(self, device: str) -> RatioEstimator:
        """The same estimator on ``"cpu"`` or ``"cuda"``."""
        moved = copy.deepcopy(self.network).to(resolve_device(device))
        return self.replace(network=moved, budget=self.budget)

    def for_evaluation(self) -> RatioEstimator:
        """The same function without its history and simulator: what a compiled graph keeps."""
        self.digest  # noqa: B018  # computed once, here, and not again in every copy
        if self.simulator is None and not self.history:
            return self
        return self.replace(history=xr.Dataset(), simulator=None)

    @cached_property
    def digest(self) -> str:
        """A fingerprint of the function: names, shapes, weights, values at a few points."""
        sha = hashlib.sha256(str((self.parameters, self.event_shape, self.device.type)).encode())
        sha.update(repr(self.conditions).encode() if self.conditions else b"")
        sha.update(repr(self.network).encode())
        for name, weight in self.network.state_dict().items():
            sha.update(name.encode())
            sha.update(weight.detach().cpu().numpy().tobytes())
        sha.update(self._probe().round(6).tobytes())
        for array in self.domain.to_arrays().values():
            sha.update(array.tobytes())
        return sha.hexdigest()

    def _probe(self) -> np.ndarray:
        """Log ratios at stored observations and domain draws, paired off."""
        rows = min(len(self.probe_x), len(self.domain.draws))
        return self.evaluator.value(self._draws[:rows], self.probe_x[:rows])

    @property
    def _draws(self) -> np.ndarray:
        """Of the training prior, as the network takes them."""
        return paired(self.domain.draws) if self.is_direct else self.domain.draws

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RatioEstimator) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "evaluator"}

    def __repr__(self) -> str:
        return in_words(self)

    @property
    def architecture(self) -> str:
        """What kind of network it is, in words."""
        one = trained_networks(self.network, self.layout.size)[0][0]
        kind = self.specification or type(getattr(one, "module", one)).__name__
        return f"{self.members} x {kind}" if self.members > 1 else f"{kind}"

    def describe_domain(self, digits: int = 3) -> str:
        """The training range of each parameter, in words."""
        return self.layout.in_ranges(self.domain.lower, self.domain.upper, digits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the estimator to one file, without pickle; an existing file is replaced.

        The simulator is not saved, only whether it takes many draws at once. A user's own network
        is saved by its weights; pass the factory that builds it to `load`.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            If what was saved could not be loaded, as where weights are NaN.
        OSError
            If the file cannot be written; an old one is left as it was.
        """
        arrays = self._to_arrays()
        if np.isnan(arrays["probe/log_ratio"]).any():
            raise ValueError(
                f"{path} is not written: the network gives NaN at points it was trained on. Look "
                "for NaN among its weights, and train again."
            )
        Domain.from_arrays(section(arrays, "domain/"))
        write_archive(path, self._metadata(), arrays, problems=problems)

    def _to_arrays(self) -> dict[str, np.ndarray]:
        state = self.network.state_dict()
        arrays = {f"weights/{name}": weight.cpu().numpy() for name, weight in state.items()}
        arrays |= {f"domain/{name}": array for name, array in self.domain.to_arrays().items()}
        arrays |= {f"history/{name}": array.to_numpy() for name, array in self.history.items()}
        arrays |= {} if self.observed is None else {"observed": self.observed}
        return arrays | {"probe/x": self.probe_x, "probe/log_ratio": self._probe()}

    def _metadata(self) -> dict[str, Any]:
        from importlib.metadata import version

        spread, own = curved(self.network), {}
        # Older versions would not know what to do with these, and say so by the version.
        if spread:
            own |= {"version": 2, "curved": spread}
        for name, known in (("conditions", self.conditions), ("missing", self.missing)):
            if known is not None:
                own |= {"version": 2, name: known.to_dict()}
        if self.observed is not None:
            own |= {"version": 2, "observed": len(self.observed)}
        if self._theta_ref is not None:
            own |= {"version": 2, "theta_ref": self._theta_ref.tolist()}
        for name, told in (("pairs", pairs_of), ("density", density_of), ("kept", kept_of)):
            known = told(self.trained)
            if known is not None:
                own |= {"version": 2, name: known}
        if self.is_calibrated:
            own |= {"version": 2, "calibrated": list(self.uncorrected.sizes)}
        return own | {
            "parameters": {name: list(shape) for name, shape in self.parameters.items()},
            "integer": sorted(self.layout.integer),
            "event_shape": list(self.event_shape),
            "network": specification_to_dict(self.specification),
            "members": self.members,
            "mean_of": getattr(self.trained, "mean_of", None),
            "tilted": self.is_locally_centered,
            "edge": self.is_locally_centered and self.network.has_edge,
            "reference": self.reference,
            "normalized": self.normalized,
            "loss": self.loss,
            "history": dict(self.history.attrs),
            "batched": self.batched,
            "budget": None if self.budget is None else self.budget.to_dict(),
            "libraries": {name: version(name) for name in ("pymc_nre", "torch", "numpy")},
        }


def _rows(packed: list[np.ndarray], batch: tuple[int, ...]) -> np.ndarray:
    """Parameters ``(*, D)``, side by side, as the one row or the rows of a batch."""
    if all(part[..., 0].size == 1 for part in packed):
        return np.concatenate([part.reshape(1, -1) for part in packed], axis=1)
    rows = [np.broadcast_to(part, (*batch, part.shape[-1])) for part in packed]
    return np.concatenate([row.reshape(-1, row.shape[-1]) for row in rows], axis=1)
