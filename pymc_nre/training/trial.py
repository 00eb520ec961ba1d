"""Try a user's own network on what its ratio will be asked for, before it is trained for hours.

Training is in single precision and on whole batches. Afterwards the network is copied and
evaluated in double precision, on one row or many, with parameters that rows share, and its weights
are saved.
"""

from __future__ import annotations

import copy

import numpy as np

from ..estimators.evaluator import TorchEvaluator
from ..networks.base import RatioNetwork
from ..runtime.random_streams import RandomStream

__all__ = ["check_weights", "try_out"]

_ROWS = 3
# Networks that compute in single precision somewhere inside agree to that; rows that are mixed
# up, or numbers that are drawn, do not.
_SAME = {"rtol": 1e-3, "atol": 1e-5, "equal_nan": True}


def check_weights(net: RatioNetwork) -> None:
    """Raise ValueError if there is nothing to train."""
    weights = [weight for _, weight in net.named_parameters()]
    if not any(weight.requires_grad for weight in weights):
        what = f"all its {len(weights)} are frozen" if weights else "it has none"
        raise ValueError(
            f"network= must have weights to train; {what}. Let the factory return a module with "
            "layers of its own, module.requires_grad_(True)."
        )


def try_out(net: RatioNetwork, theta: np.ndarray, x: np.ndarray, differentiate: bool) -> None:
    """Evaluate a copy as a trained one will be.

    Parameters
    ----------
    net : RatioNetwork
    theta : array, shape (n, D)
    x : array, shape (n, *event)
        Parameters and observations of a few simulations.
    differentiate : bool
        Whether parameters are continuous.

    Raises
    ------
    ValueError
        If anything fails, or a row's logit depends on other rows or changes from call to call.
    """
    theta, x = theta[:_ROWS], x[:_ROWS]
    step = "copied"
    try:
        with RandomStream(0).in_place():
            evaluator = TorchEvaluator(copy.deepcopy(net).double().eval())
            step = "evaluated in double precision"
            together = evaluator.value(theta, x)
            again = evaluator.value(theta, x)
            step = "evaluated on one row"
            alone = np.concatenate([evaluator.value(*row) for row in _rows(theta, x)])
            step = "evaluated with one theta for all rows"
            shared = evaluator.value(theta[:1], x)
            repeated = evaluator.value(np.repeat(theta[:1], len(x), 0), x)
            table = evaluator.table(theta[None], x)
            if differentiate:
                step = "differentiated in theta"
                evaluator.value_and_gradient(theta, x)
            step = "saved"
            for weight in evaluator.network.state_dict().values():
                weight.cpu().numpy()
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"network= trains in single precision, but then it cannot be {step}, as its ratio will "
            f"be: {type(error).__name__}: {error}. Let what it makes follow its inputs, as in "
            "x.new_zeros(len(x), 8); tensors of its own belong in register_buffer."
        ) from error
    _check_same(together, again, "gives other logits at each call", "dropout wants self.training")
    _check_same(together, alone, "gives a row another logit if it is alone", _BATCH)
    _check_same(shared, repeated, "gives another logit where rows share one theta", _BATCH)
    _check_same(table, _slow_table(evaluator, theta, x), "mixes rows up in a table", _BATCH)


_BATCH = "the first axis counts rows, which must not see each other"


def _rows(theta: np.ndarray, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(theta[i : i + 1], x[i : i + 1]) for i in range(len(x))]


def _slow_table(evaluator: TorchEvaluator, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([evaluator.value(point[None], x) for point in theta], axis=1)


def _check_same(one: np.ndarray, other: np.ndarray, what: str, why: str) -> None:
    if not np.allclose(one, other, **_SAME):
        raise ValueError(
            f"network= {what} when it is evaluated (up to {np.abs(one - other).max():.2g}), so its "
            f"ratio would mean nothing: {why}."
        )
