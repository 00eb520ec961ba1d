"""Machine code against its slow twin: every primitive, and graphs at random."""

import hashlib
from dataclasses import replace

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_nre.kernels.traced.emitter import Shape, emit
from pymc_nre.kernels.traced.graph import Graph, Run
from pymc_nre.kernels.traced.machine import code_of
from pymc_nre.kernels.traced.plan import Plan
from pymc_nre.kernels.traced.program import shapes
from pymc_nre.kernels.traced.twin import evaluate

D, F = 3, 2
ONE = [*("neg", "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sigmoid", "erf", "sin", "cos")]
ONE += [*("abs", "floor", "ceil", "lgamma", "digamma")]
TWO = [*("add", "sub", "mul", "div", "pow", "max", "min", "both", "either")]
TWO += [*("gt", "ge", "lt", "le", "eq", "ne")]


def run(graph, inputs, double=True, together=8):
    """The results of machine code."""
    wide, narrow = (replace(shape, together=together) for shape in shapes(double))
    plan = Plan.of(graph)
    described = repr((graph.nodes, double, together))  # code on disk is found by its name
    name = f"test_{hashlib.sha256(described.encode()).hexdigest()[:16]}"
    code = code_of(name, lambda: emit(plan, wide, narrow, name))
    dtype = np.float64 if double else np.float32
    moments, weights = graph.vector("moments"), graph.vector().astype(dtype)
    counts = [node.count for node in graph.nodes if node.kind == "result"]
    results = [np.full((len(inputs["x"]), count), np.nan) for count in counts]
    code.run(inputs["theta"], inputs["x"], inputs["x"], moments, weights, results=results)
    return results


def expected(graph, inputs):
    n = len(inputs["x"])
    theta = np.broadcast_to(inputs["theta"], (n, D))
    with np.errstate(all="ignore"):
        constants = graph.vector("moments"), graph.vector()
        return evaluate(tuple(graph.nodes), *constants, inputs | {"theta": theta}, np)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-9, -1e-9, 1e-300, 5e-324, 3.7, -3.7, 19.0, 26.5]
SPECIAL += [-40.0, 88.0, 300.0, -300.0, 709.5, -709.5, 1e5, -1e5, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("kind", [*ONE, *TWO])
def test_primitives_at_ordinary_and_special_numbers(kind):
    count = 1 if kind in ONE else 2
    x = np.array(np.meshgrid(*[SPECIAL] * count)).reshape(count, -1).T
    near = np.random.default_rng(0).normal(size=(300, count)) * [
        [10.0 ** (k % 4 - 2)] for k in range(300)
    ]
    x = np.concatenate([x, near])
    x = np.ascontiguousarray(np.concatenate([x, x[:, :1]], 1)[:, :F])
    graph = Graph()
    graph.add("theta", D)
    start = graph.add("x", F).start
    runs = tuple(Run(start + k, 0) for k in range(count))
    made = graph.add(kind, 1, runs)
    graph.add("result", 1, (Run(made.start, 1),), (0,))
    inputs = {"theta": np.zeros((1, D)), "x": x}
    (got,), (wanted,) = run(graph, inputs), expected(graph, inputs)
    if kind in ("sigmoid", "tanh"):  # what is next to zero may be zero
        got, wanted = (np.where(np.abs(v) < 1e-300, 0.0, v) for v in (got, wanted))
    if kind in ("lgamma", "digamma"):  # libraries differ at poles
        ordinary = np.isfinite(wanted)
        got, wanted = got[ordinary], wanted[ordinary]
    # Near zeros of the gamma function's logarithm nothing but the rounding of ones is left.
    least = {"exp": 5e-324, "lgamma": 1e-15, "digamma": 1e-15}.get(kind, 0)
    np.testing.assert_allclose(got, wanted, rtol=2e-14, atol=least)


@st.composite
def graphs(draw):
    """Some nodes, each of columns that are there."""
    graph, stream = Graph(), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    graph.add("theta", D)
    graph.add("x", F)
    graph.weight(stream.normal(size=5))
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(
                [
                    "tanh",
                    "sigmoid",
                    "add",
                    "mul",
                    "max",
                    "where",
                    "gt",
                    "sum",
                    "largest",
                    "layer",
                    "layer",
                    "product",
                    "gather",
                    "literal",
                ]
            )
        )
        _grow(graph, kind, draw, stream)
    for count in (1, D):
        graph.add("result", count, (graph.block(_some(graph, count, stream)),), (count,))
    return graph


def _some(graph, count, stream):
    """Columns that are there: one after another, one again and again, or any."""
    nodes = [node for node in graph.nodes if node.kind != "result"]
    maker = nodes[stream.integers(len(nodes))]
    way = stream.integers(3)
    if way == 0 and maker.count >= count:
        first = maker.start + stream.integers(maker.count - count + 1)
        return np.arange(first, first + count)
    if way == 1:
        return np.full(count, maker.start + stream.integers(maker.count))
    makers = stream.choice(len(nodes), count)
    return np.array([nodes[k].start + stream.integers(nodes[k].count) for k in makers])


def _grow(graph, kind, draw, stream):
    count = draw(st.integers(1, 20))

    def some(n):
        return _some(graph, n, stream)

    if kind == "literal":
        graph.literal(float(stream.normal()))
    elif kind == "gather":
        graph.run(some(count))
    elif kind == "layer":
        inner = draw(st.integers(1, 9))
        matrix = graph.keep(stream.normal(size=(inner, count)) / inner)
        bias = graph.keep(stream.normal(size=count)) if draw(st.booleans()) else -1
        graph.add(kind, count, (graph.block(some(inner)),), (matrix, bias, inner))
    elif kind == "product":
        m, k, n = (draw(st.integers(1, 4)) for _ in range(3))
        runs = graph.block(some(m * k)), graph.block(some(k * n))
        graph.add(kind, m * n, runs, (m, k, n))
    elif kind in ("sum", "largest"):
        length = draw(st.integers(1, 5))
        graph.add(kind, count, (graph.block(some(count * length)),), (length,))
    else:
        arity = {"tanh": 1, "sigmoid": 1, "where": 3}.get(kind, 2)
        graph.add(kind, count, tuple(graph.run(some(count)) for _ in range(arity)))


@settings(max_examples=30, deadline=None)
@given(graphs(), st.sampled_from([1, 15, 16, 17, 33]), st.booleans(), st.sampled_from([4, 8]))
def test_random_graphs_agree_with_the_twin(graph, n, shared, together):
    stream = np.random.default_rng(n)
    theta = stream.normal(size=(1 if shared else n, D))
    inputs = {"theta": theta, "x": stream.normal(size=(n, F))}
    for got, wanted in zip(
        run(graph, inputs, together=together), expected(graph, inputs), strict=True
    ):
        scale = max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-11 * scale)


def test_single_precision_is_single_precision():
    graph = Graph()
    graph.add("theta", D)
    x = graph.add("x", F)
    made = graph.add("exp", F, (Run(x.start, 1),))
    graph.add("result", F, (Run(made.start, 1),), (0,))
    inputs = {"theta": np.zeros((1, D)), "x": np.random.default_rng(0).normal(size=(50, F))}
    (got,), (wanted,) = run(graph, inputs, double=False), expected(graph, inputs)
    assert 1e-9 < np.abs(got / wanted - 1).max() < 1e-6


ELSEWHERE = ["aarch64-unknown-linux-gnu", "arm64-apple-darwin", "x86_64-pc-windows-msvc"]


@pytest.mark.parametrize("double", [True, False], ids=["double", "single"])
@pytest.mark.parametrize("triple", ELSEWHERE)
def test_there_is_code_for_processors_that_cannot_run_here(triple, double):
    """It is made, with nothing but the C library to call; whether it is right is not seen."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    graph = Graph()
    theta = graph.add("theta", D)
    for kind in ONE:
        if kind != "digamma":  # SciPy's
            theta = graph.add(kind, D, (Run(theta.start, 1),))
    layer = graph.add("layer", 4, (Run(theta.start, 1),), (graph.keep(np.ones((D, 4))), -1, D))
    graph.add("result", 4, (Run(layer.start, 1),))
    shape = Shape(double, 32 // (8 if double else 4), 4)  # two registers of sixteen bytes
    module = llvm.parse_assembly(emit(Plan.of(graph), shape, replace(shape, rows=4), "f"))
    machine = llvm.Target.from_triple(triple).create_target_machine()
    module.triple, module.data_layout = triple, str(machine.target_data)
    module.verify()
    code = machine.emit_object(module)
    assert len(code) > 10_000
    called = {f.name for f in module.functions if f.is_declaration and "llvm." not in f.name}
    assert called == {"sin", "cos", "lgamma"}
