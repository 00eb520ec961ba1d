"""The five problems of the benchmark: their exact densities, and what is done next."""

import numpy as np
import pymc as pm
import pytest
from benchmarks.problems import counts, survival
from benchmarks.problems.boxes import EPIDEMIC, QUANTILES, RACE
from benchmarks.problems.follow import follow, next_of

import pymc_nre as nre

N = 20_000
# Standard errors: one of 4.5 or more comes up by chance in one of 150,000 tests.
ERRORS = 4.5


def of_box(problem, x, theta):
    if problem is EPIDEMIC:
        return problem.log_density(x, *(np.array([[value]]) for value in theta))[0]
    return problem.log_density(x, *(np.full((1, 1), value) for value in theta))[0]


def of_survival(problem, x, theta):
    return survival.log_density(x, *theta)


def of_counts(problem, x, theta):
    return counts.log_density(x, *theta)


SURVIVAL, COUNTS = survival.Survival(), counts.Counts()
KINDS = np.array([0.5, 0.3, 0.2])
CASES = {
    "g-and-k": (QUANTILES, of_box, (3.0, 1.0, 2.0, 0.5), (3.1, 1.05, 2.1, 0.48)),
    "race": (RACE, of_box, (2.5, 1.5, 0.5, 0.5), (2.3, 1.6, 0.55, 0.45)),
    "epidemic": (EPIDEMIC, of_box, (0.5, 0.2), (0.51, 0.2)),
    "survival": (SURVIVAL, of_survival, (0.8, 0.3), (0.6, 0.35)),
    "counts": (COUNTS, of_counts, (30, KINDS), (31, np.array([0.45, 0.33, 0.22]))),
}


@pytest.mark.parametrize(("problem", "log_density", "true", "other"), CASES.values(), ids=CASES)
def test_densities_are_those_of_the_simulators(problem, log_density, true, other):
    """Where x is simulated the mean of p(x | other) / p(x | true) is one."""
    rng = np.random.default_rng(1)
    names = problem.prior().named_vars
    rows = {k: np.broadcast_to(v, (N, *np.shape(v))) for k, v in zip(names, true, strict=True)}
    x = problem.simulator(rng, **rows)
    ratio = np.exp(log_density(problem, x, other) - log_density(problem, x, true))
    assert ratio.std() > 0.05  # the two can be told apart
    assert abs(ratio.mean() - 1) < ERRORS * ratio.std() / np.sqrt(N)


def test_the_exact_posterior_of_the_counts_is_that_of_a_grid():
    """Of one kind's share and of the number, where the other two kinds share the rest evenly."""
    x = COUNTS.data()
    exact = COUNTS.exact(x)
    animals, share = np.arange(5, 61), np.linspace(0, 1, 402)[1:-1]
    pooled = np.stack([x[:, 0], x[:, 1] + x[:, 2], 0 * x[:, 0]], -1)
    kinds = np.stack([share, 1 - share, np.ones_like(share)], -1)
    values = counts.log_density(pooled, animals[:, None, None], kinds[:, None]).sum(-1)
    values += np.log(1 - share)  # Dirichlet(1, 1, 1) of two kinds together: Beta(1, 2)
    weights = np.exp(values - values.max())
    weights /= weights.sum()
    of_animals, of_share = weights.sum(1), weights.sum(0)
    assert of_animals @ animals == pytest.approx(exact["animals"][0], rel=1e-6)
    assert of_share @ share == pytest.approx(exact["kinds[0]"][0], rel=1e-4)
    spread = of_share @ (share - of_share @ share) ** 2
    assert np.sqrt(spread) == pytest.approx(exact["kinds[0]"][1], rel=1e-3)


def test_what_is_done_next_is_what_is_said_first_and_not_done_yet():
    said = ["First nre.center(ratio, around=idata); then nre.center(ratio, nre.Online(...))."]
    assert next_of(said, ["defaults"], RACE) == "center around the posterior"
    assert next_of(said, ["center around the posterior"], RACE) == "fine-tune"
    assert next_of(said, ["center around the posterior", "fine-tune"], RACE) is None
    assert next_of(["train on a narrower prior"], [], RACE) == "train around the posterior"
    assert next_of(["train on a narrower prior"], [], SURVIVAL) is None
    assert next_of([], [], RACE) is None
    assert next_of(["Train longer, or on more simulations."], [], RACE).startswith("train on four")


def test_what_a_model_says_of_too_few_simulations_is_followed_by_a_measurement():
    mean = nre.tasks.GaussianMean()
    ratio = mean.estimator().replace(loss="NREC()")  # as if it were trained
    ratio = nre.trial_budget(ratio, mean.simulate(1_000, random_seed=1)).attach(ratio)
    with pm.Model(), pytest.warns(nre.TrialsWarning) as told:
        nre.RatioLikelihood("x", ratio, mu=pm.Uniform("mu", -9, 9), observed=np.zeros(50))
    said = [str(told[0].message)]
    assert next_of(said, [], RACE) == "measure the budget"
    assert next_of(said, ["measure the budget"], RACE) is None
    assert next_of([ratio.budget.in_short()], [], RACE) is None


@pytest.mark.slow
def test_a_problem_is_followed_to_the_end():
    """With so little training it is wrong, and that is said."""
    found = follow(EPIDEMIC, simulations=2_000, epochs=2, draws=100)
    first = found["stations"][0]
    assert first["station"] == "defaults"
    assert set(first["error"]) == {"beta", "gamma"}
    assert max(map(abs, first["error"].values())) > 0.3
    assert first["words"]
