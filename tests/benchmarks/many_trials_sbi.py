"""sbi's NRE_C with its default network and training, for `many_trials`."""

from pathlib import Path

import numpy as np
import torch
import worker
from sbi.inference import NRE_C
from sbi.utils import BoxUniform

ROWS = 200_000  # at once
trained = {}


def _load(folder, name):
    return torch.tensor(np.load(Path(folder) / f"{name}.npy"))


def train(folder):
    """Train on what is in the folder."""
    torch.manual_seed(1)
    theta, x = _load(folder, "theta"), _load(folder, "x")
    prior = BoxUniform(theta.min(0).values, theta.max(0).values)
    inference = NRE_C(prior, show_progress_bars=False).append_simulations(theta, x)
    trained["net"] = inference.train(num_classes=5, gamma=1.0)


@torch.no_grad()
def log_density(folder):
    """Sums of logits over the observations, in double precision."""
    theta, x = _load(folder, "theta"), _load(folder, "x")
    together = max(1, ROWS // len(x))
    totals = []
    for part in theta.split(together):
        pairs = part.repeat_interleave(len(x), 0), x.repeat(len(part), 1)
        totals.append(trained["net"](*pairs).double().reshape(len(part), len(x)).sum(1))
    return torch.cat(totals).tolist()


if __name__ == "__main__":
    worker.serve({"train": train, "log_density": log_density})
