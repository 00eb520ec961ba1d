"""The gain of a local centering, of scores whose mean is known."""

import re

import numpy as np
import pytest

from pymc_nre.many_trials.local_gain import LocalGain

N, TRIALS, SPREAD = 40_000, 100, 1.8
ROOT = np.array([[0.5, 0.0], [0.3, 2.0]])


def gain(offset, bend, taken=(0.0, 0.0), bend_taken=0.0, seed=1):
    """Of scores that are noise and a mean; both are in posterior standard deviations, N and all."""
    rng = np.random.default_rng(seed)
    u = SPREAD * rng.normal(size=(N, 2))
    noise = rng.normal(size=(N, 2)) / TRIALS**0.5
    # A slope that moves the parameters, in their own standard deviations, by what is asked for.
    spread = np.linalg.norm(ROOT, axis=1)
    moves = spread[:, None] * np.eye(2) / TRIALS

    def mean(offset, bend):
        return np.linalg.solve(ROOT, moves @ offset) + bend * u / TRIALS

    before = noise + mean(np.array(offset), bend)
    after = before - mean(np.array(taken), bend_taken)
    scores = np.stack([before, after])
    return LocalGain.measure(("a", "b"), TRIALS, TRIALS * np.eye(2), ROOT, u, scores)


def test_what_was_planted_is_measured():
    found = gain((0.8, -0.3), 0.2, taken=(0.5, -0.3), bend_taken=0.2)
    # A trial's score has variance 1 / N, so the mean of M of them is good to sqrt(N / M).
    np.testing.assert_allclose(found.errors_error, (TRIALS / N) ** 0.5, rtol=0.05)
    np.testing.assert_allclose(found.errors, [[0.8, -0.3], [0.3, 0]], atol=4 * 0.05)
    np.testing.assert_allclose(found.widths[0], 1.2**0.5, atol=4 * 0.05 / SPREAD / 2 * 1.2)
    np.testing.assert_allclose(found.widths[1], 1, atol=4 * 0.05 / SPREAD / 2 * 1.2)
    np.testing.assert_allclose(found.widths_error, 0.05 / SPREAD / 2, rtol=0.05)


@pytest.mark.parametrize(
    ("planted", "reason"),
    [
        ({"offset": (1, 0), "bend": 0, "taken": (1, 0)}, None),
        ({"offset": (0, 0), "bend": 0.5, "bend_taken": 0.5}, None),
        ({"offset": (1, 0), "bend": 0, "taken": (-1, 0)}, "the bias of a gets larger"),
        ({"offset": (1, 0), "bend": 0, "taken": (1, 0.5)}, "the bias of b gets larger"),
        ({"offset": (1, 0), "bend": 0, "taken": (1, 0), "bend_taken": 0.4}, "the width of . gets"),
        ({"offset": (1, 0), "bend": 0, "taken": (1, 0), "bend_taken": -1.5}, "no maximum"),
        ({"offset": (1, 0), "bend": 0, "taken": (0.6, 0)}, "much of the bias is left"),
        ({"offset": (1, 0), "bend": 0.5, "taken": (1, 0)}, "much of .* the widths is left"),
        ({"offset": (4, 0), "bend": 0, "taken": (3.5, 0)}, None),
        ({"offset": (0, 0), "bend": 0}, "neither"),
        ({"offset": (0, 0), "bend": 0, "taken": (0.08, 0)}, "neither"),
    ],
)
def test_what_is_no_better_is_refused(planted, reason):
    found = gain(**planted)
    if reason is None:
        assert found.refusal is None
    else:
        assert re.search(reason, found.refusal)


def test_a_small_bias_is_called_small():
    assert gain((0.02, 0), 0).is_small
    assert not gain((0.5, 0), 0).is_small
    assert not gain((0.0, 0), 0.5).is_small


def test_words():
    words = gain((0.8, -0.3), 0, taken=(0.8, -0.3)).in_words()
    assert re.fullmatch(r"a 0\.\d+ ± .*, b -0\.\d+ ± .* before, a .*, b .* after", words)
