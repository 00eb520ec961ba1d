"""The example of an epidemic: its data, its epidemics, and what rounds make of them."""

import numpy as np
import pytest
from example_modules import imported
from scipy.integrate import solve_ivp

N = 200


@pytest.fixture(scope="module")
def example():
    with imported("epidemic") as modules:
        yield modules["epidemic"]


def parameters(example, n, **changed):
    usual = {name: mean for name, (mean, _) in example.PRIOR.items()} | changed
    return {name: np.full(n, value) for name, value in usual.items()}


def test_the_data_are_those_of_the_school(example):
    counts = example.observed()
    assert counts.tolist() == [3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4]
    assert counts.max() < example.BOYS


def test_large_epidemics_follow_their_equations(example):
    # Nearly half of the boys are ill at once, so that chance counts little.
    given = parameters(example, N, log_ill=np.log(300.0))
    drawn = example.in_bed(np.random.default_rng(1), **given)
    contacts, about, bed = (
        np.exp(given[name][0]) for name in ("log_contacts", "log_about", "log_in_bed")
    )

    def slope(_, state):
        healthy, ill, lying = state
        caught = contacts * healthy * ill / example.BOYS
        return -caught, caught - ill / about, ill / about - lying / bed

    start = example.BOYS - 303, 300, 3
    solved = solve_ivp(slope, (0, 13), start, t_eval=np.arange(1, 14), rtol=1e-8).y[2]
    # Steps of a tenth of a day, a tenth of the shortest time: so much is an Euler step off.
    np.testing.assert_allclose(drawn.mean(0), solved, rtol=0.1, atol=3)
    assert np.abs(drawn.mean(0) / (1.5 * solved) - 1).max() > 0.1  # the twin


def test_boys_are_neither_made_nor_lost(example):
    given = parameters(example, N, log_in_bed=10.0)  # nobody gets up
    drawn = example.in_bed(np.random.default_rng(1), **given)
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert drawn.max() <= example.BOYS
    none = example.in_bed(np.random.default_rng(1), **parameters(example, N, log_ill=-50.0))
    assert (none <= 3).all()  # only those who lay in bed already


def test_chance_is_as_large_everywhere_on_the_scale_of_the_ratio(example):
    x = example.simulator(np.random.default_rng(1), **parameters(example, N, log_ill=3.0))
    assert x.shape == (N, 13)
    assert x.std(0).max() < 10 * x.std(0).min()
