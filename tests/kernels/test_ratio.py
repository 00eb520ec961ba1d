"""Compiled kernels against torch in double precision, and what `export` makes of networks.

A kernel is compiled for each activation, once without and once with the steps that few
networks have (normalization, residual blocks). Compiling takes seconds, so those with the
rare steps, which know nothing of the activation, are tested with two of them.
"""

from dataclasses import dataclass
from functools import partial

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pymc_nre.estimators.evaluator import TorchEvaluator
from pymc_nre.kernels import ratio as kernels
from pymc_nre.kernels.evaluator import CompiledEvaluator
from pymc_nre.kernels.export import export
from pymc_nre.kernels.program import ACTIVATIONS, Kind
from pymc_nre.networks import MLP, DeepSet, Dense, ResidualMLP, build
from pymc_nre.networks.base import ResidualBlock, SplitNetwork
from pymc_nre.networks.correction import QuadraticCorrection
from pymc_nre.networks.ensemble import Ensemble
from pymc_nre.networks.layers import BatchNorm, Standardize

# Each of at most 10 layers sums at most 71 products and so rounds by less than 71 eps =
# 1.6e-14 of its largest terms, in torch and in the kernel: at worst 3e-13 in all. The rest is
# for terms that are larger than their sum. Roundings mostly cancel: of 300 random networks
# 95 percent were below 7e-16, and the worst was at 1.5e-14.
TOLERANCE = 1e-12
SINGLE_TOLERANCE = 1e-4

RARE = ("silu", "relu")
KINDS = [(name, False) for name in ACTIVATIONS] + [(name, True) for name in RARE]


@dataclass(frozen=True)
class Case:
    """A network of random weights and moments, in double precision, and data for it."""

    specification: MLP | ResidualMLP
    theta_size: int = 2
    event_shape: tuple[int, ...] = (3,)
    seed: int = 0
    features: bool = False
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

    def data(self, network, n, shared):
        rng = np.random.default_rng((self.seed, n))
        theta = rng.normal(size=(1 if shared else n, self.theta_size))
        x = rng.normal(size=(n, *self.event_shape))
        return tuple(
            values * moments.scale.numpy() + moments.mean.numpy()
            for values, moments in (
                (theta, network.standardize_theta),
                (x, network.standardize_x),
            )
        )


def compiled(exported, network, theta, x, weights=None):
    """Values twice, from both kernels, and gradients."""
    if exported.program.steps[0].kind == Kind.FEATURES:
        x = network.embed(torch.tensor(x)).numpy()
    evaluator = CompiledEvaluator.of(exported)
    if weights is not None:
        evaluator.weights = weights
    return evaluator.value(theta, x), *evaluator.value_and_gradient(theta, x)


def distance(results, expected, exported, slope=1.0):
    """Largest errors relative to the largest number of all rows, gradients in standardized theta.

    Values are compared to one at least, gradients to ``slope``. A value near zero, or a
    gradient where activations are saturated or where layer normalization leaves nothing (it
    makes one number 0, and two numbers -1 and 1), is what remains of terms of order one, or of
    order ``slope``, and has their rounding errors.
    """
    value, same_value, gradient = results
    expected_value, expected_gradient = expected
    size = gradient.shape[1]
    unit = exported.moments[size : 2 * size]
    of_value = max(1, np.abs(expected_value).max())
    of_gradient = max(slope, np.abs(expected_gradient * unit).max())
    return max(
        np.abs(value - expected_value).max() / of_value,
        np.abs(same_value - expected_value).max() / of_value,
        np.abs((gradient - expected_gradient) * unit).max() / of_gradient,
    )


@numba.njit
def block(program, n):
    return kernels.row_blocks(program, n)[0]


def sizes(exported):
    """Numbers of rows on both sides of one block, and of two."""
    edge = block(exported.program.instructions, 10**6)
    return [1, 2, edge - 1, edge, edge + 1, 2 * edge, 2 * edge + 1]


WIDTHS = st.integers(1, 70)


@st.composite
def cases(draw, activation, rare, most_layers=4):
    norm = draw(st.sampled_from([None, "batch", "layer"])) if rare else None
    depth = draw(st.integers(1, most_layers))
    if rare and (norm is None or draw(st.booleans())):
        specification = ResidualMLP(draw(WIDTHS), depth, activation, norm)
    else:
        hidden = draw(st.lists(WIDTHS, min_size=depth, max_size=depth))
        specification = MLP(tuple(hidden), activation, norm)
    return Case(
        specification,
        theta_size=draw(st.integers(1, 12)),
        event_shape=draw(st.sampled_from([(), (3,), (2, 5)])),
        seed=draw(st.integers(0, 2**31 - 1)),
        features=draw(st.booleans()),
        far=draw(st.booleans()),
    )


@pytest.mark.parametrize(("activation", "rare"), KINDS)
@settings(max_examples=15)
@given(st.data())
def test_kernels_agree_with_torch(activation, rare, data):
    case = data.draw(cases(activation, rare))
    network = case.network()
    exported = export(network, features=case.features)
    n, shared = data.draw(st.sampled_from(sizes(exported))), data.draw(st.booleans())
    theta, x = case.data(network, n, shared)
    expected = TorchEvaluator(network).value_and_gradient(theta, x)
    results = compiled(exported, network, theta, x)
    assert [part.shape for part in results] == [(n,), (n,), (n, case.theta_size)]
    assert distance(results, expected, exported) < TOLERANCE


@pytest.mark.parametrize(("activation", "rare"), KINDS)
@settings(max_examples=8)
@given(st.data())
def test_huge_logits_and_saturated_activations(activation, rare, data):
    # With weights of 100 a rounding error grows from layer to layer. A kernel is right if its
    # result is torch's for weights that differ by the roundings of a sum of 71 products; three
    # draws of such weights tell how far that may be. What is left of a slope of tanh that is
    # nearly 0 has the rounding errors of 1, which every layer takes 100 times.
    case = data.draw(cases(activation, rare, most_layers=2))
    network = case.network(scale=100)
    exported = export(network, features=case.features)
    theta, x = case.data(network, 40, shared=data.draw(st.booleans()))
    expected = TorchEvaluator(network).value_and_gradient(theta, x)
    compare = partial(distance, expected=expected, exported=exported, slope=_steepest(exported))
    spread = max(compare(_nearby(case, seed, theta, x)) for seed in range(3))
    results = compiled(exported, network, theta, x)
    assert np.isfinite(results[0]).all()
    assert np.isfinite(results[2]).all()
    assert compare(results) < TOLERANCE + 10 * spread


def _steepest(exported):
    layers = 1 + sum(step.kind == Kind.LINEAR for step in exported.program.steps)
    return 100.0**layers


def _nearby(case, seed, theta, x):
    network = case.network(scale=100)
    generator = torch.Generator().manual_seed(seed)
    units = 71 * np.finfo(float).eps
    for parameter in network.parameters():
        noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter *= 1 + units * (2 * noise - 1)
    value, gradient = TorchEvaluator(network).value_and_gradient(theta, x)
    return value, value, gradient


# Blocks of the most rows, of the fewest, and in between.
SPECIFICATIONS = [MLP((5,)), MLP((201, 301)), ResidualMLP(63, 2, norm="batch")]


@pytest.mark.parametrize("specification", SPECIFICATIONS, ids=repr)
@pytest.mark.parametrize("shared", [False, True])
def test_no_row_is_lost_at_the_edges_of_blocks(specification, shared):
    case = Case(specification, event_shape=(2, 2))
    network = case.network()
    exported = export(network, features=False)
    for n in [*sizes(exported), 1_000]:
        theta, x = case.data(network, n, shared)
        expected = TorchEvaluator(network).value_and_gradient(theta, x)
        assert distance(compiled(exported, network, theta, x), expected, exported) < TOLERANCE


def test_blocks_of_these_networks_differ():
    edges = [
        block(export(Case(s).network(), features=False).program.instructions, 10**6)
        for s in SPECIFICATIONS
    ]
    assert edges[0] > edges[2] > edges[1] > 1


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_have_no_values(features, rows):
    exported = export(Case(MLP((5, 3))).network(), features=features)
    theta, x = np.zeros((rows, 2)), np.zeros((0, 5 if features else 3))
    evaluator = CompiledEvaluator.of(exported)
    assert evaluator.value(theta, x).shape == (0,)
    value, gradient = evaluator.value_and_gradient(theta, x)
    assert value.shape == (0,)
    assert gradient.shape == (0, 2)


@pytest.mark.parametrize(("activation", "rare"), KINDS)
def test_nan_stays_in_its_row(activation, rare):
    case = Case(MLP((9, 5), activation, "layer" if rare else None))
    network = case.network()
    exported = export(network, features=False)
    theta, x = case.data(network, 150, shared=False)
    theta[[0, 70, 149], 1] = np.nan
    value, same_value, _ = compiled(exported, network, theta, x)
    for found in (value, same_value):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(found)), [0, 70, 149])
    value, same_value, _ = compiled(exported, network, theta[:1], x)
    assert np.isnan(value).all()
    assert np.isnan(same_value).all()


@pytest.mark.parametrize("specification", [MLP((64, 64)), ResidualMLP(31, 3, norm="layer")])
@pytest.mark.parametrize("far", [False, True])
def test_single_precision_is_near_and_its_results_are_double(specification, far):
    # A layer rounds by some eps = 1.2e-7. Standardizing is done in double precision before,
    # or nothing would be left of data that are far from zero.
    case = Case(specification, far=far)
    network = case.network()
    exported = export(network, features=False)
    theta, x = case.data(network, 300, shared=False)
    expected = TorchEvaluator(network).value_and_gradient(theta, x)
    single = compiled(exported, network, theta, x, exported.weights.astype(np.float32))
    assert [part.dtype for part in single] == [np.float64] * 3
    # It is single precision that was used.
    assert TOLERANCE < distance(single, expected, exported) < SINGLE_TOLERANCE


TWINS = [MLP((8, 5), "tanh"), ResidualMLP(6, 2, "silu", "batch"), MLP((5, 4), "silu", "layer")]


@pytest.mark.parametrize("specification", TWINS, ids=repr)
def test_the_comparison_notices_a_change_of_any_weight_by_a_millionth(specification):
    case = Case(specification)
    network = case.network()
    exported = export(network, features=False)
    theta, x = case.data(network, 40, shared=False)
    expected = TorchEvaluator(network).value_and_gradient(theta, x)
    assert distance(compiled(exported, network, theta, x), expected, exported) < TOLERANCE
    for place in _matters(exported):
        weights = exported.weights.copy()
        weights[place] *= 1 + 1e-6
        results = compiled(exported, network, theta, x, weights)
        assert distance(results, expected, exported) > TOLERANCE


def _matters(exported):
    """Places of all weights but those of the epsilon of layer normalization, itself tiny."""
    steps = [step for step in exported.program.steps if step.kind == Kind.LAYER_NORM]
    epsilons = {step.start + 2 * step.before for step in steps}
    return [place for place in range(len(exported.weights)) if place not in epsilons]


class Own(nn.Module):
    """A user's network."""

    def __init__(self, theta_size, event_shape):
        super().__init__()
        self.layer = nn.Linear(theta_size + int(np.prod(event_shape)), 1)

    def forward(self, theta, x):
        return self.layer(torch.cat([theta, x.flatten(1)], -1))


@pytest.mark.parametrize("features", [False, True])
def test_a_users_network_is_left_to_torch(features):
    assert export(build(Own, 2, (3,)).eval(), features=features) is None


@pytest.mark.parametrize("features", [False, True])
def test_a_layer_that_is_not_known_is_left_to_torch(features):
    network = build(MLP((4,)), 2, (3,)).eval()
    assert export(network, features=features) is not None
    network.body.append(nn.Hardtanh())
    assert export(network, features=features) is None


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
    network = build(ResidualMLP(4, 1), 2, (3,)).eval()
    assert export(network, features=False) is not None
    if part == "head":
        network.__class__ = OwnHead
    elif part == "body":
        network.body.__class__ = OwnBody
    elif part == "block":
        network.body[0].__class__ = OwnBlock
    elif part == "activations":
        network.body[1] = nn.Tanh()
    else:
        network.standardize_theta.__class__ = OwnScale
    return network


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("part", ["head", "body", "block", "activations", "scale"])
def test_what_computes_something_else_is_left_to_torch(part, features):
    network = with_own(part)
    assert export(network, features=features) is None
    assert export(Ensemble([network, network], "ratios"), features=features) is None
    assert export(QuadraticCorrection(network, 2), features=features) is None


@pytest.mark.parametrize("features", [False, True])
def test_ensembles_of_more_than_plain_networks_are_left_to_torch(features):
    members = [Case(MLP((5, 3)), seed=seed).network() for seed in range(2)]
    pair = Ensemble(members, "ratios")
    assert export(QuadraticCorrection(pair, 2), features=features) is not None
    assert export(Ensemble([pair, pair], "ratios"), features=features) is None
    corrected = [QuadraticCorrection(member, 2) for member in members]
    assert export(Ensemble(corrected, "ratios"), features=features) is None


class OwnEmbedding(nn.Module):
    """A user's embedding: two numbers of any observation."""

    def __init__(self, event_shape):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(event_shape)), 2)

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.mark.parametrize("embedding", [Dense((4, 3)), DeepSet((4, 3)), OwnEmbedding])
def test_an_embedding_stays_in_torch_and_its_features_are_taken(embedding):
    case = Case(MLP((9, 5), embedding=embedding), event_shape=(6,))
    network = case.network()
    assert export(network, features=False) is None
    theta, x = case.data(network, 70, shared=True)
    expected = TorchEvaluator(network).value_and_gradient(theta, x)
    exported = export(network, features=True)
    assert distance(compiled(exported, network, theta, x), expected, exported) < TOLERANCE


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("specification", [MLP((7, 5)), ResidualMLP(7, 2, norm="layer")])
def test_networks_of_one_architecture_have_one_program(specification, features):
    make = partial(Case, specification, features=features)
    first, second = (export(make(seed=s).network(), features=features) for s in (1, 2))
    assert first.program == second.program
    assert hash(first.program) == hash(second.program)
    assert not np.array_equal(first.weights, second.weights)
    other = export(Case(MLP((7, 6))).network(), features=features)
    assert first.program != other.program


def test_what_must_be_compiled_is_the_activation_and_whether_there_are_rare_steps():
    def compiled_for(specification):
        exported = export(Case(specification).network(), features=False)
        return numba.typeof(exported.program.instructions)

    assert len({compiled_for(MLP((4,), name)) for name in ACTIVATIONS}) == len(ACTIVATIONS)
    assert compiled_for(MLP((4,))) == compiled_for(MLP((9, 8, 7)))
    assert compiled_for(MLP((4,))) != compiled_for(ResidualMLP(4))
    assert compiled_for(ResidualMLP(4)) == compiled_for(MLP((4,), norm="batch"))
    assert compiled_for(ResidualMLP(4)) == compiled_for(ResidualMLP(8, 3, norm="layer"))


def test_another_network_compiles_nothing_anew():
    def evaluate(specification, n=10, shared=True, **options):
        case = Case(specification, **options)
        network = case.network()
        theta, x = case.data(network, n, shared)
        compiled(export(network, features=case.features), network, theta, x)
        return len(kernels.value.signatures), len(kernels.value_and_gradient.signatures)

    known = evaluate(MLP((4,)))
    assert min(known) > 0
    assert evaluate(MLP((4,)), seed=1) == known
    assert evaluate(MLP((30, 20, 10))) == known
    assert evaluate(MLP((4,)), n=1_000) == known
    assert evaluate(MLP((4,)), n=1, shared=False) == known
    assert evaluate(MLP((4,)), shared=False) == known
    assert evaluate(MLP((4,)), theta_size=5, event_shape=()) == known
    assert evaluate(MLP((4,)), features=True) == known
    known = evaluate(ResidualMLP(4))
    assert evaluate(ResidualMLP(9, 3, norm="layer")) == known
    assert evaluate(MLP((9, 8), norm="batch")) == known
