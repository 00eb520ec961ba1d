"""A loss read from its text, as estimators keep it: the inverse of ``repr``.

Nothing is evaluated: names are those of the losses here, and what is given to them are numbers,
texts, tuples of them, and losses.
"""

from __future__ import annotations

import ast
from typing import Any

from .balanced import Balanced
from .contrastive import NREA, NREB, NREC
from .direct import DNRE
from .multi_scale import MultiScale

__all__ = ["loss_from_text"]

_KINDS = {kind.__name__: kind for kind in (Balanced, DNRE, MultiScale, NREA, NREB, NREC)}


def loss_from_text(text: str) -> Any:
    """The loss that shows itself so; None if it cannot be known, as with simulations in it.

    Examples
    --------
    >>> from pymc_nre.losses.written import loss_from_text
    >>> loss_from_text("NREC(candidates=5, gamma=1.0)")
    NREC(candidates=5, gamma=1.0)
    """
    try:
        loss = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, TypeError):
        return None
    return loss if repr(loss) == text else None


def _value(node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    if not isinstance(node.func, ast.Name) or node.func.id not in _KINDS or node.args:
        raise ValueError("no loss of this package")
    return _KINDS[node.func.id](**{str(each.arg): _value(each.value) for each in node.keywords})
