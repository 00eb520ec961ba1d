"""Go on from a trained ratio, with simulations that were added.

Its networks are copied, with the standardization that their weights were trained behind, and so is
its loss, where its text tells which it was. What it was trained on it has learned in part by heart,
so these are no simulations to choose the best weights by: where they stand before those that were
added, as in ``simulations + more``, none of them is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..estimators.checks import check_observations, check_parameters, check_ratio
from ..estimators.contents import density_of
from ..estimators.estimator import RatioEstimator
from ..estimators.parts import trainable
from ..exceptions import TrainingWarning, warn
from ..losses.base import Loss
from ..losses.carl import theta_ref_of
from ..losses.written import loss_from_text
from ..networks.base import RatioNetwork
from ..networks.composed.ensemble import members_of
from ..networks.composed.over_references import OverReferences
from ..networks.composed.over_time import OverTime
from ..networks.composed.pairs import Pairs
from ..simulation.online import Online
from ..simulation.simulations import Simulations
from .batching.choice import chosen_loss

__all__ = ["Start"]

_LEFT = 0.01  # share of its training prior that it may leave without a word


@dataclass(frozen=True)
class Start:
    """A ratio that training goes on from.

    Parameters
    ----------
    ratio : RatioEstimator
    """

    ratio: RatioEstimator

    @classmethod
    def of(cls, ratio: Any, simulations: Simulations | Online, network: Any) -> Start:
        """The ratio, if these simulations can be added to what it was trained on.

        Raises
        ------
        TypeError, ValueError
            If it is no ratio as training leaves it, or one of other parameters or observations,
            or another network is given beside it.

        Warns
        -----
        TrainingWarning
            If the simulations do not cover what it was trained on.
        """
        check_ratio(ratio, "train", "start", direct=True)
        _check_as_trained(ratio)
        if network is not None:
            raise ValueError(
                f"train: network: expected none beside start, whose own network goes on, "
                f"{ratio.architecture}; got {network!r}. Leave one of the two out."
            )
        sample = simulations.first if isinstance(simulations, Online) else simulations
        check_parameters(ratio, sample.layout.shapes)
        check_observations(ratio, sample)
        _check_layout(ratio, sample)
        _warn_if_left(ratio, sample)
        return cls(ratio)

    def network(self, member: int) -> RatioNetwork:
        """A copy of one of its networks, to be trained, in single precision."""
        return trainable(members_of(self.ratio.network)[member]).cpu()

    def loss(self, given: Loss | None, simulations: Simulations | Online) -> Loss:
        """The loss that was given, by default the one that it was trained with.

        Raises
        ------
        ValueError
            If it learns another ratio.
        """
        loss = self._known_loss(simulations) if given is None else chosen_loss(simulations, given)
        mine, its = _kind(self.ratio), _kind_of_loss(loss)
        if its != mine:
            fixed = "Give the CARL() of its reference simulations" * (mine[0] == "fixed")
            raise ValueError(
                f"train: start was trained by {self.ratio.loss or 'no loss'}, so that its logits "
                f"are {_in_words(*mine)}; expected a loss that learns the same, got {loss!r}, of "
                f"{_in_words(*its)}. {fixed or 'Leave loss= out'}, or train without start=."
            )
        self._check_theta_ref(loss)
        return loss

    def _check_theta_ref(self, loss: Loss) -> None:
        """Raise ValueError if what is fixed to compare with is known, and is something else."""
        known, found = self.ratio.theta_ref, theta_ref_of(loss, self.ratio.layout)
        if known is not None and found is not None and not np.array_equal(known, found):
            raise ValueError(
                f"train: start is a ratio to fixed parameters, {known.tolist()}; expected "
                f"reference simulations at these, got {loss!r}. Simulate there, or train without "
                "start=."
            )

    def _known_loss(self, simulations: Simulations | Online) -> Loss:
        """What it was trained with; what suits the simulations, if that is not known."""
        known = loss_from_text(self.ratio.loss)
        if known is not None and not getattr(known, "near", 0):
            return known
        suits = chosen_loss(simulations, None)
        return known if known is not None and getattr(suits, "near", 0) else suits

    def members(self, given: int | None) -> int:
        """How many networks go on: all of them."""
        if given not in (None, self.ratio.members):
            raise ValueError(
                f"train: members: start has {self.ratio.members} and each goes on; got {given}. "
                "Leave members= out."
            )
        return self.ratio.members

    def seen(self, simulations: Simulations | Online) -> int:
        """How many simulations, from the first on, it was trained on.

        A ratio keeps its first draws, and how many there were.
        """
        known = self.ratio.domain.draws
        fixed = isinstance(simulations, Simulations)
        if not fixed or not np.array_equal(simulations.theta[: len(known)], known):
            return 0
        return int(np.max(self.ratio.history.attrs.get("n_simulations", len(known))))

    def missing(self, given: Any) -> Any:
        """Masks to train with: those given, by default those that it was trained with."""
        if given is not None and self.ratio.missing is None:
            raise ValueError(
                "train: missing: expected none, as start was trained on complete observations, "
                "and its network has no place for masks. Train without start=."
            )
        return self.ratio.missing if given is None else given


def _check_as_trained(ratio: RatioEstimator) -> None:
    """Raise ValueError if something was made of it after it was trained."""
    done, remedy = _what_was_done(ratio)
    if done:
        raise ValueError(
            f"train: start: expected a ratio as train gives it, got one {done}. {remedy}."
        )


def _what_was_done(ratio: RatioEstimator) -> tuple[str, str]:
    """With a ratio after it was trained, and what to go on from; in words, if anything."""
    if isinstance(ratio.trained, OverReferences):
        return "made of a direct one", "Go on from that, and make one of it again"
    if ratio.is_calibrated or ratio.is_locally_centered:
        done = "that was calibrated" if ratio.is_calibrated else "centered around one posterior"
        return done, "Go on from what it was before: start.replace(network=start.trained)"
    if density_of(ratio.trained) is not None:
        return "trained elsewhere, and arrived as a log density", "Go on there"
    if ratio.observed is not None:
        return "made for one data set", "Give nre.rounds more simulations, or more rounds"
    if isinstance(ratio.trained, OverTime):
        return "of whole series", "Go on from the ratio of a step"
    return "", ""


def _check_layout(ratio: RatioEstimator, simulations: Simulations) -> None:
    """Raise ValueError unless parameters are packed in the same way."""
    names, integer = list(ratio.parameters), sorted(ratio.layout.integer)
    found = list(simulations.layout.shapes), sorted(simulations.layout.integer)
    if (names, integer) != found:
        raise ValueError(
            f"train: start has the parameters {', '.join(names)} in this order, of which "
            f"{', '.join(integer) or 'none'} are integers; the simulations have "
            f"{', '.join(found[0])}, and {', '.join(found[1]) or 'none'}. Simulate as for start."
        )


def _warn_if_left(ratio: RatioEstimator, simulations: Simulations) -> None:
    """The ratio that comes back is one of these simulations, whatever it knew before."""
    theta, draws = simulations.theta, ratio.domain.draws
    left = ((draws < theta.min(0)) | (draws > theta.max(0))).any(1).mean()
    if left > _LEFT:
        ranges = ratio.layout.in_ranges(theta.min(0), theta.max(0), 3)
        warn(
            f"train: {left:.0%} of what start was trained on lies outside of these simulations, "
            f"which are all that the new ratio is for: {ranges}. Train on both to keep it, "
            "nre.train(simulations + more, start=ratio).",
            TrainingWarning,
        )


def _kind(ratio: RatioEstimator) -> tuple[str, bool, Any]:
    one = members_of(ratio.network)[0]
    return ratio.reference, ratio.normalized, one.antisymmetric if isinstance(one, Pairs) else None


def _kind_of_loss(loss: Any) -> tuple[str, bool, Any]:
    pairs = loss.reference == "pair"
    return loss.reference, bool(loss.normalized), loss.antisymmetric if pairs else None


def _in_words(reference: str, normalized: bool, antisymmetric: bool | None) -> str:
    what = {"evidence": "ratios to the evidence", "fixed": "ratios to fixed parameters"}
    if reference == "pair":
        return f"ratios of two parameter vectors, {'not ' * (not antisymmetric)}antisymmetric"
    return f"{what.get(reference, 'log densities')}, {'not ' * (not normalized)}normalized"
