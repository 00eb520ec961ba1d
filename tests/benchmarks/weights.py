"""One trained network, for everybody: its weights as plain matrices.

The moments that standardize its inputs are folded into the first layer, so that any library's
``Dense`` or ``Linear`` layers can hold it.
"""

import warnings

import numpy as np
import problem

LAYERS = ("first", "second", "third")


def train(path, seed=1, quick=False):
    """Train with the defaults of pymc_nre and save the estimator."""
    import pymc_nre as nre

    mu, x = problem.simulations(5_000 if quick else problem.SIMULATIONS, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ratio = nre.train(
            nre.Simulations({"mu": mu}, x),
            network=nre.networks.MLP(problem.HIDDEN),
            random_seed=seed,
            progressbar=False,
        )
    ratio.save(path)
    np.savez(path.with_suffix(".npz"), **folded(ratio.network))


def folded(network):
    """Weights ``(after, before)`` and biases ``(after,)`` of the layers over ``(mu, x)``."""
    of_theta, of_x = network.standardize_theta, network.standardize_x
    scale = np.concatenate([_numpy(of_theta.scale).ravel(), _numpy(of_x.scale).ravel()])
    mean = np.concatenate([_numpy(of_theta.mean).ravel(), _numpy(of_x.mean).ravel()])
    first = np.hstack([_numpy(network.theta_in.weight), _numpy(network.x_in.weight)]) / scale
    result = {"first_w": first, "first_b": _numpy(network.x_in.bias) - first @ mean}
    dense = [layer for layer in network.body if hasattr(layer, "weight")]
    for name, layer in zip(LAYERS[1:], dense, strict=True):
        result |= {f"{name}_w": _numpy(layer.weight), f"{name}_b": _numpy(layer.bias)}
    return result


def load(path):
    """``[(W, b), ...]`` as `folded` made them."""
    with np.load(path) as arrays:
        return [(arrays[f"{name}_w"], arrays[f"{name}_b"]) for name in LAYERS]


def _numpy(tensor):
    return tensor.detach().numpy().astype(float)
