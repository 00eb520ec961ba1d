"""BayesFlow's ratio estimation with its default network, for `many_trials`.

Optimizer and batch size are those that its `BasicWorkflow` takes by default.
"""

from pathlib import Path

import bayesflow as bf
import keras
import numpy as np
import worker

EPOCHS, BATCH, RATE = 50, 64, 5e-4
ROWS = 200_000  # at once
trained = {}


def _load(folder, name):
    return np.load(Path(folder) / f"{name}.npy")


def train(folder):
    """Train on what is in the folder."""
    keras.utils.set_random_seed(1)
    theta, x = _load(folder, "theta"), _load(folder, "x")
    kind = bf.approximators.RatioApproximator
    adapter = kind.build_adapter(inference_variables=["theta"], inference_conditions=["x"])
    approximator = kind(inference_network=bf.networks.MLP(), adapter=adapter, standardize="all")
    data = bf.OfflineDataset({"theta": theta, "x": x}, batch_size=BATCH, adapter=adapter)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * len(theta) // BATCH)
    approximator.compile(optimizer=keras.optimizers.Adam(schedule, clipnorm=1.5))
    approximator.fit(dataset=data, epochs=EPOCHS, verbose=0)
    trained["approximator"] = approximator


def log_density(folder):
    """Sums of log ratios over the observations, in double precision."""
    theta, x = _load(folder, "theta"), _load(folder, "x")
    together = max(1, ROWS // len(x))
    totals = []
    for start in range(0, len(theta), together):
        part = theta[start : start + together]
        pairs = {"theta": np.repeat(part, len(x), 0), "x": np.tile(x, (len(part), 1))}
        ratios = np.asarray(trained["approximator"].log_ratio(pairs), dtype="float64")
        totals.extend(ratios.reshape(len(part), len(x)).sum(1).tolist())
    return totals


if __name__ == "__main__":
    worker.serve({"train": train, "log_density": log_density})
