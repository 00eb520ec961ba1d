"""Embeddings: shapes, standardization, invariances, files. Their accuracy has its own module."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import pymc_nre as nre
from pymc_nre.estimators.domain import Domain
from pymc_nre.losses import CARL, NREA, NREB, NREC, Balanced
from pymc_nre.networks import (
    MLP,
    Convolutional,
    DeepSet,
    Dense,
    ResidualMLP,
    ResNet,
    build,
    masked_set,
    specification_from_dict,
)
from pymc_nre.networks.embeddings import build_embedding
from pymc_nre.networks.specifications import specification_to_dict


class Own(nn.Module):
    """A user's embedding: two numbers of any observation."""

    def __init__(self, event_shape):
        super().__init__()
        self.layer = nn.Linear(int(np.prod(event_shape)), 2)

    def forward(self, x):
        return torch.tanh(self.layer(x.flatten(1)))


# name: (embedding, event shape, number of features)
KINDS = {
    "none, scalar": (None, (), 1),
    "none, matrix": (None, (2, 3), 6),
    "Dense": (Dense((8, 5)), (2, 3), 5),
    "Dense, scalar": (Dense((8, 5)), (), 5),
    "Dense, batch": (Dense((8, 5), "tanh", norm="batch"), (6,), 5),
    "Dense, layer": (Dense((8, 5), "gelu", norm="layer"), (6,), 5),
    "DeepSet of numbers": (DeepSet((8, 5)), (4,), 5),
    "DeepSet of vectors": (DeepSet((8, 5)), (4, 3), 5),
    "DeepSet, batch": (DeepSet((8, 5), norm="batch"), (4, 3), 5),
    "DeepSet, layer": (DeepSet((8, 5), norm="layer"), (4,), 5),
    "DeepSet, masked": (DeepSet((8, 5), masked=True), (4, 3), 11),
    "DeepSet, masked, layer": (DeepSet((8, 5), masked=True, norm="layer"), (4, 2), 11),
    "Convolutional 1-D": (Convolutional((3, 4), 5), (9,), 5),
    "Convolutional 1-D, channels": (Convolutional((3,), 5, kernel=3), (2, 8), 5),
    "Convolutional 2-D": (Convolutional((3, 4), 5, dimensions=2), (7, 10), 5),
    "Convolutional 2-D, channels": (Convolutional((3,), 5, 2, norm="batch"), (3, 6, 5), 5),
    "Convolutional, layer": (Convolutional((3, 4), 5, norm="layer"), (9,), 5),
    "ResNet 1-D": (ResNet(10, width=3), (20,), 24),
    "ResNet 1-D, channels, batch": (ResNet(10, width=3, norm="batch"), (2, 20), 24),
    "ResNet 2-D, layer": (ResNet(10, dimensions=2, width=2, norm="layer"), (9, 12), 16),
    "ResNet 2-D, channels": (ResNet(10, dimensions=2, width=2), (3, 9, 12), 16),
    "ResNet with bottlenecks": (ResNet(50, width=2), (20,), 64),
    "a user's own": (Own, (2, 3), 2),
}


def observations(event_shape, n=30, masked=False, seed=1):
    x = torch.randn(n, *event_shape, generator=torch.Generator().manual_seed(seed)) * 3 - 2
    if masked:
        members = torch.arange(n) % event_shape[0] + 1
        x[..., -1] = (torch.arange(event_shape[0]) < members[:, None]).float()
    return x.double()


def make(kind, network=None):
    """A network with that embedding, as after training: moments fitted, in evaluation mode."""
    embedding, event_shape, _ = KINDS[kind]
    torch.manual_seed(1)
    net = build(network or MLP((6,), embedding=embedding), 2, event_shape).double()
    x = observations(event_shape, masked="masked" in kind)
    net.fit_standardization(torch.randn(30, 2), x)
    with torch.no_grad():
        net.train()(torch.randn(30, 2).double(), x)  # running moments, where there are any
    return net.eval(), x


@pytest.mark.parametrize("kind", KINDS)
def test_features_have_their_length(kind):
    embedding, event_shape, features = KINDS[kind]
    built = build_embedding(embedding, event_shape)
    assert built.features == features
    x = observations(event_shape, masked="masked" in kind).float()
    built.standardize.fit(x)
    standardized = built.standardize(x)
    assert standardized.shape == x.shape
    assert built.body(standardized).shape == (30, features)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_deterministic_and_row_by_row(kind):
    net, x = make(kind)
    theta = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(30, 2)
    logits = net(theta, x)
    assert logits.std() > 0
    torch.testing.assert_close(net(theta, x), logits, rtol=0, atol=0)
    alone = torch.cat([net(theta[i : i + 1], x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, logits[:5], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["Dense, batch", "DeepSet, batch", "ResNet 1-D, channels, batch"])
def test_twin_in_training_rows_see_each_other(kind):
    net, x = make(kind)
    net.train()
    with torch.no_grad():
        assert not torch.allclose(net.embed(x)[:5], net.embed(x[:5]), rtol=1e-3)


@pytest.mark.parametrize("network", [MLP((6, 5), norm="batch"), ResidualMLP(6, 2, norm="batch")])
def test_batch_normalization_of_heads_takes_candidates_together(network):
    net = build(network, 2, (3,)).double().train()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms
    theta = torch.randn(30, 4, 2).double()
    with torch.no_grad():
        assert net.head(theta, net.embed(observations((3,)))[:, None]).shape == (30, 4)
    assert all(norm.num_batches_tracked == 1 for norm in norms)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("kind", [MLP, ResidualMLP])
def test_norms_of_networks(kind, norm):
    net = build(kind(norm=norm), 2, (3,)).double()
    x, theta = observations((3,)), torch.randn(30, 2).double()
    net.train()
    before = copy.deepcopy(net.state_dict())
    net(theta, x)
    running = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    assert bool(running) == (norm == "batch")
    assert all("running" in name or "tracked" in name for name in running)
    net.eval()
    together = net(theta, x)
    torch.testing.assert_close(net(theta[:1], x[:1]), together[:1], rtol=1e-10, atol=1e-12)


# --- standardization -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "axes"),
    [
        ("DeepSet of numbers", (0, 1)),
        ("DeepSet of vectors", (0, 1)),
        ("Convolutional 1-D", (0, 1)),
        ("Convolutional 1-D, channels", (0, 2)),
        ("Convolutional 2-D", (0, 1, 2)),
        ("Convolutional 2-D, channels", (0, 2, 3)),
        ("ResNet 2-D, channels", (0, 2, 3)),
        ("Dense", (0,)),
        ("a user's own", (0,)),
    ],
)
def test_members_and_pixels_share_their_moments(kind, axes):
    embedding, event_shape, _ = KINDS[kind]
    x = observations(event_shape)
    x *= torch.arange(1.0, x[0].numel() + 1).reshape(event_shape)
    standardize = build_embedding(embedding, event_shape).standardize.double()
    standardize.fit(x)
    expected = (x - x.mean(axes, keepdim=True)) / x.std(axes, correction=0, keepdim=True)
    torch.testing.assert_close(standardize(x), expected)


def test_padding_is_not_standardized_and_does_not_count():
    x = observations((4, 3), masked=True)
    standardize = build_embedding(DeepSet(masked=True), (4, 3)).standardize.double()
    standardize.fit(x)
    there = x[..., -1] == 1
    members = x[..., :-1][there]
    z = standardize(x)
    expected = (members - members.mean(0)) / members.std(0, correction=0)
    torch.testing.assert_close(z[..., :-1][there], expected)
    torch.testing.assert_close(z[..., -1], x[..., -1], rtol=0, atol=0)
    # The twin: moments that count padding are others.
    padded = x[..., :-1].reshape(-1, 2)
    assert not torch.allclose(padded.mean(0), members.mean(0), rtol=1e-2)


# --- sets ------------------------------------------------------------------------------------


SETS = [kind for kind in KINDS if kind.startswith("DeepSet")]


@pytest.mark.parametrize("kind", SETS)
def test_the_order_of_members_does_not_matter(kind):
    net, x = make(kind)
    features = net.embed(x)
    for seed in range(3):
        order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(net.embed(x[:, order]), features, rtol=1e-12, atol=1e-12)
    other = x.clone()  # the twin: another member
    other[:, 0, ...] += 1.0 if x.ndim == 2 else torch.tensor([1.0] + [0.0] * (x.shape[-1] - 1))
    assert not torch.allclose(net.embed(other), features)


def test_the_twin_dense_layers_see_the_order():
    net, x = make("Dense, layer")
    assert not torch.allclose(net.embed(x.flip(1)), net.embed(x))


@pytest.mark.parametrize("padding", [0.0, 7.0, -1e30, 1e300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_in_the_padding_does_not_matter(padding, dtype):
    net, x = make("DeepSet, masked")
    there = x[..., -1:] == 1
    filled = torch.cat([torch.where(there, x[..., :-1], padding), x[..., -1:]], -1)
    net, x, filled = net.to(dtype), x.to(dtype), filled.to(dtype)  # 1e300 overflows in float32
    torch.testing.assert_close(net.embed(filled), net.embed(x), rtol=0, atol=0)


def test_the_maximum_size_counts_members_that_are_not_there():
    """Sets of the same members differ by their number: two equal halves know more than one."""
    embedding = build_embedding(DeepSet((8, 5), masked=True), (4, 2))
    once, twice = (torch.tensor(masked_set(v, 4)).float()[None] for v in ([1, 2], [1, 2, 1, 2]))
    f1, f2 = embedding.body(once)[0], embedding.body(twice)[0]
    torch.testing.assert_close(f1[:5], f2[:5])  # the mean is the same ...
    torch.testing.assert_close(f1[5:10], f1[:5] / 2)  # ... what it is worth is not
    torch.testing.assert_close(f2[5:10], f2[:5])
    torch.testing.assert_close(torch.stack([f1[10], f2[10]]), torch.tensor([3.0, 5.0]).log())
    without = build_embedding(DeepSet((8, 5)), (2,)).body  # the twin: no mask, no number
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0, 1.0, 2.0]])
    torch.testing.assert_close(without(one), without(two))


def test_an_empty_set_has_finite_features():
    net, _ = make("DeepSet, masked")
    empty = torch.tensor(masked_set(np.zeros((0, 2)), 4))[None]
    assert torch.isfinite(net.embed(empty)).all()
    torch.testing.assert_close(net.embedding(net.standardize_x(empty)), torch.zeros(1, 11).double())


def test_masked_set():
    np.testing.assert_array_equal(masked_set([5.0], 2), [[5, 1], [0, 0]])
    np.testing.assert_array_equal(
        masked_set([[1, 2], [3, 4]], 3), [[1, 2, 1], [3, 4, 1], [0, 0, 0]]
    )
    np.testing.assert_array_equal(masked_set(np.zeros((0, 2)), 1), [[0, 0, 0]])
    assert masked_set([1, 2], 2).dtype == float


@pytest.mark.parametrize(
    ("values", "got"),
    [(np.zeros(4), r"\(4, 1\)"), (np.zeros((2, 2, 2)), r"\(2, 2, 2\)"), (1.0, r"\(\)")],
)
def test_sets_that_do_not_fit(values, got):
    wanted = r"at most 3 members, shape \(m,\) or \(m, d\)"
    message = rf"^masked_set: values: expected {wanted}, got {got}\. Raise members"
    with pytest.raises(ValueError, match=message):
        masked_set(values, 3)


MASK = r"^The last column of a masked set must be 1 .* got 0\.5\. Make sets by masked_set\.$"


def test_a_mask_holds_zeros_and_ones_in_training_and_after():
    net, x = make("DeepSet, masked")
    x[3, 1, -1] = 0.5
    with pytest.raises(ValueError, match=MASK):
        net.fit_standardization(torch.randn(30, 2), x)
    with pytest.raises(ValueError, match=MASK):
        net.embed(x)


def test_a_bad_mask_is_refused_by_train():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 4, 2))
    with pytest.raises(ValueError, match="must be 1 for members and 0 for padding, got"):
        nre.train(
            nre.Simulations({"mu": rng.normal(size=200)}, x),
            network=MLP(embedding=DeepSet(masked=True)),
            progressbar=False,
        )


def test_only_empty_sets():
    embedding = build_embedding(DeepSet(masked=True), (4, 2))
    with pytest.raises(ValueError, match=r"^All masked sets are empty"):
        embedding.standardize.fit(torch.zeros(10, 4, 2))


# --- deep networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize(("depth", "dimensions"), [(18, 1), (18, 2), (34, 1), (50, 1), (50, 2)])
def test_a_residual_network_starts_sound(depth, dimensions, norm):
    torch.manual_seed(1)
    event_shape = (32,) if dimensions == 1 else (16, 16)
    net = build(MLP((8,), embedding=ResNet(depth, dimensions, width=4, norm=norm)), 2, event_shape)
    theta, x = torch.randn(16, 2), torch.randn(16, *event_shape)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):  # every branch begins at zero, and its weights learn from the second step
        optimizer.zero_grad()
        logits = net(theta, x)
        assert torch.isfinite(logits).all()
        assert net.embed(x).std(0).mean() > 1e-4  # observations are told apart
        (logits**2).mean().backward()
        optimizer.step()
    for name, weight in net.named_parameters():
        assert torch.isfinite(weight.grad).all(), name
        if weight.ndim != 1:  # a bias before a normalization moves nothing
            assert weight.grad.abs().max() > 0, name


def test_the_usual_sizes():
    """Numbers of weights of torchvision's networks, without their last layer, plus what differs.

    Ours have biases and, unless asked, no normalization; a block has one more weight. The
    stem takes one channel instead of three, and there is no pooling to count.
    """

    def convolutional_weights(depth):
        body = ResNet(depth, dimensions=2).build((32, 32)).body
        return sum(w.numel() for w in body.parameters() if w.ndim > 1)

    stem = 64 * 49 * 2  # two channels fewer
    # torchvision: resnet18 11,689,512 weights, of them 513,000 in the last layer and 9,600 in
    # normalization; resnet50 25,557,032, 2,049,000 and 53,120.
    assert convolutional_weights(18) == 11_689_512 - 513_000 - 9_600 - stem
    assert convolutional_weights(50) == 25_557_032 - 2_049_000 - 53_120 - stem


# --- embedded once ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        (NREA(), 12),
        (NREB(candidates=5), 12),
        (NREC(candidates=5), 12),
        (Balanced(NREC(candidates=3)), 12),
        ("CARL", 24),
    ],
)
def test_losses_embed_every_observation_once(loss, rows):
    net = build(MLP((4,), embedding=Own), 2, (3,))
    seen = []
    net.embedding.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    theta, x = torch.randn(12, 2), torch.randn(12, 3)
    if loss == "CARL":
        fixed = nre.Simulations({"mu": np.zeros((12, 2))}, x.numpy())
        assert torch.isfinite(CARL(fixed)(net, theta, x, x))
    else:
        assert torch.isfinite(loss(net, theta, x))
    assert sum(seen) == rows


# --- specifications and files ----------------------------------------------------------------


SPECIFICATIONS = {
    kind: MLP((6, 4), norm="layer", embedding=embedding)
    for kind, (embedding, _, _) in KINDS.items()
    if not isinstance(embedding, type)
} | {"ResidualMLP": ResidualMLP(6, 2, norm="batch", embedding=DeepSet((5,), True))}


@pytest.mark.parametrize("kind", SPECIFICATIONS)
def test_specifications_round_trip(kind):
    specification = SPECIFICATIONS[kind]
    again = specification_from_dict(specification_to_dict(specification))
    assert again == specification
    assert hash(again) == hash(specification)


def test_lists_become_tuples():
    assert Dense([4, 3]) == Dense((4, 3))
    assert DeepSet([4, 3]) == DeepSet((4, 3))
    assert Convolutional([4, 3]) == Convolutional((4, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading_is_an_identity(kind, tmp_path):
    embedding = KINDS[kind][0]
    network = MLP((6, 4), norm="batch", embedding=embedding)
    net, x = make(kind, network)
    ratio = nre.RatioEstimator(
        net,
        {"mu": (), "nu": ()},
        domain=Domain.from_draws(np.random.default_rng(1).normal(size=(50, 2)), None),
        probe_x=x,
        specification=network,
    )
    ratio.save(tmp_path / "r.nre")
    if embedding is Own:
        with pytest.raises(TypeError, match=r"^This estimator holds a network of your own"):
            nre.load(tmp_path / "r.nre")
        loaded = nre.load(tmp_path / "r.nre", network=network)
    else:
        loaded = nre.load(tmp_path / "r.nre")
        assert loaded.specification == network
    theta = {"mu": np.linspace(-3, 3, 30), "nu": 0.5}
    np.testing.assert_array_equal(loaded.log_ratio(x, **theta), ratio.log_ratio(x, **theta))
    running = [n for n in ratio.network.state_dict() if n.endswith("running_var")]
    assert running  # the head's at least
    for name in running:
        value = loaded.network.state_dict()[name]
        assert value.equal(ratio.network.state_dict()[name])
        assert not value.equal(torch.ones_like(value))  # it was learned


def test_a_custom_part_makes_all_of_it_custom():
    assert specification_to_dict(MLP(embedding=Own)) == {"type": "custom"}
    assert specification_to_dict(MLP(embedding=None))["embedding"] is None
    assert specification_to_dict(MLP(embedding=Dense((3,))))["embedding"] == {
        "type": "Dense", "hidden": (3,), "activation": "silu", "norm": None,
    }  # fmt: skip


# --- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "event_shape", "message"),
    [
        (DeepSet(), (), r"^DeepSet\(masked=False\) needs .* \(members,\) or .*, got \(\)"),
        (DeepSet(), (2, 2, 2), r"^DeepSet\(masked=False\) needs observations .* \(2, 2, 2\)"),
        (
            DeepSet(masked=True),
            (4,),
            r"^DeepSet\(masked=True\) needs observations of shape \(members, numbers \+ 1\), got "
            r"\(4,\)\. Sets of varying size are made by masked_set\(values, members\)\.$",
        ),
        (
            DeepSet(masked=True),
            (4, 1),
            r"^DeepSet\(masked=True\) needs observations of shape \(members, numbers \+ 1\), got "
            r"\(4, 1\)\.",
        ),
        (
            Convolutional(),
            (),
            r"^Convolutional\(dimensions=1\) needs observations of shape \(length,\), or the same "
            r"with channels first, got \(\)\.$",
        ),
        (Convolutional(dimensions=2), (5,), r"^Convolutional\(dimensions=2\) .* \(height, width\)"),
        (ResNet(dimensions=1), (1, 2, 3), r"^ResNet\(dimensions=1\) .* got \(1, 2, 3\)\.$"),
    ],
)
def test_shapes_that_do_not_suit(embedding, event_shape, message):
    with pytest.raises(ValueError, match=message):
        build(MLP(embedding=embedding), 1, event_shape)


@pytest.mark.parametrize("kind", [Dense, DeepSet])
@pytest.mark.parametrize("hidden", [(), (4, 0)])
def test_bad_widths(kind, hidden):
    message = rf"^{kind.__name__} needs at least one hidden width >= 1, got hidden=\("
    with pytest.raises(ValueError, match=message):
        kind(hidden)


@pytest.mark.parametrize("kind", [MLP, ResidualMLP, Dense, DeepSet, Convolutional, ResNet])
def test_unknown_names(kind):
    with pytest.raises(ValueError, match=r"^Unknown activation 'swish'; expected one of silu"):
        kind(activation="swish")
    message = r"^Unknown norm 'group'; expected None, 'batch' or 'layer'\.$"
    with pytest.raises(ValueError, match=message):
        kind(norm="group")


def test_batch_normalization_would_count_padding():
    with pytest.raises(ValueError, match=r"would average over padding; use norm='layer'\.$"):
        DeepSet(masked=True, norm="batch")
    assert replace(DeepSet(masked=True), norm="layer").masked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": ()}, r"^Convolutional needs at least one channels width >= 1"),
        ({"kernel": 4}, r"^Convolutional needs an odd kernel and features >= 1, got kernel=4"),
        ({"kernel": -1}, r"got kernel=-1, features=32\.$"),
        ({"features": 0}, r"got kernel=5, features=0\.$"),
        ({"dimensions": 3}, r"^Convolutional needs dimensions 1 or 2, got 3\.$"),
    ],
)
def test_bad_convolutions(arguments, message):
    with pytest.raises(ValueError, match=message):
        Convolutional(**arguments)


@pytest.mark.parametrize("arguments", [{"depth": 11}, {"width": 0}])
def test_bad_residual_networks(arguments):
    with pytest.raises(ValueError, match=r"^ResNet needs a depth of 10, 18, 34, 50 and width >= 1"):
        ResNet(**arguments)
    with pytest.raises(ValueError, match=r"^ResNet needs dimensions 1 or 2, got 0\.$"):
        ResNet(dimensions=0)


@pytest.mark.parametrize(
    ("embedding", "got"),
    [(nn.Linear(3, 2), "Linear"), (lambda event_shape: None, "function"), (Own((3,)), "Own")],
)
def test_what_is_no_embedding(embedding, got):
    message = (
        rf"^embedding must be a specification such as DeepSet\(\) or a function .*, got {got}\. "
        r"Wrap a module that you have already built: embedding=lambda event_shape: module\.$"
    )
    with pytest.raises(TypeError, match=message):
        build(MLP(embedding=embedding), 1, (3,))


@pytest.mark.parametrize("embedding", ["DeepSet", 5, (64, 32)])
def test_what_cannot_even_be_called(embedding):
    with pytest.raises(TypeError, match=r"^embedding must be a specification such as DeepSet\(\)"):
        build(MLP(embedding=embedding), 1, (3,))


@pytest.mark.parametrize(
    ("module", "got"), [(nn.Identity(), r"\(3, 2, 2\)"), (nn.Flatten(0), r"\(12,\)")]
)
def test_a_users_embedding_must_return_features(module, got):
    message = (
        r"^An embedding must map observations \(n, 2, 2\) to features \(n, F\); given 3 "
        rf"observations it returned shape {got}\.$"
    )
    with pytest.raises(ValueError, match=message):
        build(MLP(embedding=lambda event_shape: module), 1, (2, 2))


def test_trying_a_users_embedding_leaves_it_as_it_was():
    module = Own((3,))
    build(MLP(embedding=lambda event_shape: module), 1, (3,))
    assert module.training
    module.eval()
    build(MLP(embedding=lambda event_shape: module), 1, (3,))
    assert not module.training
