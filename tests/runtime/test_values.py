"""Dataclasses that hold arrays are compared by what they hold."""

from dataclasses import replace

import numpy as np
import pytest

import pymc_nre as nre
from pymc_nre import diagnostics, tasks

TASK = tasks.GaussianMean()


def budget():
    return nre.trial_budget(TASK.estimator(), TASK.simulate(2_000, random_seed=1))


def posterior(x=(1.0, 2.0)):
    return TASK.posterior(x)


def report(seed=2):
    ratio, pairs = TASK.estimator(), TASK.simulate(120, random_seed=1)
    few = {"draws": 100, "random_seed": seed, "progressbar": False}
    ranks = diagnostics.posterior_ranks(ratio, pairs, **few)
    return diagnostics.Report({"coverage": diagnostics.coverage(ranks)}, {}, ranks, ratio)


@pytest.mark.parametrize("make", [budget, posterior, report])
def test_equal_where_all_values_are(make):
    one, two = make(), make()
    assert one is not two
    assert one == two
    assert hash(one) == hash(two)
    assert one != 3


def test_other_values_are_not_equal():
    one = budget()
    assert one != replace(one, share=0.3)
    assert one != replace(one, width=one.width + 1e-9)
    assert replace(one, width=one.width * np.nan) == replace(one, width=one.width * np.nan)
    assert posterior() != posterior((1.0, 3.0))
    assert posterior() != posterior((1.0, 2.0, 3.0))
    assert report() != report(seed=3)
    assert posterior() != one
