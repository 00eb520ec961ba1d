"""Trace a network, and see whether what comes out computes the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...networks.base import RatioNetwork
from ...runtime.devices import one_thread_if
from .evaluator import Traced
from .graph import Graph
from .program import Program
from .rows import UnsupportedError
from .tracing import QUANTITIES, traced

__all__ = ["trace"]

_one_at_a_time = Lock()  # how torch pays attention is one choice for all threads
_FEW = 7  # rows, beside all that are given: what a network makes of them may depend on how many
_SAME = 1e-9  # of the largest number; sums are in another order


def trace(
    network: RatioNetwork, theta: np.ndarray, x: np.ndarray, *, embedded: bool = True
) -> Traced:
    """The program of a network, which does what torch does with these rows.

    Parameters
    ----------
    network : RatioNetwork
        Frozen, in evaluation mode.
    theta : array, shape (n, D)
        Parameters that may occur.
    x : array, shape (n, *event)
        Observations that may occur.
    embedded : bool
        Whether it takes what ``network.embed`` makes of observations, and not observations.

    Raises
    ------
    UnsupportedError
        If it does something that has no machine code, or the code computes something else.
    """
    with _plain_attention(), one_thread_if(True):
        try:
            network = copy.deepcopy(network).double()
            return _traced(network if embedded else _Whole(network), theta, x, embedded)
        except UnsupportedError:
            raise
        except Exception as error:  # a user's code, torch's own, and whatever they raise
            raise UnsupportedError(_why(error)) from error


class _Whole(nn.Module):
    """A network whose features are observations."""

    def __init__(self, network: RatioNetwork) -> None:
        super().__init__()
        self.head = network.forward

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return x


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Other ways to pay it are one operation that nobody takes apart or differentiates twice."""
    mha = torch.backends.mha
    with _one_at_a_time, sdpa_kernel(SDPBackend.MATH):
        quick = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            mha.set_fastpath_enabled(quick)


def _why(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0][:200]
    return f"it cannot be traced ({type(error).__name__}: {first})"


def _traced(network: nn.Module, theta: np.ndarray, x: np.ndarray, embedded: bool) -> Traced:
    with torch.no_grad():
        features = network.embed(torch.tensor(x, dtype=torch.float64))
    if not features.ndim or len(features) != len(x):
        raise UnsupportedError("embed does not give features for each observation")
    if features.dtype != torch.float64:
        raise UnsupportedError(f"embed gives {features.dtype}")
    shape = tuple(features.shape[1:])
    shared = Graph()  # of whose weights all graphs take theirs
    graphs = {
        quantity: traced(network, theta.shape[1], shape, quantity, weights=shared)
        for quantity in QUANTITIES
    }
    nodes = {quantity: tuple(graph.needed()) for quantity, graph in graphs.items()}
    columns = int(np.prod(shape, dtype=int))
    program = Program(theta.shape[1], columns, embedded, **nodes)
    found = Traced(program, shared.vector("moments"), shared.vector())
    _compare(found, network, theta, features)
    return found


def _compare(found: Traced, network: nn.Module, theta: np.ndarray, features: Any) -> None:
    """Raise UnsupportedError unless the code computes what torch computes."""
    stream, theta = np.random.default_rng(0), np.ascontiguousarray(theta, dtype=float)
    rows_of_x = features.reshape(len(features), -1).contiguous().numpy()
    for n in (len(theta), min(_FEW, len(theta))):
        for t in (theta[:n], theta[:1]):
            v = torch.tensor(stream.standard_normal((n, theta.shape[1])))
            rows = torch.tensor(np.broadcast_to(t, (n, theta.shape[1])).copy())
            for quantity, function in QUANTITIES.items():
                along = [v] if quantity == "hessian_product" else []
                wanted = function(network)(rows, features[:n], *along)
                wanted = [result.numpy(force=True) for result in wanted]
                got = [np.full(result.shape, np.nan) for result in wanted]
                code = found.program.code(quantity, double=True)
                given = t, rows_of_x[:n], v.numpy(), found.moments, found.weights
                code.run(*given, results=got)
                for one, other in zip(got, wanted, strict=True):
                    _compare_numbers(one, other)


def _compare_numbers(got: np.ndarray, wanted: np.ndarray) -> None:
    finite = np.isfinite(wanted)
    same = np.array_equal(np.where(finite, 0.0, got), np.where(finite, 0.0, wanted), equal_nan=True)
    largest = max(1.0, np.abs(wanted[finite]).max(initial=0.0))
    error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / largest
    if not same:
        raise UnsupportedError("its machine code differs where values are not finite")
    if not error < _SAME:
        raise UnsupportedError(f"its machine code is off by {error:.1e}")
