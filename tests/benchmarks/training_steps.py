"""Gradient steps of this version beside those of another, in one process by turns.

    git worktree add ../before SOME_COMMIT
    OMP_NUM_THREADS=1 python tests/benchmarks/training_steps.py ../before

Both train the same networks on the same simulations from the same seed. Times are processor time;
losses of all epochs are compared.
"""

import argparse
import importlib
import sys
import time
import types
from pathlib import Path
from statistics import median

import pymc as pm
import torch

HERE = Path(__file__).parents[2]
LOSSES = ("NREC(5)", "MultiScale()")
NETWORKS = ("MLP((64, 64))", "MLP((64, 64, 64))")
BATCHES = (256, 1_024)
MODULES = {
    "simulate": "simulation.joint",
    "losses": "losses",
    "networks": "networks",
    "batches": "training.batching.batches",
    "contrasts": "training.batching.contrasts",
    "settings": "training.settings",
    "trainers": "training.trainer",
}


class Version:
    """The modules of a working tree that train, and simulations that they made."""

    def __init__(self, tree, simulations):
        for name in [name for name in sys.modules if name.split(".")[0] == "pymc_nre"]:
            del sys.modules[name]
        # What registers itself with PyTensor can be imported once, and is not needed.
        package = types.ModuleType("pymc_nre")
        package.__path__ = [str(Path(tree).resolve() / "pymc_nre")]
        sys.modules["pymc_nre"] = package
        for name, module in MODULES.items():
            setattr(self, name, importlib.import_module(f"pymc_nre.{module}"))
        with pm.Model() as prior:
            pm.Uniform("mu", -10, 10)
            pm.HalfNormal("sigma", 2)
        options = {"batched": True, "random_seed": 1, "progressbar": False}
        self.simulations = self.simulate.simulate(prior, five, simulations, **options)

    def trainer(self, loss, network, batch, epochs):
        """One that has done nothing yet."""
        loss = eval(loss, vars(self.losses))
        batches = self.batches.batches_of(self.simulations, loss, 0.1, "cpu", 1)
        batches = self.contrasts.ContrastedBatches.wanted_by(loss, batches, 1)
        torch.manual_seed(1)
        specification = eval(network, vars(self.networks))
        layout, event_shape = self.simulations.layout, self.simulations.event_shape
        net = self.networks.build(specification, layout.size, event_shape).float()
        net.fit_standardization(*batches.training)
        settings = self.settings.Settings(batch_size=batch, epochs=epochs)
        plan = settings.plan(batches.size, loss, False, batches.distinct)
        return self.trainers.Trainer(net, loss, batches, plan, 1, draws=False)


def five(rng, mu, sigma):
    """Observations of five numbers."""
    return rng.normal(mu[:, None], sigma[:, None], (len(mu), 5))


def by_turns(trainers, epochs):
    """Milliseconds of a step in each epoch but the first, and the losses, of each trainer."""
    times, losses = ([[] for _ in trainers] for _ in range(2))
    for epoch in range(epochs):
        for trainer, its_times, its_losses in zip(trainers, times, losses, strict=True):
            start = time.process_time()
            its_losses.append(trainer.epoch(epoch))
            seconds = time.process_time() - start
            its_times.append(1e3 * seconds / trainer.steps_per_epoch)
    return [its[1:] for its in times], losses


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", help="a working tree of the other version")
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = [Version(tree, options.simulations) for tree in (options.before, HERE)]
    heads = "loss", "network", "batch", "before, ms", "now, ms", "ratio", "of medians", "differ by"
    print("|", " | ".join(heads), "|")
    print("|---" * len(heads) + "|")
    for loss in LOSSES:
        for network in NETWORKS:
            for batch in BATCHES:
                trainers = [v.trainer(loss, network, batch, options.epochs) for v in versions]
                (before, now), losses = by_turns(trainers, options.epochs)
                differ = max(abs(a - b) for a, b in zip(*losses, strict=True))
                ratios = f"{min(now) / min(before):.2f} | {median(now) / median(before):.2f}"
                times = f"{min(before):.2f} | {min(now):.2f}"
                print(f"| {loss} | {network} | {batch:,} | {times} | {ratios} | {differ:.1e} |")


if __name__ == "__main__":
    main()
