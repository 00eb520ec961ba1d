"""Where conditions come from, and that they are independent of the parameters."""

from concurrent.futures import ThreadPoolExecutor

import conditioned
import numpy as np
import pandas as pd
import pymc as pm
import pytest

import pymc_nre as nre

QUIET = {"random_seed": 1, "progressbar": False}


def simulate(conditions, simulator=lambda rng, mu, **given: rng.normal(mu), n=200, **options):
    return nre.simulate(
        {"mu": pm.Normal.dist()}, simulator, n, conditions=conditions, **QUIET, **options
    )


def test_a_distribution_is_drawn_beside_the_prior():
    made = conditioned.simulate(500)
    assert set(made.parameters) == {"slope"}
    assert made.conditions["dose"].shape == (500,)
    # The prior's draws are those that there are without conditions.
    plain = nre.simulate(conditioned.prior(), lambda rng, slope: slope, 500, batched=True, **QUIET)
    np.testing.assert_array_equal(made.parameters["slope"], plain.parameters["slope"])


def test_the_simulator_gets_what_is_kept():
    made = simulate({"dose": [0.0, 5.0]}, lambda rng, mu, dose: np.array([mu, dose]))
    np.testing.assert_array_equal(made.x[:, 1], made.conditions["dose"])
    np.testing.assert_array_equal(made.x[:, 0], made.parameters["mu"])


def test_rows_of_designs_stay_together():
    designs = pd.DataFrame({"a": [1, 2, 3], "b": [10.0, 20.0, 30.0]})
    made = simulate(designs, lambda rng, mu, a, b: np.array([mu, a, b, isinstance(a, np.integer)]))
    np.testing.assert_array_equal(made.conditions["b"], 10 * made.conditions["a"])
    assert set(made.conditions["a"]) == {1, 2, 3}
    assert made.known_conditions.integer == ("a",)
    assert made.x[:, 3].all()


def test_variables_of_the_prior_by_name():
    with pm.Model() as model:
        mu, dose = pm.Normal("mu"), pm.Uniform("dose", 0, 1)
        pm.Normal("y", mu * dose, 1.0, shape=3)
    made = nre.simulate(model, "y", 200, conditions=["dose"], **QUIET)
    assert list(made.parameters) == ["mu"]
    assert made.event_shape == (3,)
    drawn = made.simulator.draw(
        np.random.default_rng(1), {"mu": np.full(50, 1e6), "dose": np.zeros(50)}, 50
    )
    assert np.abs(drawn).max() < 10  # given the dose, which is not drawn anew


def test_simulations_do_not_depend_on_the_executor():
    one = simulate({"dose": pm.Uniform.dist(0, 1)})
    with ThreadPoolExecutor(2) as pool:
        other = simulate({"dose": pm.Uniform.dist(0, 1)}, executor=pool)
    np.testing.assert_array_equal(one.conditions["dose"], other.conditions["dose"])
    np.testing.assert_array_equal(one.x, other.x)


def test_what_fails_is_left_out_with_its_conditions():
    def sometimes(rng, mu, dose):
        if dose > 3:
            raise RuntimeError
        return np.array([mu, dose])

    with pytest.warns(nre.SimulationWarning):
        made = simulate({"dose": [0.0, 1.0, 5.0]}, sometimes)
    assert set(made.conditions["dose"]) == {0.0, 1.0}
    np.testing.assert_array_equal(made.x[:, 1], made.conditions["dose"])


def test_failures_that_tie_conditions_to_parameters_are_told():
    """What was simulated is kept; where it works for all doses of a parameter, nothing is said."""

    def failing(rng, mu, dose):
        return np.where(mu + dose > 0, mu, np.nan)

    doses = {"dose": pm.Normal.dist()}
    with pytest.warns(nre.SimulationWarning) as caught:
        made = simulate(doses, failing, n=4_000, batched=True)
    assert len(made) > 1_000
    told = [str(one.message) for one in caught]
    assert any("the condition dose goes with the parameter mu" in each for each in told)


def test_fresh_simulations_have_fresh_conditions():
    supply = nre.Online(
        conditioned.prior(),
        conditioned.response,
        conditions={"dose": pm.Uniform.dist(-1, 1)},
        batched=True,
        per_epoch=100,
        random_seed=1,
    )
    one, again, other = (supply.simulations(k).conditions["dose"] for k in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.isin(one, other).any()


@pytest.mark.parametrize(
    ("conditions", "kind", "message"),
    [
        ({"mu": pm.Normal.dist()}, ValueError, "mu is a variable of the prior as well"),
        (["k"], ValueError, "conditions must name some of the free variables of the prior, mu"),
        (["mu"], ValueError, "and leave a parameter"),
        (3, TypeError, "conditions must be a dict of name to pm.X.dist"),
        ({"k": 1.0}, ValueError, r"k: expected the designs that occur, an array \(m, \*own\)"),
        ({"k": []}, ValueError, "expected the designs that occur"),
        ({"k": [1, 2], "z": [1.0]}, ValueError, "need the same length, got k: 2, z: 1"),
        ({"k": [1, np.nan]}, ValueError, "conditions: k: 1 of 2 values are NaN"),
        ({"k": ["a"]}, TypeError, "conditions: k: expected numbers"),
        ({"observed": [1, 2]}, ValueError, "cannot be called observed"),
        ({"k": pm.Normal.dist(0, 1e400)}, ValueError, "draws of k are NaN or infinite"),
    ],
    ids=str,
)
def test_conditions_that_are_none_are_refused(conditions, kind, message):
    with pytest.raises(kind, match=message):
        simulate(conditions)


def test_a_condition_is_no_parameter_and_depends_on_none():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("dose", mu)
        pm.Normal("other")
    options = {"simulator": lambda rng, **given: 0.0, "n": 10, **QUIET}
    with pytest.raises(ValueError, match="dose and the parameter mu depend on one another"):
        nre.simulate(model, conditions=["dose"], **options)
    with pytest.raises(ValueError, match="mu and the parameter dose depend on one another"):
        nre.simulate(model, conditions=["mu"], **options)
    with pytest.raises(ValueError, match="cannot be a parameter and a condition"):
        nre.simulate(model, conditions=["other"], parameters=["other"], **options)
    with pytest.raises(ValueError, match=r"name them, conditions=\['dose'\]"):
        nre.simulate(model, "mu", 10, conditions={"k": [1, 2]}, **QUIET)


def test_ready_arrays_must_be_independent_of_the_parameters():
    rng = np.random.default_rng(1)
    mu, dose = rng.normal(size=(2, 2_000))
    assert nre.Simulations({"mu": mu}, mu, conditions={"dose": dose}).known_conditions
    with pytest.raises(ValueError, match="the condition dose goes with the parameter mu"):
        nre.Simulations({"mu": mu}, mu, conditions={"dose": dose + 0.5 * mu})
    with pytest.raises(ValueError, match="need the same length along their first axis"):
        nre.Simulations({"mu": mu}, mu, conditions={"dose": dose[:5]})
    with pytest.raises(ValueError, match="dose is not finite in 1 of"):
        nre.Simulations({"mu": mu}, mu, conditions={"dose": np.r_[np.nan, dose[1:]]})
    with pytest.raises(TypeError, match="conditions must be a dict"):
        nre.Simulations({"mu": mu}, mu, conditions=dose)


def test_points_of_a_simulation_share_its_conditions():
    made = simulate(
        {"k": np.arange(4)}, lambda rng, mu, k: np.array([[mu, k], [mu, k + 0.5]]), iid=True
    )
    packed = made.packed()
    assert packed.points.shape == (400, 3)
    np.testing.assert_array_equal(packed.points[::2, 1], packed.points[::2, 2])
    np.testing.assert_array_equal(packed.points[1::2, 1], packed.points[1::2, 2] + 0.5)
    assert made.known_conditions.integer == ("k",)
