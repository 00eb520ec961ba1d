"""Networks of a user's own: as machine code, or left to torch with a reason."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from own_networks import COMPILE, LEFT, D, E, made
from traced import evaluator_of, everything

from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.kernels.traced import network as networks
from pymc_nre.kernels.traced.evaluator import CompiledEvaluator
from pymc_nre.kernels.traced.network import trace
from pymc_nre.kernels.traced.rows import UnsupportedError

# Rounding of sums of some dozens of products in several layers, in torch and here.
TOLERANCE = 1e-12
SINGLE = 1e-4


def data(n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)), rng.normal(size=(n, E)), rng.normal(size=(n, D))


def compare(network, traced, dtype=np.float64, sizes=(1, 15, 16, 17, 40)):
    """The largest error, of the largest number."""
    torch_ones = TorchEvaluator(network)
    evaluator = evaluator_of(traced, dtype)
    worst = 0.0
    for n in sizes:
        theta, x, v = data(n)
        features = torch_ones.features(x).reshape(n, -1)
        for t in (theta, theta[:1]):
            pairs = zip(
                everything(evaluator, t, features, v), everything(torch_ones, t, x, v), strict=True
            )
            for got, wanted in pairs:
                assert got.shape == wanted.shape
                assert got.dtype == np.float64
                worst = max(worst, np.abs(got - wanted).max() / max(1, np.abs(wanted).max()))
    return worst


@pytest.mark.parametrize("name", COMPILE)
def test_machine_code_computes_what_torch_does(name):
    network = made(COMPILE[name])
    traced = trace(network, *data(100, 2)[:2])
    assert compare(network, traced) < TOLERANCE
    assert TOLERANCE < compare(network, traced, np.float32) < SINGLE or name == "truths"


@pytest.mark.parametrize("name", LEFT)
def test_what_has_no_machine_code_is_refused_with_the_reason(name):
    factory, reason = LEFT[name]
    with pytest.raises(UnsupportedError, match=reason):
        trace(made(factory), *data(100)[:2])


def test_networks_of_one_architecture_have_one_program():
    first, second = (trace(made(COMPILE["film"], seed), *data(100)[:2]) for seed in (1, 2))
    assert first.program == second.program
    assert hash(first.program) == hash(second.program)
    assert not np.array_equal(first.weights, second.weights)
    assert trace(made(COMPILE["fourier"]), *data(100)[:2]).program != first.program


def test_the_comparison_sees_weights_of_another_network():
    network = made(COMPILE["bilinear"])
    traced = trace(network, *data(100)[:2])
    assert compare(network, traced) < TOLERANCE
    assert compare(made(COMPILE["bilinear"], 1), traced) > 1e-3


def test_code_that_computes_something_else_is_noticed(monkeypatch):
    """A bug in what writes the code leaves a network to torch, and gives no wrong posterior."""
    network, given = made(COMPILE["film"]), data(100)[:2]
    trace(network, *given)
    right = networks.traced

    def wrong(*arguments, **options):
        graph = right(*arguments, **options)
        k = next(k for k, node in enumerate(graph.nodes) if node.kind == "sigmoid")
        graph.nodes[k] = graph.nodes[k]._replace(kind="tanh")
        return graph

    monkeypatch.setattr(networks, "traced", wrong)
    with pytest.raises(UnsupportedError, match="off by"):
        trace(network, *given)


def test_a_network_that_counts_its_rows_is_noticed():
    class Counting(torch.nn.Module):
        def forward(self, theta, x):
            return theta[:, 0] * x[:, 0] * len(x)

    with pytest.raises(UnsupportedError, match="off by"):
        trace(made(Counting), *data(100)[:2])


def test_threads_trace_one_after_another():
    networks_of_threads = [made(COMPILE["fourier"], seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda network: trace(network, *data(100)[:2]), networks_of_threads))
    assert len({traced.program for traced in found}) == 1


@pytest.mark.one_python
def test_tracing_loads_no_compiler_of_torch():
    """Which takes a second, for the first network of each process."""
    code = """
import sys
import numpy as np
from pymc_nre.kernels.traced.network import trace
from pymc_nre.networks import MLP, build
network = build(MLP((5, 4), activation="elu", norm="layer"), 2, (3,)).eval()
trace(network.requires_grad_(False), np.ones((9, 2)), np.ones((9, 3)))
loaded = {"torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes"}
assert not loaded & set(sys.modules), loaded & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_nan_stays_in_its_row():
    traced = trace(made(COMPILE["film"]), *data(100)[:2])
    evaluator = CompiledEvaluator.of(traced)
    theta, _, v = data(40)
    features = np.random.default_rng(0).normal(size=(40, traced.program.columns))
    theta[[0, 17, 39], 1] = np.nan
    for part in everything(evaluator, theta, features, v):
        rows = np.isnan(part.reshape(40, -1)).any(1)
        np.testing.assert_array_equal(np.flatnonzero(rows), [0, 17, 39])
    features[5] = np.inf  # of an embedding; data were looked at before
    assert not np.isfinite(evaluator.value(theta, features)[5])


@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_have_no_values(n):
    traced = trace(made(COMPILE["film"]), *data(100)[:2])
    evaluator = CompiledEvaluator.of(traced)
    theta, x = np.zeros((n, D)), np.zeros((0, traced.program.columns))
    assert evaluator.value(theta, x).shape == (0,)
    assert [part.shape for part in evaluator.value_and_gradient(theta, x)] == [(0,), (0, D)]
    assert evaluator.hessian_product(theta, x, np.zeros((0, D))).shape == (0, D)


def test_wrong_shapes_are_refused_before_memory_is_read():
    traced = trace(made(COMPILE["film"]), *data(100)[:2])
    evaluator = CompiledEvaluator.of(traced)
    with pytest.raises(ValueError, match="columns"):
        evaluator.value(np.zeros((3, D - 1)), np.zeros((3, traced.program.columns)))
    with pytest.raises(ValueError, match="reshape"):
        evaluator.value(np.zeros((3, D)), np.zeros((3, traced.program.columns - 1)))
    with pytest.raises(ValueError, match="one row"):
        evaluator.value(np.zeros((2, D)), np.zeros((3, traced.program.columns)))
    with pytest.raises(ValueError, match="v has"):
        evaluator.hessian_product(
            np.zeros((3, D)), np.zeros((3, traced.program.columns)), np.zeros((2, D))
        )
