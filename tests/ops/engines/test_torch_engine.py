"""What is particular to the engine that calls torch."""

import numpy as np
import pytensor
import pytest
import torch
from bound import MODES, symbolic

from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.estimators.evaluator import TorchEvaluator

pytestmark = pytest.mark.parametrize("engine", ["torch"], indirect=True)


def count_evaluations(monkeypatch, tell):
    for name in ("value", "value_and_gradient", "hessian_product"):
        original = getattr(TorchEvaluator, name)

        def counting(self, *arguments, original=original):
            tell()
            return original(self, *arguments)

        monkeypatch.setattr(TorchEvaluator, name, counting)


@pytest.mark.parametrize("linker", MODES)
def test_one_evaluation_for_value_and_gradient(case, theta, linker, monkeypatch):
    calls = []
    t = symbolic(theta)
    target = case[1](t, case[4]).sum()
    function = pytensor.function([t], [target, pytensor.grad(target, t)], mode=MODES[linker]())
    count_evaluations(monkeypatch, lambda: calls.append(1))
    function(theta)
    assert len(calls) == 1


@pytest.mark.parametrize("linker", MODES)
def test_value_alone_pays_for_no_gradient(case, theta, linker, monkeypatch):
    t = symbolic(theta)
    function = pytensor.function([t], case[1](t, case[4]).sum(), mode=MODES[linker]())
    monkeypatch.setattr(
        TorchEvaluator,
        "value_and_gradient",
        lambda *arguments: pytest.fail("a gradient was computed"),
    )
    function(theta)


def test_cuda_in_a_forked_process_is_a_clear_error(case, theta, monkeypatch):
    # No CUDA is needed to see the check: it looks at where the network is said to live.
    _, both, _, _, x = case
    monkeypatch.setattr(RatioEstimator, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(RuntimeError, match=r"cores=1.*forkserver.*ratio\.to\('cpu'\)"):
        both.perform(theta, x)


def test_observations_and_parameters_of_the_wrong_shape_are_refused(case):
    _, both, _, size, x = case
    with pytest.raises(TypeError, match=rf"needs x as a float64 tensor with {x.ndim} axes"):
        both(np.zeros((1, size)), np.zeros((*x.shape, 1)))
    with pytest.raises(ValueError, match=rf"shape \(1 or n, {size}\), got"):
        both(np.zeros((1, size + 1)), x)
