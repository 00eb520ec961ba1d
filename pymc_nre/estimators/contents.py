"""What the file of an estimator holds: the one schema that is written by and read by.

`problems` compares the description with the types that its fields have, then the form of every
array with what the description says: parameters and observations say how large the domain and the
stored points are, and the network, which is built without memory for its weights, what weights
there are. Nothing else of a file is looked at before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch

from ..networks.base import RatioNetwork, floating, keep_in_mind
from ..networks.beside import Beside
from ..networks.calibration.calibrated import Calibrated
from ..networks.composed.correction import QuadraticCorrection
from ..networks.composed.ensemble import Ensemble, members_of
from ..networks.composed.over_references import OverReferences
from ..networks.composed.pairs import Pairs
from ..networks.densities import KINDS, LogDensity
from ..networks.incomplete import Incomplete, sees_holes
from ..networks.prior_density import FAMILIES, PriorDensity
from ..networks.specifications import make_curved, specification_from_dict, without_weights
from ..runtime.stored import Form
from ..simulation.conditions.layout import Conditions
from ..simulation.conditions.missing import Missing
from ..simulation.parameters import Layout
from .domain import Domain
from .trial_budgets.trial_budget import TrialBudget

__all__ = [
    "conditions_of",
    "density_of",
    "facts_problem",
    "kept_of",
    "layout_of",
    "missing_of",
    "network_of",
    "pairs_of",
]
__all__ += ["problems", "section"]

_MOST_AXES = 12  # of one parameter or observation; batches have axes before them
_MOST_PIECES = 10_000  # of all curves together
_TOLD_OF = ("stopped", "best_loss", "n_train", "chance")  # what is shown of a training


def problems(metadata: dict[str, Any], forms: Mapping[str, Form]) -> list[str]:
    """What is wrong with a description and with the forms of arrays, in words."""
    return (
        [*_wrong_fields(metadata)]
        or [*_wrong_forms(_known_forms(metadata, forms), forms, "weights/")]
        or [*_wrong_history(metadata, section(forms, "history/"))]
        or [*_wrong_budget(metadata)]
        or [*_wrong_conditions(metadata)]
        or [*_wrong_missing(metadata)]
        or [*_wrong_density(metadata)]
        or [*_wrong_kept(metadata)]
        or [*_wrong_theta_ref(metadata)]
        or [*_wrong_pairs(metadata, section(forms, "weights/"))]
        or [*_wrong_weights(metadata, section(forms, "weights/"))]
    )


def layout_of(metadata: Mapping[str, Any]) -> Layout:
    """Names and shapes of the parameters."""
    shapes = {name: tuple(shape) for name, shape in metadata["parameters"].items()}
    return Layout(shapes, frozenset(metadata.get("integer", ())))


def network_of(metadata: Mapping[str, Any], build: Callable[..., RatioNetwork]) -> RatioNetwork:
    """The whole network, of members that ``build(theta_size, event_shape)`` makes."""
    size, event_shape = layout_of(metadata).size, tuple(metadata["event_shape"])
    pairs = metadata.get("pairs")
    sizes = (size if pairs is None else 2 * size), event_shape
    if metadata.get("density") is not None:
        conditions = conditions_of(metadata)
        shape_of_x = conditions and conditions.event_shape
        build = partial(_log_density, build, shape_of_x, **metadata["density"])
    members = [build(*sizes) for _ in range(metadata.get("members", 1))]
    if pairs is not None:
        members = [Pairs(member, pairs["antisymmetric"]) for member in members]
    if "kept" in metadata:
        for member, kept in zip(members, metadata["kept"], strict=True):
            keep_in_mind(member, kept)
    net = members[0] if len(members) == 1 else Ensemble(members, metadata["mean_of"])
    if pairs is not None and pairs["references"]:
        like = floating(net)
        net = OverReferences(net, like.new_zeros(pairs["references"], size))
    if metadata.get("calibrated"):
        net = Calibrated(net, size, *metadata["calibrated"])
    if metadata.get("tilted"):
        net = QuadraticCorrection(net, size, edge=metadata.get("edge", False))
    make_curved(net, metadata.get("curved", ()))
    return net


def _log_density(
    build: Callable[..., Any],
    shape_of_x: tuple[int, ...] | None,
    size: int,
    event_shape: tuple[int, ...],
    kind: str,
    prior: list[Any],
) -> LogDensity:
    density = PriorDensity(prior) if prior else None
    return LogDensity(build(size, event_shape), size, event_shape, kind, density, shape_of_x)


def pairs_of(network: RatioNetwork) -> dict[str, Any] | None:
    """What a file says of a network of pairs, and how many references it is averaged over."""
    one = members_of(network)[0]
    if not isinstance(one, Pairs):
        return None
    references = network.references if isinstance(network, OverReferences) else ()
    return {"antisymmetric": one.antisymmetric, "references": len(references)}


def kept_of(network: RatioNetwork) -> list[list[str]] | None:
    """What a file says of weights that training left as they were, for each member; if any."""
    names = [list(member.kept_weights) for member in members_of(network)]
    return names if any(names) else None


def density_of(network: RatioNetwork) -> dict[str, Any] | None:
    """What a file says of a module of log densities: its kind, and what its prior consists of."""
    one = members_of(network)[0]
    if not isinstance(one, LogDensity):
        return None
    parts = [] if one.prior is None else [list(part) for part in one.prior.parts]
    return {"kind": one.kind, "prior": parts}


def section(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin so, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def facts_problem(facts: Any) -> str:
    """What is wrong with what is told of a training; nothing if all is right."""
    if not isinstance(facts, Mapping):
        return "it must be facts by name"
    odd = [name for name, fact in facts.items() if not _is_fact(fact)]
    if odd:
        return f"facts must be numbers, texts or lists of them: {', '.join(map(repr, odd))}"
    missing = [name for name in _TOLD_OF if not _is_told(name, facts.get(name))]
    if facts and missing:
        return f"it must tell {', '.join(missing)}"
    return ""


# --- fields ----------------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_AXES and all(map(_is_count, value))


def _are_parameters(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return all(map(str.isidentifier, value)) and all(map(_is_shape, value.values()))


def _are_sizes(value: Any) -> bool:
    # An array is made of as many numbers before it is compared with that of the file.
    return _is_shape(value) and len(value) == 2 and math.prod(value) <= _MOST_PIECES


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(v) and math.isfinite(v) for v in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_network(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("type"))


def _is_fact(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(each is None or isinstance(each, str | int | float) for each in values)


def _is_told(name: str, value: Any) -> bool:
    values = value if isinstance(value, list) and name != "chance" else [value]
    return bool(values) and all(map(_is_text if name == "stopped" else _is_number, values))


def _are_libraries(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _are_pairs(value: Any) -> bool:
    """What `pairs_of` gives."""
    if not isinstance(value, dict) or sorted(value) != ["antisymmetric", "references"]:
        return False
    count = value["references"]
    return isinstance(value["antisymmetric"], bool) and type(count) is int and count >= 0


def _are_kept(value: Any) -> bool:
    """What `kept_of` gives."""
    return isinstance(value, list) and all(map(_are_texts, value))


def _is_density(value: Any) -> bool:
    """What `density_of` gives."""
    if not isinstance(value, dict) or sorted(value) != ["kind", "prior"]:
        return False
    known = value["kind"] in KINDS and isinstance(value["prior"], list)
    return known and all(map(_is_part, value["prior"]))


def _is_part(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and _is_text(value[0]) and _is_count(value[1])
    )


_REFERENCES = ("evidence", "fixed", "pair", "nothing")
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "parameters": (_are_parameters, "names with shapes"),
    "event_shape": (_is_shape, "a shape"),
    "network": (_is_network, "a type and its settings"),
    "reference": (lambda v: v in _REFERENCES, "evidence, fixed, pair or nothing"),
    "normalized": (lambda v: isinstance(v, bool), "true or false"),
    "loss": (_is_text, "a text"),
    "history": (lambda v: isinstance(v, dict), "facts by name"),
}
_LATER = {  # older files have only some of these
    "integer": (_are_texts, "a list of names"),
    "members": (_is_count, "a count"),
    "mean_of": (lambda v: v in (None, "ratios", "logits"), "ratios, logits or nothing"),
    "tilted": (lambda v: isinstance(v, bool), "true or false"),
    "edge": (lambda v: isinstance(v, bool), "true or false"),
    "curved": (_are_texts, "a list of names"),
    "calibrated": (_are_sizes, "regions and pieces, 10,000 at most"),
    "batched": (lambda v: v is None or isinstance(v, bool), "true, false or nothing"),
    "budget": (lambda v: v is None or isinstance(v, dict), "fields or nothing"),
    "libraries": (_are_libraries, "versions by name"),
    "conditions": (lambda v: isinstance(v, dict), "fields"),
    "missing": (lambda v: isinstance(v, dict), "fields"),
    "density": (_is_density, "a kind, and the parts of a prior"),
    "kept": (_are_kept, "a list of names for each member"),
    "pairs": (_are_pairs, "antisymmetric, true or false, and references, a number"),
    "observed": (_is_count, "a count"),
    "theta_ref": (_are_numbers, "a list of finite numbers"),
}
_OF_ALL_FILES = {"format", "version", "sha256"}


def _wrong_fields(metadata: Mapping[str, Any]) -> Iterator[str]:
    known = _FIELDS | _LATER
    yield from (f"{name} is missing" for name in _FIELDS if name not in metadata)
    unknown = sorted(set(metadata) - set(known) - _OF_ALL_FILES)
    if unknown:
        yield f"fields that this version does not know: {', '.join(map(_short, unknown))}"
    for name, (is_right, wanted) in known.items():
        if name in metadata and not is_right(metadata[name]):
            yield f"{name} must be {wanted}, is {_short(metadata[name])}"
    members, mean_of = metadata.get("members", 1), metadata.get("mean_of")
    if members != 1 and mean_of is None:
        yield "mean_of must say what members are averaged by"
    strange = set(_listed(metadata.get("integer"))) - set(_listed(metadata.get("parameters")))
    if strange:
        yield f"integer must name parameters, names {', '.join(map(_short, sorted(strange)))}"


def _listed(value: Any) -> list[str]:
    return (
        [each for each in value if isinstance(each, str)] if isinstance(value, list | dict) else []
    )


def _short(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."


# --- forms of arrays -------------------------------------------------------------------------


def _known_forms(metadata: Mapping[str, Any], forms: Mapping[str, Form]) -> dict[str, Form]:
    """Of what every estimator has; numbers of pieces, draws and points are the file's own."""

    def length(name: str, axis: int) -> int:
        form = forms.get(name)
        return form.shape[axis] if form is not None and len(form.shape) > axis else 1

    pieces, draws = length("domain/knots", 1), length("domain/draws", 0)
    shapes = Domain.shapes(layout_of(metadata).size, max(pieces, 1), max(draws, 1))
    shapes = {f"domain/{name}": shape for name, shape in shapes.items()}
    points = max(length("probe/x", 0), 1)
    shapes["probe/x"] = (points, *metadata["event_shape"])
    shapes["probe/log_ratio"] = (min(points, max(draws, 1)),)
    if "observed" in metadata:
        shapes["observed"] = (metadata["observed"], *_observation_shape(metadata))
    return {name: Form(np.dtype(float), shape) for name, shape in shapes.items()}


def _observation_shape(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Of one observation, without its conditions."""
    conditions, _ = _described("conditions", metadata, Conditions)
    return tuple(metadata["event_shape"]) if conditions is None else conditions.event_shape


def _wrong_forms(
    expected: Mapping[str, Form], found: Mapping[str, Form], *others: str
) -> Iterator[str]:
    """Arrays that are missing, of another form, or not known; some are looked at elsewhere."""
    for name, form in expected.items():
        if name not in found:
            yield f"{name} is missing"
        elif found[name] != form:
            yield f"{name} must be {form}, is {found[name]}"
    elsewhere = (*others, "history/") if others else ()
    for name in found.keys() - expected.keys():
        if not name.startswith(elsewhere):
            yield f"{_short(name)} is not known"


def _wrong_history(metadata: Mapping[str, Any], forms: Mapping[str, Form]) -> Iterator[str]:
    problem = facts_problem(metadata["history"])
    if problem:
        yield f"history: {problem}"
    if metadata["history"] and not forms:
        yield "history has no epochs"
    epochs = {form.shape[-1:] for form in forms.values()}
    members = {form.shape[:-1] for form in forms.values()} - {()}
    if () in epochs or len(epochs) > 1 or len(members) > 1 or any(len(m) > 1 for m in members):
        yield "history must have arrays (epoch,) or (member, epoch) of the same lengths"
    yield from (
        f"history/{_short(name)} must hold numbers, is {form}"
        for name, form in forms.items()
        if form.dtype.kind not in "iuf"
    )


def _described(name: str, metadata: Mapping[str, Any], kind: Any) -> tuple[Any, list[str]]:
    """What a field describes, if it is there and does, and what is wrong with it."""
    if metadata.get(name) is None:
        return None, []
    try:
        return kind.from_dict(metadata[name]), []
    except ValueError as error:
        return None, [f"{name}: {error}"]


def _wrong_budget(metadata: Mapping[str, Any]) -> Iterator[str]:
    budget, problem = _described("budget", metadata, TrialBudget)
    yield from problem
    if budget is not None and budget.parameters != tuple(layout_of(metadata).continuous_labels):
        yield f"budget is one of other parameters: {_short(budget.parameters)}"


def _wrong_conditions(metadata: Mapping[str, Any]) -> Iterator[str]:
    conditions, problem = _described("conditions", metadata, Conditions)
    yield from problem
    if conditions is None:
        return
    if list(conditions.packed_shape) != metadata["event_shape"]:
        yield f"conditions do not fit observations of shape {_short(metadata['event_shape'])}"
    both = sorted({*conditions.shapes} & {*metadata["parameters"]})
    if both:
        yield f"conditions are parameters too: {', '.join(map(_short, both))}"


def conditions_of(metadata: Mapping[str, Any]) -> Conditions | None:
    """What is known beside an observation."""
    given = metadata.get("conditions")
    return None if given is None else Conditions.from_dict(given)


def _wrong_missing(metadata: Mapping[str, Any]) -> Iterator[str]:
    missing, problem = _described("missing", metadata, Missing)
    yield from problem
    if missing is None:
        return
    conditions = conditions_of(metadata)
    shape = conditions.event_shape if conditions else tuple(metadata["event_shape"])
    if missing.event_shape != shape:
        yield f"missing does not fit observations of shape {_short(shape)}"


def missing_of(metadata: Mapping[str, Any]) -> Missing | None:
    """How numbers were missing in training."""
    given = metadata.get("missing")
    return None if given is None else Missing.from_dict(given)


def _wrong_density(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Before anything is built for as many numbers as are said."""
    density = metadata.get("density")
    kind = None if density is None else density["kind"]
    if (metadata["reference"] == "nothing") != (kind == "likelihood"):
        yield f"a density {kind!r} does not fit the reference {metadata['reference']!r}"
    if density is None:
        return
    if metadata["network"]["type"] != "custom":
        yield "a density is by a module of your own, and the file describes another"
    unknown = [_short(family) for family, _ in density["prior"] if family not in FAMILIES]
    if unknown:
        yield f"there are no densities of {', '.join(unknown)}"
    if density["prior"] and sum(size for _, size in density["prior"]) != layout_of(metadata).size:
        yield "the density of the prior is one of other parameters"


def _wrong_kept(metadata: Mapping[str, Any]) -> Iterator[str]:
    members, kept = metadata.get("members", 1), metadata.get("kept")
    if kept is not None and len(kept) != members:
        yield f"kept must name weights of {_short(members)} members, names those of {len(kept)}"


def _wrong_theta_ref(metadata: Mapping[str, Any]) -> Iterator[str]:
    known, size = metadata.get("theta_ref"), layout_of(metadata).size
    if known is not None and len(known) != size:
        yield f"theta_ref must have {_short(size)} numbers, has {len(known)}"
    if known is not None and metadata["reference"] != "fixed":
        yield f"theta_ref does not fit the reference {metadata['reference']!r}"


def _wrong_pairs(metadata: Mapping[str, Any], forms: Mapping[str, Form]) -> Iterator[str]:
    """Before anything is built for as many references as are said."""
    pairs = metadata.get("pairs")
    known = 0 if pairs is None else pairs["references"]
    if (metadata["reference"] == "pair") != (pairs is not None and not known):
        yield f"pairs do not fit the reference {metadata['reference']!r}"
    lengths = [form.shape[:1] for name, form in forms.items() if name.endswith("references")]
    if known and lengths != [(known,)]:
        yield f"pairs are said to have {_short(known)} references, and hold others"


def _wrong_weights(metadata: Mapping[str, Any], forms: Mapping[str, Form]) -> Iterator[str]:
    """Compare with what the described network has; one of the user's own is not described."""
    if metadata.get("members", 1) > len(forms):
        yield f"there are weights for fewer members than {_short(metadata['members'])}"
        return
    if metadata["network"]["type"] == "custom":
        return
    try:
        state = _state_of(metadata, len(forms))
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        yield f"network: {error}"
        return
    integers = {name for name, weight in state.items() if not weight.is_floating_point()}
    expected = {
        name: Form(np.dtype(np.int64 if name in integers else float), tuple(weight.shape))
        for name, weight in state.items()
    }
    yield from (f"weights/{wrong}" for wrong in _wrong_forms(expected, forms))


def _state_of(metadata: Mapping[str, Any], count: int) -> dict[str, torch.Tensor]:
    """What there would be of the described network, on a device that keeps no numbers."""
    specification = specification_from_dict(metadata["network"])
    if not hasattr(specification, "embedding") or isinstance(specification, Beside | Incomplete):
        raise ValueError(f"{specification} is an embedding")
    if sees_holes(specification) != ("missing" in metadata):
        raise ValueError(f"{specification} does not fit what is told of missing numbers")
    members = metadata.get("members", 1)
    layers = _layers(specification) + _layers(specification.embedding)
    # A member has more arrays than layers; without this a number in a file could take hours.
    if members * layers > count:
        raise ValueError(f"{members:,} members with {layers:,} layers do not fit {count:,} arrays")
    return network_of(metadata, without_weights(specification)).state_dict()


def _layers(specification: Any) -> int:
    if specification is None:
        return 1
    if isinstance(specification, Beside | Incomplete):
        return _layers(specification.embedding)
    values = {field.name: getattr(specification, field.name) for field in fields(specification)}
    listed = sum(len(value) for value in values.values() if isinstance(value, tuple))
    return listed + values.get("blocks", 0)
