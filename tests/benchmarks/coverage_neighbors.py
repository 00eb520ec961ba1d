"""Do coverage and ranks agree with those of lampe and sbi?

``python tests/benchmarks/coverage_neighbors.py``
Needs sbi and lampe. One network, trained by sbi on too few simulations so that there is something
to find, is looked at by all three on the same pairs. Takes some minutes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from lampe.diagnostics import expected_coverage_ni
from sbi.diagnostics import run_sbc
from sbi.inference import NRE_A
from sbi.utils import BoxUniform
from tables import Table

import pymc_nre as nre
from pymc_nre.networks import RatioNetwork

TASK = nre.tasks.LocationScale()
LOW, HIGH = torch.tensor([-5.0, -1.0]), torch.tensor([5.0, 1.0])
SIMULATIONS, PAIRS, SBI_PAIRS, DRAWS = 300, 1_000, 300, 200
LEVELS = np.array([0.5, 0.68, 0.9, 0.95])


class OfSBI(RatioNetwork):
    """sbi's network as one of ours."""

    def __init__(self, network):
        torch.nn.Module.__init__(self)
        self.network, self.event_shape = network, ()
        self.register_buffer("like", torch.zeros(1))

    def embed(self, x):
        return x[..., None]

    def head(self, theta, features):
        batch = torch.broadcast_shapes(theta.shape[:-1], features.shape[:-1])
        theta = theta.expand(*batch, 2).reshape(-1, 2)
        x = features.expand(*batch, 1).reshape(-1, 1)
        return self.network(theta, x).reshape(batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[2] / "docs" / "benchmarks"
    parser.add_argument("--out", type=Path, default=default)
    options = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    prior = BoxUniform(LOW, HIGH)
    inference = NRE_A(prior)
    network = inference.append_simulations(*arrays(SIMULATIONS, 1)).train()
    # With its defaults sbi takes seconds for each pair to find the highest density.
    quicker = {"num_samples_to_find_max": 2_000, "num_iter_to_find_max": 10}
    posterior = inference.build_posterior(
        network, sample_with="rejection", rejection_sampling_parameters=quicker
    )
    pairs = TASK.simulate(PAIRS, random_seed=2)
    ratio = TASK.estimator().replace(network=OfSBI(network).eval())
    ranks = nre.diagnostics.posterior_ranks(ratio, pairs, draws=2_000, random_seed=3)
    ours = nre.diagnostics.coverage(ranks, LEVELS)["coverage"].to_numpy()

    theta, x = arrays(PAIRS, 2)
    # lampe wants pairs one by one, and gives the ranks that it found as sorted levels.
    levels, shares = expected_coverage_ni(
        lambda theta, x: network(theta, x.expand(*theta.shape[:-1], 1)).reshape(theta.shape[:-1]),
        zip(theta, x, strict=True),
        (LOW, HIGH),
        bins=100,
    )
    lampe = np.interp(LEVELS, levels.numpy(), shares.numpy())

    few = slice(SBI_PAIRS)
    statistics = [lambda theta, x: theta[:, 0], lambda theta, x: theta[:, 1], posterior.log_prob]
    counts, _ = run_sbc(theta[few], x[few], posterior, DRAWS, statistics, show_progress_bar=False)
    counts = counts.numpy()
    sbi = [np.mean(1 - counts[:, 2] / DRAWS <= level) for level in LEVELS]
    ours_few = (ranks["density"].to_numpy()[few, None] <= LEVELS).mean(0)
    errors = [np.sqrt(LEVELS * (1 - LEVELS) / n) for n in (PAIRS, SBI_PAIRS)]
    columns = LEVELS, ours, lampe, errors[0], ours_few, np.array(sbi), errors[1]
    table = Table(
        f"Coverage by three libraries: {PAIRS:,} pairs, and the first {SBI_PAIRS} of them",
        ("credible level", "pymc_nre", "lampe", "error", f"pymc_nre, {SBI_PAIRS}", "sbi", "error"),
        np.column_stack(columns).tolist(),
    )
    path = options.out / "coverage_neighbors.inc"
    path.write_text(table.markdown())
    print(path.read_text())
    pit = ranks["pit"].to_numpy()[few]
    for j, label in enumerate(ratio.layout.labels):
        difference = pit[:, j] - counts[:, j] / DRAWS
        print(label, "rms difference of ranks", np.sqrt((difference**2).mean()),
              "correlation", np.corrcoef(pit[:, j], counts[:, j])[0, 1])  # fmt: skip


def arrays(n, seed):
    """Parameters ``(n, 2)`` and observations ``(n, 1)``."""
    made = TASK.simulate(n, random_seed=seed)
    return torch.tensor(made.theta).float(), torch.tensor(made.x[:, None]).float()


if __name__ == "__main__":
    main()
