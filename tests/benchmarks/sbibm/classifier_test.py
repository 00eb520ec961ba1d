"""The classifier two-sample test (C2ST) as the published numbers were made, but compiled.

How often can a classifier tell draws of one posterior from those of another? Half of the time
if they are the same, always if they have nothing in common. The published classifier is
scikit-learn's ``MLPClassifier`` with two layers of ten ReLU units for each dimension, its
accuracy that of five-fold cross-validation, its scale that of the reference.

A half proves little by itself. The classifier stops after ten epochs without a gain, and thin
posteriors can hide from it: draws of two moons of which 2.7 % are impossible, and whose radius
spreads 18 % too widely, came out at .502, from scikit-learn's classifier too.

So small a network in Python costs several minutes for 20,000 points. Here it is compiled:
initialization, penalty, optimizer, batches and rule of stopping are scikit-learn's, with which
a test compares it.
"""

from itertools import pairwise

import numpy as np
from numba import njit

_FOLDS = 5
_UNITS = 10  # in each layer, for each dimension
# What follows are the defaults of scikit-learn's classifier, but for the number of epochs.
_BATCH = 200
_RATE, _FIRST, _SECOND, _EPSILON = (np.float32(value) for value in (1e-3, 0.9, 0.999, 1e-8))
_PENALTY = np.float32(1e-4)
_TOLERANCE, _PATIENCE = 1e-4, 10  # stop after ten epochs without so much of a gain
_EPOCHS = 10_000


def c2st(reference, draws, seed=1):
    """Accuracy of telling draws ``(m, D)`` from a reference ``(n, D)``: .5 is best, 1 worst."""
    rng = np.random.default_rng(seed)
    both = np.concatenate([reference, draws])
    # In single precision, as published.
    x = ((both - reference.mean(0)) / reference.std(0, ddof=1)).astype(np.float32)
    label = np.repeat(np.float32([0, 1]), [len(reference), len(draws)])
    folds = np.array_split(rng.permutation(len(x)), _FOLDS)
    return float(np.mean([_accuracy(x, label, fold, rng) for fold in folds]))


def _accuracy(x, label, fold, rng):
    """Of a classifier that has not seen the rows of this fold."""
    training = np.delete(np.arange(len(x)), fold)
    start = _initial(x.shape[1], rng)
    weights = _fit(start, x[training], label[training], int(rng.integers(2**31)))
    said = _forward(weights, x[fold])[2] > 0
    return np.mean(said == (label[fold] > 0.5))


def _initial(size, rng):
    """Glorot's uniform weights and biases, layer after layer, in one vector."""
    widths, parts = (size, _UNITS * size, _UNITS * size, 1), []
    for before, after in pairwise(widths):
        bound = np.sqrt(6 / (before + after))
        parts.append(rng.uniform(-bound, bound, (before + 1) * after))
    return np.concatenate(parts).astype(np.float32)


@njit
def _layers(weights, size):
    """Matrices and biases as views into the vector."""
    units = _UNITS * size
    a = size * units
    b = a + units
    c = b + units * units
    d = c + units
    first = weights[:a].reshape((size, units)), weights[a:b]
    second = weights[b:c].reshape((units, units)), weights[c:d]
    return first, second, (weights[d : d + units], weights[d + units :])


@njit(fastmath=True)
def _activate(h, bias):
    """Add a bias and cut off what is negative, in place."""
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] = max(h[i, j] + bias[j], np.float32(0))
    return h


@njit(fastmath=True)
def _gate(back, h, bias):
    """Let errors ``back`` through where ``h`` was positive, in place; add them up in ``bias``."""
    bias[:] = 0
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            back[i, j] = back[i, j] if h[i, j] > 0 else np.float32(0)
            bias[j] += back[i, j]
    return back


@njit
def _forward(weights, x):
    """Two hidden layers ``(n, units)`` and logits ``(n,)``."""
    first, second, last = _layers(weights, x.shape[1])
    h = _activate(np.dot(x, first[0]), first[1])
    g = _activate(np.dot(h, second[0]), second[1])
    return h, g, np.dot(g, last[0]) + last[1][0]


@njit
def _backward(weights, x, label, gradient):
    """Fill in the gradient; the loss of the batch, without the penalty."""
    n, one = np.float32(len(x)), np.float32(1)
    h, g, logit = _forward(weights, x)
    _, second, last = _layers(weights, x.shape[1])
    to_first, to_second, to_last = _layers(gradient, x.shape[1])
    error = (one / (one + np.exp(-logit)) - label) / n
    to_last[0][:], to_last[1][0] = np.dot(error, g), error.sum()
    back = _gate(np.outer(error, last[0]), g, to_second[1])
    np.dot(h.T, back, to_second[0])
    back = _gate(np.dot(back, second[0].T), h, to_first[1])
    np.dot(x.T, back, to_first[0])
    signed = np.where(label > 0, -logit, logit)
    return (np.maximum(signed, np.float32(0)) + np.log1p(np.exp(-np.abs(signed)))).mean()


@njit(fastmath=True)
def _penalize(weights, gradient, size, n):
    """Add the gradient of the penalty on matrices; the penalty."""
    total = np.float32(0)
    values, slopes = _layers(weights, size), _layers(gradient, size)
    for value, slope in (
        (values[0][0].ravel(), slopes[0][0].ravel()),
        (values[1][0].ravel(), slopes[1][0].ravel()),
        (values[2][0], slopes[2][0]),
    ):
        for i in range(len(value)):
            slope[i] += _PENALTY / n * value[i]
            total += value[i] * value[i]
    return np.float32(0.5) * _PENALTY / n * total


@njit(fastmath=True)
def _adam(weights, gradient, mean, square, step):
    one = np.float32(1)
    rate = _RATE * np.float32(np.sqrt(1 - _SECOND**step) / (1 - _FIRST**step))
    for i in range(len(weights)):
        mean[i] = _FIRST * mean[i] + (one - _FIRST) * gradient[i]
        square[i] = _SECOND * square[i] + (one - _SECOND) * gradient[i] * gradient[i]
        weights[i] -= rate * mean[i] / (np.sqrt(square[i]) + _EPSILON)


@njit
def _fit(start, x, label, seed):
    """Weights after as many epochs as help."""
    np.random.seed(seed)  # noqa: NPY002  # inside compiled code, of which it is the only generator
    weights, gradient = start.copy(), np.zeros_like(start)
    mean, square = np.zeros_like(start), np.zeros_like(start)
    best, idle, step = np.inf, 0, 0
    for _ in range(_EPOCHS):
        order, total = np.random.permutation(len(x)), 0.0  # noqa: NPY002
        for begin in range(0, len(x), _BATCH):
            rows = order[begin : begin + _BATCH]
            n, step = np.float32(len(rows)), step + 1
            loss = _backward(weights, x[rows], label[rows], gradient)
            total += n * (loss + _penalize(weights, gradient, x.shape[1], n))
            _adam(weights, gradient, mean, square, step)
        loss = total / len(x)
        idle = idle + 1 if loss > best - _TOLERANCE else 0
        best = min(best, loss)
        if idle > _PATIENCE:
            break
    return weights
