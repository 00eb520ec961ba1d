"""Are observed data like the simulations?"""

import numpy as np
import pytest
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.diagnostics import observation_check
from pymc_nre.diagnostics.misspecification import _result, _together

TASK = nre.tasks.GaussianMean()
SIMULATIONS = TASK.simulate(4_000, random_seed=1)


def check(observed, ratio=None, simulations=SIMULATIONS, seed=2):
    return observation_check(ratio or TASK.estimator(), simulations, observed, random_seed=seed)


def test_false_alarms_are_as_rare_as_they_say():
    # Each observation by itself: p <= 0.05 in 5 % of 2,000, with an sd of 0.5 % from these and one
    # of 0.5 % from the 2,000 simulations that they are compared with.
    fresh = TASK.simulate(2_000, random_seed=3).x
    found = check(fresh)
    p_values, distances = (found[name].to_numpy() for name in ("p_value", "distance"))
    assert abs((p_values <= 0.05).mean() - 0.05) < 4 * 0.007
    # And ten together: 1 of 100 such sets, where one of ten has a p value below 0.01.
    verdicts = [
        _result(*one, found["usual"].to_numpy()).attrs["verdict"]
        for one in zip(p_values.reshape(200, 10), distances.reshape(200, 10), strict=True)
    ]
    assert verdicts.count("foreign") <= 2 + 4 * 2**0.5


@pytest.mark.parametrize("wrong", [30.0, -100.0])
def test_a_foreign_observation_among_others_is_found(wrong):
    found = check(np.append(SIMULATIONS.x[:10], wrong))
    assert found.attrs["verdict"] == "foreign"
    assert found["p_value"].to_numpy().argmin() == 10


def correlated(rng, n):
    return np.repeat(rng.normal(size=(n, 1)), 40, axis=1) + 0.1 * rng.normal(size=(n, 40))


def test_what_is_rare_in_combination_only():
    rng = np.random.default_rng(4)
    x = correlated(rng, 2_000)
    simulations = nre.Simulations({"mu": x[:, 0]}, x)
    ratio = nre.train(simulations, epochs=1, random_seed=1, progressbar=False)
    apart = np.concatenate([np.ones(20), -np.ones(20)])  # each number is usual
    assert check(apart, ratio, simulations).attrs["verdict"] == "foreign"
    assert check(correlated(rng, 5), ratio, simulations).attrs["verdict"] == "usual"
    assert check(np.tile([1.0, -1.0], 20), ratio, simulations).attrs["verdict"] == "foreign"


def test_what_is_outside_of_all_directions_that_are_kept():
    # 32 directions are, and of 40 numbers 8 are left, in which there is noise of 0.01 only.
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]

    def made(n):
        return rng.uniform(-1, 1, (n, 32)) @ basis[:, :32].T + 0.01 * rng.normal(size=(n, 40))

    x = made(2_000)
    simulations, ratio = nre.Simulations({"mu": x[:, 0]}, x), make_estimator({"mu": ()}, (40,))
    (one,) = made(1)
    assert check(one, ratio, simulations).attrs["verdict"] == "usual"
    assert check(one + basis[:, 35], ratio, simulations).attrs["verdict"] == "foreign"


def test_too_few_simulations_to_know():
    found = check(np.append(np.zeros(99), 1e3), simulations=TASK.simulate(400, random_seed=5))
    assert found.attrs["verdict"] == "not known"
    assert "20,000 simulations or more" in found.attrs["summary"]
    enough = check(np.append(np.zeros(99), 1e3), simulations=TASK.simulate(20_000, random_seed=5))
    assert enough.attrs["verdict"] == "foreign"


def test_few_values():
    rng = np.random.default_rng(6)
    choices = nre.Simulations({"mu": rng.normal(size=1_000)}, rng.integers(0, 2, 1_000))
    found = check([0.0, 1.0], simulations=choices)
    assert found.attrs["verdict"] == "usual"
    assert check([0.0, 3.0], simulations=choices).attrs["verdict"] == "foreign"


def test_discrete_observations_are_usual_one_at_a_time():
    # Many simulations are exactly alike: distances are zero, and round-off must not count.
    rng = np.random.default_rng(7)
    x = rng.integers(0, 2, (2_000, 3)).astype(float)
    simulations = nre.Simulations({"mu": rng.normal(size=2_000)}, x)
    ratio = make_estimator({"mu": ()}, (3,))
    together = observation_check(ratio, simulations, x[:10], random_seed=2)
    assert together.attrs["verdict"] == "usual"
    for one, p_value in zip(x[:10], together["p_value"].to_numpy(), strict=True):
        alone = observation_check(ratio, simulations, one, random_seed=2)
        assert float(alone["p_value"][0]) == p_value


def test_bad_input():
    with pytest.raises(ValueError, match="observation_check: observed: 1 of 2 values are NaN"):
        check([1.0, np.nan])
    with pytest.raises(ValueError, match="observation_check: observed holds no observation"):
        check([])
    with pytest.raises(ValueError, match="at least 200 simulations, got 100"):
        check(1.0, simulations=TASK.simulate(100, random_seed=1))
    with pytest.raises(ValueError, match="observation"):
        check(1.0, simulations=nre.tasks.LinearGaussian().simulate(300, random_seed=1))


def test_several_that_are_further_than_all_simulations_are_foreign_together():
    """Of 20 observations 2,000 simulations cannot tell one, and 19 they can."""
    pairs = TASK.simulate(2_000, random_seed=3)
    x = np.random.default_rng(4).normal(0, 1, 20)
    one, many = x.copy(), x + 5_000
    one[0] = 5_000
    assert check(one, simulations=pairs).attrs["verdict"] == "not known"
    assert check(many, simulations=pairs).attrs["verdict"] == "foreign"


def test_how_many_are_beyond_all_is_bounded():
    # By counting: of m + n exchangeable numbers the k largest are all among the n.
    rng = np.random.default_rng(5)
    m, n = 20, 5
    ranks = rng.permuted(np.tile(np.arange(m + n), (100_000, 1)), axis=1)
    beyond = (ranks[:, :n] > ranks[:, n:].max(1)[:, None]).sum(1)
    for k in (2, 3):
        share = (beyond >= k).mean()
        assert share <= _together(k, n, m) + 4 * (share / 100_000) ** 0.5
        assert share > _together(k, n, m) / 3
    assert _together(1, n, m) == _together(0, n, m) == 1
