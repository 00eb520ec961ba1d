"""The networks of this library as machine code, against torch in double precision."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from traced import evaluator_of, everything, rows_of, traced

from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.networks import MLP, DeepSet, Dense, ResidualMLP, build
from pymc_nre.networks.base import ResidualBlock, SplitNetwork
from pymc_nre.networks.composed.correction import QuadraticCorrection
from pymc_nre.networks.composed.ensemble import Ensemble
from pymc_nre.networks.layers import ACTIVATIONS, BatchNorm, Standardize

# Each of at most 10 layers sums at most 71 products and so rounds by less than 71 eps =
# 1.6e-14 of its largest terms, in torch and in the code: at worst 3e-13 in all. The rest is
# for terms that are larger than their sum.
TOLERANCE = 1e-12
SINGLE_TOLERANCE = 1e-4
EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65]  # of blocks, on any processor


@dataclass(frozen=True)
class Case:
    """A network of random weights and moments, in double precision, and data for it."""

    specification: MLP | ResidualMLP
    theta_size: int = 2
    event_shape: tuple[int, ...] = (3,)
    seed: int = 0
    embedded: bool = False
    far: bool = False  # moments with means that are a billion scales

    def network(self, scale=1.0):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.seed)
            network = build(self.specification, self.theta_size, self.event_shape).double()
            for part in (network.standardize_theta, network.standardize_x):
                part.mean.normal_(1e6 if self.far else 0.5)
                part.scale.uniform_(0.5e-3, 2e-3) if self.far else part.scale.uniform_(0.3, 3)
            for module in network.modules():
                if isinstance(module, BatchNorm):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.3, 3)
                if isinstance(module, BatchNorm | nn.LayerNorm):
                    module.weight.normal_()
                    module.bias.normal_()
            for parameter in network.parameters():
                parameter *= scale
        return network.eval().requires_grad_(False)

    def traced(self, network):
        return traced(network, self.theta_size, self.event_shape, embedded=self.embedded)

    def data(self, network, n, shared):
        rng = np.random.default_rng((self.seed, n))
        theta = rng.normal(size=(1 if shared else n, self.theta_size))
        x = rng.normal(size=(n, *self.event_shape))
        theta, x = (
            values * moments.scale.numpy() + moments.mean.numpy()
            for values, moments in (
                (theta, network.standardize_theta),
                (x, network.standardize_x),
            )
        )
        v = rng.normal(size=(n, self.theta_size)) * network.standardize_theta.scale.numpy()
        return theta, x, v


def compiled(found, network, theta, x, v, precision=np.float64):
    evaluator = evaluator_of(found, precision)
    return everything(evaluator, theta, rows_of(found, network, x), v)


def by_torch(network, theta, x, v):
    return everything(TorchEvaluator(network), theta, x, v)


def distance(results, expected, unit, slope=1.0):
    """Largest errors relative to the largest number of all rows, in standardized theta.

    Values are compared to one at least, derivatives to ``slope``. A value near zero, or a
    gradient where activations are saturated or where layer normalization leaves nothing (it
    makes one number 0, and two numbers -1 and 1), is what remains of terms of order one, or of
    order ``slope``, and has their rounding errors.
    """
    worst = 0.0
    for got, wanted in zip(results, expected, strict=True):
        assert got.shape == wanted.shape
        least, scale = (1, 1) if got.ndim == 1 else (slope, unit)
        largest = max(least, np.abs(wanted * scale).max(initial=0))
        worst = max(worst, np.abs((got - wanted) * scale).max(initial=0) / largest)
    return worst


def error(case, network, n, shared, found=None, precision=np.float64):
    data = case.data(network, n, shared)
    results = compiled(found or case.traced(network), network, *data, precision)
    unit = network.standardize_theta.scale.numpy()
    return distance(results, by_torch(network, *data), unit)


WIDTHS = st.integers(1, 70)


@st.composite
def cases(draw, activation, rare, most_layers=4):
    norm = draw(st.sampled_from([None, "batch", "layer"])) if rare else None
    depth = draw(st.integers(1, most_layers))
    if rare and (norm is None or draw(st.booleans())):
        specification = ResidualMLP(draw(WIDTHS), min(depth, 2), activation, norm)
    else:
        hidden = draw(st.lists(WIDTHS, min_size=depth, max_size=depth))
        specification = MLP(tuple(hidden), activation, norm)
    return Case(
        specification,
        theta_size=draw(st.integers(1, 12)),
        event_shape=draw(st.sampled_from([(), (3,), (2, 5)])),
        seed=draw(st.integers(0, 2**31 - 1)),
        embedded=draw(st.booleans()),
        far=draw(st.booleans()),
    )


# The rare ones hold all that the others do.
ONE_PYTHON = {False: [pytest.mark.one_python], True: []}
KINDS = [
    pytest.param(name, rare, marks=ONE_PYTHON[rare])
    for name in ACTIVATIONS
    for rare in (False, True)
]


@pytest.mark.parametrize(("activation", "rare"), KINDS)
@settings(max_examples=4)
@given(st.data())
def test_machine_code_agrees_with_torch(activation, rare, data):
    case = data.draw(cases(activation, rare))
    network = case.network()
    n, shared = data.draw(st.sampled_from(EDGES)), data.draw(st.booleans())
    assert error(case, network, n, shared) < TOLERANCE


@pytest.mark.one_python
@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=3)
@given(st.data())
def test_huge_logits_and_saturated_activations(activation, data):
    # With weights of 100 a rounding error grows from layer to layer. The code is right if its
    # result is torch's for weights that differ by the roundings of a sum of 71 products; three
    # draws of such weights tell how far that may be. What is left of a slope of tanh that is
    # nearly 0 has the rounding errors of 1, which every layer takes 100 times.
    case = data.draw(cases(activation, False, most_layers=2))
    network = case.network(scale=100)
    given = case.data(network, 40, data.draw(st.booleans()))
    expected = by_torch(network, *given)[:3]
    unit = network.standardize_theta.scale.numpy()
    steepest = 100.0 ** (2 + len(case.specification.hidden))
    compare = partial(distance, expected=expected, unit=unit, slope=steepest)
    spread = max(compare(_nearby(case, seed, given)) for seed in range(3))
    results = compiled(case.traced(network), network, *given)[:3]
    assert all(np.isfinite(part).all() for part in results)
    assert compare(results) < TOLERANCE + 10 * spread


def _nearby(case, seed, given):
    network = case.network(scale=100)
    generator = torch.Generator().manual_seed(seed)
    units = 71 * np.finfo(float).eps
    for parameter in network.parameters():
        noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter *= 1 + units * (2 * noise - 1)
    return by_torch(network, *given)[:3]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("embedded", [False, True])
def test_no_row_is_lost_at_the_edges_of_blocks(shared, embedded):
    case = Case(ResidualMLP(13, 2, norm="batch"), event_shape=(2, 2), embedded=embedded)
    network = case.network()
    found = case.traced(network)
    for n in [*EDGES, 1_000]:
        assert error(case, network, n, shared, found) < TOLERANCE


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_have_no_values(embedded, rows):
    case = Case(MLP((5, 3)), embedded=embedded)
    evaluator = evaluator_of(case.traced(case.network()))
    theta, x = np.zeros((rows, 2)), np.zeros((0, 5 if embedded else 3))
    shapes = [part.shape for part in everything(evaluator, theta, x, np.zeros((0, 2)))]
    assert shapes == [(0,), (0,), (0, 2), (0, 2)]


@pytest.mark.one_python
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays_in_its_row(activation, norm):
    case = Case(MLP((9, 5), activation, norm))
    network = case.network()
    found = case.traced(network)
    theta, x, v = case.data(network, 150, shared=False)
    theta[[0, 70, 149], 1] = np.nan
    for part in compiled(found, network, theta, x, v)[:2]:
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(part)), [0, 70, 149])
    for part in compiled(found, network, theta[:1], x, v)[:2]:
        assert np.isnan(part).all()


@pytest.mark.one_python
@pytest.mark.parametrize("specification", [MLP((64, 64)), ResidualMLP(31, 3, norm="layer")])
@pytest.mark.parametrize("far", [False, True])
def test_single_precision_is_near_and_its_results_are_double(specification, far):
    # A layer rounds by some eps = 1.2e-7. What is taken off is taken off in double precision
    # before, or nothing would be left of data that are far from zero.
    # What is embedded is taken off by torch, so that it matters with either: each pair of the
    # three is there.
    case = Case(specification, far=far, embedded=far ^ isinstance(specification, MLP))
    network = case.network()
    found, given = case.traced(network), case.data(network, 300, shared=False)
    single = compiled(found, network, *given, np.float32)
    assert {part.dtype for part in single} == {np.dtype(np.float64)}
    unit = network.standardize_theta.scale.numpy()
    expected = by_torch(network, *given)
    # It is single precision that was used.
    assert TOLERANCE < distance(single[:3], expected[:3], unit) < SINGLE_TOLERANCE
    assert TOLERANCE < distance(single[3:], expected[3:], unit) < 1e-3


def test_moments_are_what_is_taken_off():
    """And nothing else, so that they alone must be double."""
    case = Case(MLP((5, 3)))
    network = case.network()
    found = case.traced(network)
    taken = torch.cat([network.standardize_x.mean, network.standardize_theta.mean])
    np.testing.assert_array_equal(found.moments, taken)
    embedded = traced(network, 2, (3,), embedded=True)
    np.testing.assert_array_equal(embedded.moments, network.standardize_theta.mean)


TWINS = [MLP((8, 5), "tanh"), ResidualMLP(6, 2, "silu", "batch"), MLP((5, 4), "silu", "layer")]


@pytest.mark.parametrize("specification", TWINS, ids=repr)
def test_the_comparison_notices_a_change_of_any_weight_by_a_thousandth(specification):
    case = Case(specification)
    network = case.network()
    found, given = case.traced(network), case.data(network, 40, shared=False)
    expected, unit = by_torch(network, *given), network.standardize_theta.scale.numpy()
    evaluator, (theta, x, v) = evaluator_of(found), given
    places = range(len(found.moments)), _used(found.program)
    for vector, them in zip((evaluator.moments, evaluator.weights), places, strict=True):
        for place in them:
            before = vector[place]
            vector[place] = before * (1 + 1e-3) + (before == 0) * 1e-3
            results = everything(evaluator, theta, x, v)
            vector[place] = before
            assert distance(results, expected, unit) > TOLERANCE
    assert distance(everything(evaluator, theta, x, v), expected, unit) < TOLERANCE


def _used(program):
    """Places of weights that the code reads."""
    used = set()
    for node in (*program.value, *program.value_and_gradient, *program.hessian_product):
        if node.kind == "weight":
            used.update(range(node.options[0], node.options[0] + node.count))
        elif node.kind == "layer":
            matrix, bias, inner = node.options
            used.update(range(matrix, matrix + inner * node.count))
            used.update(range(bias, bias + node.count) if bias >= 0 else ())
    return used


class OwnHead(SplitNetwork):
    """What a user or a new specification may make of a network of the family."""

    def head(self, theta, features):
        return super().head(theta, features) ** 2


class OwnBody(nn.Sequential):
    def forward(self, h):
        return super().forward(h) ** 2


class OwnBlock(ResidualBlock):
    def forward(self, h):
        return self.inner(h)


class OwnScale(Standardize):
    def forward(self, values):
        return super().forward(values) ** 3


def with_own(part):
    network = build(ResidualMLP(4, 1), 2, (3,)).double().eval().requires_grad_(False)
    if part == "head":
        network.__class__ = OwnHead
    elif part == "body":
        network.body.__class__ = OwnBody
    elif part == "block":
        network.body[0].__class__ = OwnBlock
    elif part == "activations":
        network.body[1] = nn.Tanh()
    elif part == "a layer more":
        network.body.append(nn.Hardtanh())
    else:
        network.standardize_theta.__class__ = OwnScale
    return network


@pytest.mark.one_python
@pytest.mark.parametrize("part", ["head", "body", "block", "activations", "a layer more", "scale"])
def test_what_computes_something_else_is_compiled_as_what_it_is(part):
    case, plain = Case(ResidualMLP(4, 1)), build(ResidualMLP(4, 1), 2, (3,)).eval()
    for network in (with_own(part), Ensemble([with_own(part), with_own(part)], "ratios")):
        found = case.traced(network)
        assert found.program != case.traced(plain.double()).program
        theta, x, v = np.random.default_rng(1).normal(size=(3, 40, 3))
        given = theta[:, :2], x, v[:, :2]
        results = compiled(found, network, *given)
        assert distance(results, by_torch(network, *given), 1.0) < TOLERANCE


@pytest.mark.one_python
@pytest.mark.parametrize("embedded", [False, True])
def test_ensembles_of_more_than_plain_networks(embedded):
    case = Case(MLP((5, 3)), embedded=embedded)
    members = [Case(MLP((5, 3)), seed=seed).network() for seed in range(2)]
    given = case.data(members[0], 40, True)
    pair = Ensemble(members, "ratios")
    corrected = [QuadraticCorrection(member, 2).double() for member in members]
    for correction in corrected:
        correction.quadratic.copy_(torch.tensor([[1.0, 0.2], [0.2, 0.3]]))
    for network in (Ensemble([pair, pair], "ratios"), Ensemble(corrected, "logits")):
        results = compiled(case.traced(network), network, *given)
        assert distance(results, by_torch(network, *given), 1.0) < TOLERANCE


class OwnEmbedding(nn.Module):
    """A user's embedding: two numbers of any observation."""

    def __init__(self, event_shape):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(event_shape)), 2)

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("embedding", [Dense((4, 3)), DeepSet((4, 3)), OwnEmbedding])
def test_an_embedding_stays_in_torch_and_its_features_are_taken(embedding):
    specification = MLP((9, 5), embedding=embedding)
    case = Case(specification, event_shape=(6,), embedded=True)
    assert error(case, case.network(), 70, True) < TOLERANCE


@pytest.mark.one_python
@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("specification", [MLP((7, 5)), ResidualMLP(7, 2, norm="layer")])
def test_networks_of_one_architecture_have_one_program(specification, embedded):
    make = partial(Case, specification, embedded=embedded)
    first, second = (make(seed=s).traced(make(seed=s).network()) for s in (1, 2))
    assert first.program == second.program
    assert hash(first.program) == hash(second.program)
    assert not np.array_equal(first.weights, second.weights)
    other = make(seed=1).traced(Case(MLP((7, 6))).network())
    assert first.program != other.program
