"""sbi: its posterior over the given network, as its documentation samples it.

``contestants_sbi.py FOLDER``. sbi computes in single precision.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import problem
import torch
import weights
from contest import Contest
from sbi.inference import NRE_C
from sbi.inference.posteriors import MCMCPosterior
from sbi.inference.potentials import ratio_estimator_based_potential
from sbi.neural_nets.net_builders.classifier import build_z_scored_embedding_net
from sbi.neural_nets.ratio_estimators import RatioEstimator
from sbi.samplers.mcmc.pymc_wrapper import PyMCSampler
from sbi.utils import BoxUniform
from torch import nn

PRIOR = BoxUniform(torch.tensor([problem.LOW]), torch.tensor([problem.HIGH]))
METHODS = {
    "sbi, slice_np_vectorized | slice": "slice_np_vectorized",
    "sbi, slice_np | slice": "slice_np",
    "sbi, slice_pymc | slice": "slice_pymc",
    "sbi, nuts_pymc | NUTS": "nuts_pymc",
}


def estimator(layers):
    """The network in sbi's class, float32 as sbi trains it."""
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(*weight.T.shape)
        linear.weight.data = torch.tensor(weight, dtype=torch.float32)
        linear.bias.data = torch.tensor(bias, dtype=torch.float32)
        modules += [linear, nn.SiLU()]
    return RatioEstimator(nn.Sequential(*modules[:-1]), torch.Size([1]), torch.Size([1]))


def posterior(net, x):
    potential, transform = ratio_estimator_based_potential(net, PRIOR, x_o=None)
    result = MCMCPosterior(potential, PRIOR, transform)
    return result.set_default_x(torch.tensor(x, dtype=torch.float32)[:, None])


def evaluator(net):
    """The compiled function of the model that sbi gives to PyMC's NUTS."""

    def build(x):
        given = posterior(net, x)
        given.potential_fn.set_x(given.default_x, x_is_iid=True)
        potential = given._prepare_potential("nuts_pymc")
        wrapper = PyMCSampler(potential, np.zeros((1, 1)), step="nuts")
        function = wrapper._model.logp_dlogp_function(ravel_inputs=True)
        function.set_extra_values({})
        return function, lambda mu: problem.unbounded(mu).reshape(1)

    return build


def sample(net, method, x, chains, tune, draws, seed):
    if x.ndim > 1:
        raise NotImplementedError("its posterior is that of one theta of all observations")
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # sbi's slice sampler draws from it
    given = posterior(net, x)
    drawn = given.sample(
        (chains * draws,),
        method=method,
        num_chains=chains,
        warmup_steps=tune,
        thin=1,
        show_progress_bars=False,
    )
    return drawn.numpy().reshape(chains, draws)


def network(theta, x):
    """The same architecture, standardized as sbi does it."""
    layers = [nn.Linear(2, problem.HIDDEN[0]), nn.SiLU()]
    layers += [nn.Linear(*problem.HIDDEN), nn.SiLU(), nn.Linear(problem.HIDDEN[1], 1)]
    return RatioEstimator(
        nn.Sequential(*layers),
        theta[0].shape,
        x[0].shape,
        build_z_scored_embedding_net(theta),
        build_z_scored_embedding_net(x),
    )


def train(mu, x, batch, epochs):
    inference = NRE_C(PRIOR, classifier=network, show_progress_bars=False)
    theta, x = (torch.tensor(part, dtype=torch.float32)[:, None] for part in (mu, x))
    inference.append_simulations(theta, x).train(
        num_classes=5,
        gamma=1.0,
        training_batch_size=batch,
        max_num_epochs=epochs,
        stop_after_epochs=epochs + 1,
    )
    return inference.summary["epochs_trained"][-1]


def main(folder):
    net = estimator(weights.load(folder / "network.npz"))
    samplers = {name: partial(sample, net, method) for name, method in METHODS.items()}
    libraries = ("sbi", "pymc", "pytensor", "torch")
    evaluators = {"sbi, PyMC wrapper": evaluator(net)}
    Contest(evaluators, samplers, {"sbi": train}, libraries).serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
