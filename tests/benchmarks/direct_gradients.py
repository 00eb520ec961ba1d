"""Where the gradient of a log likelihood is lost if it is taken of the ratio itself.

Hermans et al. (2020) write it as the gradient of r over r, which is that of the logit. As numbers
the two differ: r overflows, and a classifier's output d, of which r is d over 1 - d, rounds to 1
long before. What is compared here are three programs for one gradient.
"""

from itertools import product

import numpy as np
import torch
from tables import Table

import pymc_nre as nre

RATIOS = {
    "logit": lambda s: s,
    "r = exp(s), gradient of r over r": torch.exp,
    "r = d / (1 - d), gradient of r over r": lambda s: torch.sigmoid(s) / (1 - torch.sigmoid(s)),
}
PRECISIONS = {"single": torch.float32, "double": torch.float64}
WRONG = 0.01
SCANNED = np.linspace(-1_000, 1_000, 80_001)
TRIALS, DRAWS = (1, 10, 100, 1_000), 2_000


def run(folder, say):
    """Tables of logits, and of draws of a prior and a posterior."""
    return [_of_logits(), _of_trials()]


def _gradient(form, logits, leaf):
    """Of the sum's rows in a leaf, by one of the three programs."""
    ratio = RATIOS[form](logits)
    (gradient,) = torch.autograd.grad(ratio.sum(), leaf)
    if form == "logit":
        return gradient
    return gradient / ratio.detach().reshape(gradient.shape)


def _of_logits():
    rows = []
    for form, (precision, dtype) in product(RATIOS, PRECISIONS.items()):
        leaf = torch.tensor(SCANNED, dtype=dtype, requires_grad=True)
        found = _gradient(form, leaf * 1, leaf).double().numpy()
        right = np.abs(found - 1) < WRONG
        middle, wrong = len(SCANNED) // 2, np.flatnonzero(~right)
        low = wrong[wrong < middle].max(initial=-1) + 1
        high = wrong[wrong > middle].min(initial=len(SCANNED)) - 1
        ends = (f"{SCANNED[k]:.1f}" if 0 < k < len(SCANNED) - 1 else "all" for k in (low, high))
        rows.append([form, precision, *ends])
    note = f"Between these logits it is right to {WRONG:.0%}; scanned from -1,000 to 1,000."
    return Table("Gradients of a ratio", ("form", "precision", "from", "to"), rows, note)


def _of_trials():
    """Shares of draws at which a gradient is wrong or no number."""
    task, rng, rows = nre.tasks.GaussianMean(), np.random.default_rng(5), []
    network = nre.tasks.GaussianMean().estimator().network
    for form, precision in product(RATIOS, PRECISIONS):
        cells = []
        for n in TRIALS:
            x = rng.normal(2.0, 1.0, n)
            around = rng.normal(x.mean(), n**-0.5, DRAWS)
            prior = rng.uniform(-task.half_width, task.half_width, DRAWS)
            cells += [_lost(network, form, precision, x, mu) for mu in (around, prior)]
        rows.append([form, precision, *cells])
    columns = ("form", "precision")
    columns += tuple(f"{where}, {n:,}" for n in TRIALS for where in ("posterior", "prior"))
    note = (
        f"Shares of {DRAWS:,} draws at which the gradient of all trials together, by the exact "
        f"ratio of a normal mean, is off by more than {WRONG:.0%} or no number."
    )
    return Table("Gradients of many trials", columns, rows, note)


def _lost(network, form, precision, x, mu):
    dtype = PRECISIONS[precision]
    leaf = torch.tensor(mu[:, None], dtype=dtype, requires_grad=True)
    evidence = network.log_evidence(torch.tensor(x[:, None])).to(dtype)
    data = torch.tensor(x, dtype=dtype)
    logits = (-0.5 * (data - leaf) ** 2 - 0.5 * np.log(2 * np.pi) - evidence).sum(1)
    found = _gradient(form, logits, leaf)[:, 0].double().numpy()
    right = len(x) * (x.mean() - mu)
    scale = np.maximum(np.abs(right), len(x) ** 0.5)  # the score of a draw is of this size
    return f"{(~(np.abs(found - right) < WRONG * scale)).mean():.3f}"
