"""Does CUDA give what the CPU gives, and how fast? ``python tests/benchmarks/on_cuda.py``.

For a machine with a GPU. First everything that can live there is tried and compared with the CPU of
the same machine: training with losses (but CARL) and networks of every kind, checkpoints, fresh
simulations, ensembles, fine-tuning, diagnostics, files, sampling. Then seconds for an epoch of
training and for log ratios, on both. Takes about five minutes; ends with an error if a check fails.
"""

import _thread
import argparse
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

import machine
import numpy as np
import pymc as pm
import torch
from tables import Table

import pymc_nre as nre

CHECKS, DEVICE = {}, "cuda"
TASK = nre.tasks.LocationScale()
X = np.random.default_rng(1).normal(0.5, 1.2, 10)


def check(function):
    """A check by its name; it returns what to print, or raises."""
    CHECKS[function.__name__.replace("_", " ")] = function
    return function


def trained(device=None, n=10_000, seed=1, simulations=None, **options):
    simulations = simulations or TASK.simulate(n, random_seed=2)
    options = {"epochs": 10, "progressbar": False} | options
    return nre.train(simulations, device=device or DEVICE, random_seed=seed, **options)


def loss_of(ratio):
    return min(ratio.history["validation_loss"])


def close(one, other, most):
    difference = abs(one - other)
    assert difference <= most, f"{one:.4f} and {other:.4f} differ by more than {most}"
    return f"{one:.4f} and {other:.4f}"


def alike(*ratios):
    one, other = (ratio.log_ratio(X, mu=0.5, log_sigma=0.1) for ratio in ratios)
    worst = np.abs(one - other).max()
    assert worst < 1e-5, worst
    return f"differ by {worst:.0e}"


@check
def training():
    # Weights of both start alike and part by rounding; losses of other seeds differ by .002.
    return close(loss_of(trained(DEVICE)), loss_of(trained("cpu")), 0.01)


@check
def losses_of_every_kind():
    losses = nre.losses
    balanced = losses.Balanced(losses.NREC())
    for loss in (losses.NREA(), losses.NREB(), losses.NREC(), balanced):
        assert np.isfinite(loss_of(trained(loss=loss, n=2_000, epochs=2)))
    return "finite"


@check
def every_network():
    networks = nre.networks
    rng = np.random.default_rng(3)
    for network, event in (
        (networks.ResidualMLP(32, 2), ()),
        (networks.MLP((32,), embedding=networks.DeepSet((16,))), (5,)),
        (networks.MLP((32,), embedding=networks.Convolutional((8, 8))), (16, 16)),
    ):
        mu = rng.normal(size=(1_000, *[1] * len(event)))
        x = rng.normal(mu, 1, (1_000, *event))
        simulations = nre.Simulations({"mu": mu.reshape(-1)}, x)
        ratio = trained(simulations=simulations, network=network, epochs=2)
        assert np.isfinite(ratio.log_ratio(x[:3], mu=0.1)).all()
    return "finite"


@check
def a_training_that_goes_on():
    """Interrupted after some seconds, and resumed: the loss is that of one piece."""
    simulations = TASK.simulate(20_000, random_seed=2)
    options = {"simulations": simulations, "epochs": 12}
    whole = trained(**options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training"
        threading.Thread(target=interrupt_after, args=(path, 1.0), daemon=True).start()
        part = trained(**options, checkpoint=path)
        done = len(part.history["validation_loss"])
        again = trained(**options, checkpoint=path)
    assert len(again.history["validation_loss"]) == 12
    return f"after {done} epochs of 12: {close(loss_of(again), loss_of(whole), 0.01)}"


def interrupt_after(path, seconds):
    """As Ctrl-C does, so long after a file is there."""
    while not path.exists():
        time.sleep(0.01)
    time.sleep(seconds)
    _thread.interrupt_main()


@check
def fresh_simulations():
    supply = nre.Online(TASK.prior(), TASK.simulator, batched=True)
    ratio = nre.train(supply, device=DEVICE, epochs=3, random_seed=1, progressbar=False)
    return f"validation loss {loss_of(ratio):.4f}"


@check
def ensembles_and_fine_tuning():
    both = trained(n=2_000, epochs=3, members=2)
    supply = nre.Online(TASK.prior(), TASK.simulator, batched=True)
    centered = nre.center(both, supply, device=DEVICE, steps=20, random_seed=1, progressbar=False)
    assert np.isfinite(centered.log_ratio(X, mu=0.5, log_sigma=0.1)).all()
    return "finite"


@check
def log_ratios():
    ratio = trained(epochs=3)
    there = ratio.to(DEVICE)
    return alike(ratio, there)


@check
def files():
    ratio = trained(epochs=3).to(DEVICE)
    with tempfile.TemporaryDirectory() as folder:
        ratio.save(Path(folder) / "ratio.nre")
        again = nre.load(Path(folder) / "ratio.nre")
    return alike(again, ratio)


@check
def diagnostics_of_a_ratio_that_lives_there():
    ratio = trained(epochs=5).to(DEVICE)
    simulations = TASK.simulate(500, random_seed=9)
    ranks = nre.diagnostics.posterior_ranks(ratio, simulations, random_seed=1, progressbar=False)
    result = nre.diagnostics.coverage(ranks)
    budget = nre.trial_budget(ratio, TASK.simulate(5_000, random_seed=10))
    return f"coverage {result.attrs.get('verdict', 'made')}, budget {budget.trials}"


@check
def sampling():
    """NUTS with the ratio there, and with it moved: the same posterior."""
    ratio = trained(epochs=20)
    means = []
    for placed in (ratio.to(DEVICE), ratio):
        with pm.Model():
            mu, log_sigma = pm.Normal("mu", 0, 2), pm.Normal("log_sigma", 0, 0.5)
            nre.RatioLikelihood("x", placed, mu=mu, log_sigma=log_sigma, observed=X)
            idata = pm.sample(
                500, tune=500, chains=2, cores=1, random_seed=1, progressbar=False,
                nuts_sampler="pymc",
            )  # fmt: skip
        posterior = idata.posterior["mu"]
        means.append((float(posterior.mean()), float(posterior.std())))
    (here, sd), (there, _) = means
    # Both have some 500 effective draws: .06 sd of error in a difference.
    assert abs(here - there) < 0.3 * sd
    return f"mu {here:.3f}, CPU {there:.3f}"


def seconds_of_training(device, width, batch_size, n=50_000):
    """For an epoch, the first left out."""
    simulations = TASK.simulate(n, random_seed=2)
    took = []
    for epochs in (1, 4):
        start = time.perf_counter()
        trained(device, simulations=simulations, network=nre.networks.MLP((width,) * 3),
                batch_size=batch_size, epochs=epochs)  # fmt: skip
        took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / 3


def seconds_of_log_ratios(device, width, n=1_000_000):
    ratio = trained("cpu", n=2_000, epochs=1, network=nre.networks.MLP((width,) * 3)).to(device)
    x = np.random.default_rng(4).normal(size=n)
    ratio.log_ratio(x[:1_000], mu=0.1, log_sigma=0.2)
    start = time.perf_counter()
    ratio.log_ratio(x, mu=0.1, log_sigma=0.2)
    return time.perf_counter() - start


def tables(checks, quick):
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE
    where = f"{name}; CPU: {machine.describe()}, {torch.get_num_threads()} threads"
    yield Table("What was tried on CUDA", ("check", "result"), list(checks.items()), where + ".")
    if quick:
        return
    rows = []
    for width in (64, 512):
        for batch_size in (256, 4_096):
            both = [seconds_of_training(d, width, batch_size) for d in (DEVICE, "cpu")]
            what = f"an epoch of 50,000, 3 x {width}, batches of {batch_size:,}"
            rows.append((what, *both, both[1] / both[0]))
        both = [seconds_of_log_ratios(d, width) for d in (DEVICE, "cpu")]
        rows.append((f"a million log ratios, 3 x {width}", *both, both[1] / both[0]))
    yield Table("Seconds", ("what", "CUDA", "CPU", "CPU / CUDA"), rows, "One run.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="the checks alone")
    parser.add_argument("--device", default="cuda", help="another one tries the script itself")
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = arguments.device
    warnings.simplefilter("ignore")
    results, failed = {}, False
    for name, function in CHECKS.items():
        start = time.perf_counter()
        try:
            results[name] = function()
        except Exception:
            results[name], failed = "FAILED", True
            traceback.print_exc()
        print(f"{name}: {results[name]} ({time.perf_counter() - start:.1f} s)", flush=True)
    text = "\n".join(table.markdown() for table in tables(results, arguments.quick))
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
