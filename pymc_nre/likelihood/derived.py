"""What PyMC may not derive from a ratio, and how it is told.

PyMC finds the density of nearly anything that is written in terms of random variables: affine maps,
mixtures by `switch`, clipping, the rest of data with holes. Each takes the density of what it is
made of as one in x. A ratio is none: the factor p(x) is missing, which drops out only where the
ratio itself is what was observed. So a rewrite of the graphs from which PyMC derives densities
marks every ratio that something else is made of, and a marked ratio has a reason, no density.

A mixture asks for the density of each component by itself, as if that were what was observed; so
`pymc.logp` of a mixture is looked at here, too.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from pymc.distributions.distribution import SymbolicRandomVariable, _support_point
from pymc.distributions.mixture import MixtureRV
from pymc.distributions.shape_utils import _change_dist_size, change_rv_size
from pymc.distributions.transforms import _default_transform
from pymc.logprob.abstract import ValuedRV, _logcdf, _logprob
from pymc.logprob.basic import logp
from pymc.logprob.rewriting import logprob_rewrites_db
from pymc.variational.minibatch_rv import MinibatchRandomVariable
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import in2out, node_rewriter
from pytensor.graph.traversal import ancestors
from pytensor.tensor import TensorVariable
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.shape import Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import Subtensor

from ..ops.guards import refusal
from ..ops.ratio_ops import RatioOp
from .random_variable import RatioLikelihoodRV

__all__ = ["PartRV"]

_OBSERVED = (ValuedRV, MinibatchRandomVariable, Shape, Shape_i)
_KEEPS_VALUES = (DimShuffle, Subtensor, SpecifyShape)  # these rearrange observations, no more
_AFTER_INLINING = 1.5  # and before PyMC measures anything (2)


class PartRV(RatioLikelihoodRV):
    """A ratio that something else is made of."""


@node_rewriter([RatioLikelihoodRV])
def mark_parts(fgraph: Any, node: Apply) -> list[Any] | None:
    """Mark a ratio that is not observed itself."""
    if isinstance(node.op, PartRV) or _is_observed(fgraph, node.outputs[1]):
        return None
    props = {name: getattr(node.op, name) for name in RatioLikelihoodRV.__props__ if name != "name"}
    return PartRV(**props).make_node(*node.inputs).outputs


def _is_observed(fgraph: Any, draws: TensorVariable) -> bool:
    return all(
        isinstance(client.op, _OBSERVED)
        or (isinstance(client.op, _KEEPS_VALUES) and _is_observed(fgraph, client.outputs[0]))
        for client, _ in fgraph.clients[draws]
    )


logprob_rewrites_db.register(
    "mark_parts_of_ratios", in2out(mark_parts), "basic", position=_AFTER_INLINING
)


@_logprob.register(PartRV)
def _refuse_to_be_a_part(op: PartRV, values: Any, *inputs: Any, **kwargs: Any) -> TensorVariable:
    raise _not_a_part()


@_logcdf.register(RatioLikelihoodRV)
def _refuse_to_be_cumulated(op: RatioLikelihoodRV, *inputs: Any, **kwargs: Any) -> TensorVariable:
    """Truncation and censoring ask for it."""
    raise _not_a_part()


_logp_of_mixture = _logprob.dispatch(MixtureRV)


@_logprob.register(MixtureRV)
def _refuse_to_be_mixed(
    op: MixtureRV, values: Any, rng: Any, weights: Any, *components: Any, **kwargs: Any
) -> TensorVariable:
    """PyMC's own, unless log ratios meet log densities, or those of another ratio, in it."""
    if any(_holds_ratio(component) for component in components):
        raise _not_a_part()
    result = _logp_of_mixture(op, values, rng, weights, *components, **kwargs)
    if len(components) > 1 and _ratios_in(result):  # of a pm.CustomDist(logp=)
        first, *others = (_ratios_in(logp(component, values[0])) for component in components)
        if any(ratios != first for ratios in others):
            raise _not_a_part()
    return result


def _holds_ratio(component: TensorVariable) -> bool:
    """Whether it is a ratio, or a pm.CustomDist(dist=) made of one."""
    op = component.owner.op
    if not isinstance(op, SymbolicRandomVariable):
        return isinstance(op, RatioLikelihoodRV)
    return any(_holds_ratio(node.outputs[0]) for node in op.fgraph.apply_nodes)


def _ratios_in(graph: Variable) -> set[Hashable]:
    """The ratios that a log density is computed by: equal ones have an engine and weights."""
    nodes = (variable.owner for variable in ancestors([graph]) if variable.owner is not None)
    return {
        (node.op.engine, *node.inputs[2 : 2 + node.op.engine.constants])
        for node in nodes
        if isinstance(node.op, RatioOp)
    }


def _not_a_part() -> ValueError:
    return refusal(
        "RatioLikelihood",
        "cannot be part of a mixture, a map, a truncated or censored distribution, one with "
        "missing values or a time series",
        "Let the simulator do it, and train on that. Mixtures within one ratio are the log of "
        "the sum of w * exp(log_ratio(...)), in a pm.Potential or as logp of a pm.CustomDist; so "
        "are lapses to the data that the training prior predicts, where log_ratio is 0",
    )


@_default_transform.register(RatioLikelihoodRV)
def _refuse_to_be_free(op: RatioLikelihoodRV, rv: TensorVariable) -> None:
    """Models ask for the transform of their free variables only."""
    raise _not_free(rv)


@_support_point.register(RatioLikelihoodRV)
def _refuse_to_start(op: RatioLikelihoodRV, rv: TensorVariable, *inputs: Any) -> TensorVariable:
    """Samplers ask where a free variable starts, also one that is called something else."""
    raise _not_free(rv)


def _not_free(rv: TensorVariable) -> ValueError:
    return refusal(rv.name or "RatioLikelihood", "must be observed", "Pass observed=data")


@_change_dist_size.register(RatioLikelihoodRV)
def _refuse_to_be_nested(
    op: RatioLikelihoodRV, rv: TensorVariable, new_size: Any, expand: bool = False
) -> TensorVariable:
    """Mixtures, censoring and truncation resize what they hold; predictions expand it."""
    if expand:
        return change_rv_size(op, rv, new_size, expand)
    raise _not_a_part()
