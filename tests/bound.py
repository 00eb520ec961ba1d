"""Ops of every engine with all that makes them one ratio: what tests of Ops share."""

import copy

import numpy as np
import pytensor.tensor as pt
import torch
from pytensor.compile.mode import Mode, get_mode

from pymc_nre import networks
from pymc_nre.estimators.domain import Domain
from pymc_nre.estimators.estimator import RatioEstimator
from pymc_nre.estimators.wall import Wall
from pymc_nre.kernels.traced.network import trace
from pymc_nre.ops.engines import choice
from pymc_nre.ops.engines.compiled_engine import CompiledEngine
from pymc_nre.ops.engines.torch_engine import TorchEngine
from pymc_nre.ops.engines.walled import Walled

SIZES = {"one parameter": (1, ()), "several parameters": (3, (2,))}
ROWS = 5


def c_mode():
    """PyTensor's virtual machine with C code, which calls `perform`, whatever its default is."""
    return Mode(linker="cvm", optimizer=get_mode("FAST_RUN").provided_optimizer)


MODES = {"C": c_mode, "numba": lambda: get_mode("NUMBA")}


def smooth(theta_size, event_shape):
    """An estimator with a random smooth network."""
    with torch.random.fork_rng():
        torch.manual_seed(theta_size)
        net = networks.MLP((16, 8), activation="tanh").build(theta_size, event_shape)
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(2_000, theta_size))
    x = rng.normal(size=(50, *event_shape))
    net.fit_standardization(torch.tensor(draws), torch.tensor(x))
    domain = Domain.from_draws(draws)
    return RatioEstimator(net, {"theta": (theta_size,)}, domain=domain, probe_x=x)


def torch_engine(ratio):
    return TorchEngine(ratio), []


def compiled_of(ratio, wall=False):
    network = Walled(ratio.network, Wall.around(ratio.domain)) if wall else ratio.network
    return trace(network, *samples(ratio), embedded=False)


def samples(ratio):
    n = min(100, len(ratio.domain.draws))
    return ratio.domain.draws[:n], np.resize(ratio.probe_x, (n, *ratio.event_shape))


def compiled_engine(ratio):
    found = compiled_of(ratio)
    arrays = found.moments, found.weights
    return CompiledEngine(found.program), [choice.share("array", a) for a in arrays]


ENGINES = {"torch": torch_engine, "compiled": compiled_engine}


class Bound:
    """An Op with the constants that it takes."""

    def __init__(self, kind, engine, ratio):
        self.given = kind, engine, ratio
        bound, self.constants = ENGINES[engine](ratio)
        self.op = kind(bound)

    def make_node(self, theta, x, *v):
        return self.op.make_node(theta, x, *self.constants, *v)

    def __call__(self, theta, x):
        return self.make_node(theta, x).outputs[0]

    def perform(self, theta, x):
        """What the linkers that call Python get."""
        node = self.make_node(theta, x)
        storage = [[None] for _ in node.outputs]
        self.op.perform(node, [theta, x, *(c.get_value() for c in self.constants)], storage)
        return [cell[0] for cell in storage]

    def __eq__(self, other):
        return self.op == other.op and self.constants == other.constants

    def __hash__(self):
        return hash(self.op)

    def __reduce__(self):
        return Bound, self.given  # a copy shares its constants


def symbolic(theta):
    return pt.tensor("theta", shape=theta.shape, dtype="float64")


def reference(ratio, theta, x):
    """Values and per-row gradients straight from torch autograd."""
    rows = torch.tensor(np.broadcast_to(theta, (len(x), theta.shape[1])).copy())
    rows.requires_grad_()
    values = ratio.network(rows, torch.tensor(x))
    (gradients,) = torch.autograd.grad(values.sum(), rows)
    return values.detach().numpy(), gradients.numpy()


def perturbed(ratio):
    """The same architecture with other weights."""
    network = copy.deepcopy(ratio.network)
    with torch.no_grad():
        network.x_in.bias += 1e-3
    return RatioEstimator(network, ratio.parameters, domain=ratio.domain, probe_x=ratio.probe_x)
