"""The drift-diffusion example: its simulator, its exact density, and how good its ratio is.

The slow tests print the tables of docs/examples.md.
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
import xarray as xr
from example_modules import imported
from scipy.optimize import minimize
from scipy.stats import multivariate_t

import pymc_nre as nre

# v, a, z, t: ordinary; fast and close to a boundary; slow; drifting away from a close boundary
CASES = [(0.8, 1.3, 0.45, 0.2), (-3, 0.6, 0.2, 0.3), (0, 2.5, 0.5, 0.1), (3, 1.0, 0.2, 0.6)]


@pytest.fixture(scope="module")
def examples():
    with imported("drift_diffusion", "wiener") as modules:
        yield modules


@pytest.fixture(scope="module")
def exact(examples):
    """Log densities ``(n,)`` of x ``(n, 2)`` and theta ``(n, 4)``; and with their gradients."""
    x, theta = pt.dmatrix(), pt.matrix(shape=(None, 4), dtype="float64")
    log_p = examples["wiener"].log_density(x, *(theta[:, j] for j in range(4)))
    gradient = pytensor.grad(log_p.sum(), theta)
    value, both = (
        pytensor.function([x, theta], log_p),
        pytensor.function([x, theta], [log_p, gradient]),
    )
    return value, both


def prior_ends(examples):
    """Of the training prior, lower ones first, ``(2, 4)``."""
    return np.array(list(examples["drift_diffusion"].RANGES.values())).T


def rows(theta, n):
    return np.tile(np.asarray(theta, float), (n, 1))


def times(theta, n):
    """Decision times from where to where all of the density is, evenly spaced in their log."""
    return np.geomspace(1e-4, 8, n) * theta[1] ** 2


def densities(value, theta, n=20_000):
    """Of both responses, lower first, ``(2, n)``, at the times above."""
    decision = times(theta, n)
    x = (np.column_stack([theta[3] + decision, np.full(n, side)]) for side in (-1.0, 1.0))
    return np.array([np.exp(value(part, rows(theta, n))) for part in x])


@pytest.mark.one_python
@pytest.mark.parametrize("theta", CASES)
def test_density_integrates_to_one(exact, theta):
    # The trapezoidal rule in log time: where all vanishes at both ends it converges exponentially.
    decision, step = times(theta, 20_000), np.log(8 / 1e-4) / (20_000 - 1)
    total = (densities(exact[0], theta) * decision).sum() * step
    assert total == pytest.approx(1, abs=1e-9)


def both_series(examples, s):
    short, long = pt.dvectors(2)
    wiener = examples["wiener"]
    series = [wiener.log_short(short, long), wiener.log_long(short, long)]
    w = np.linspace(0.05, 0.95, 19)
    return pytensor.function([short, long], series)(np.full(19, s), w)


def test_both_series_agree_where_they_meet(examples):
    one, other = both_series(examples, examples["wiener"].SWITCH)
    np.testing.assert_allclose(one, other, atol=1e-13)


@pytest.mark.parametrize("s", [0.02, 2.0])
def test_neither_series_would_do_alone(examples, s):
    one, other = both_series(examples, s)
    assert not np.allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("rt", [0.21, 0.25, 0.5, 0.537, 0.539, 1.0, 5.0])  # s = 0.2 at 0.538
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_gradient_is_that_of_finite_differences(exact, rt, side):
    value, both = exact
    x, theta, h = np.array([[rt, side]]), np.array([CASES[0]]), 1e-6
    gradient = both(x, theta)[1][0]
    ends = [[value(x, theta + sign * h * e)[0] for sign in (1, -1)] for e in np.eye(4)]
    differences = np.array([(up - down) / (2 * h) for up, down in ends])
    # Differences of numbers of size l are good to l * 1e-16 / h, and their h^2 to the rest.
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6)


def test_nobody_responds_before_t(exact):
    log_p, gradient = exact[1](np.array([[0.1, 1.0], [0.2, -1.0]]), rows(CASES[0], 2))
    assert np.all(log_p == -np.inf)
    assert np.all(np.isfinite(gradient))


N = 50_000
# The largest distance of the distribution functions, times the root of N, is above K in
# 2 exp(-2 K^2) of all runs (Kolmogorov's limit): one in a million.
KOLMOGOROV = 2.7


def distance(value, theta, x):
    """Kolmogorov's, of signed response times ``rt * response``, times the root of their number."""
    grid = times(theta, 20_000)
    masses = densities(value, theta) * grid * np.log(grid[1] / grid[0])
    lower, upper = masses.cumsum(1) - masses / 2
    at, below = theta[3] + grid, masses[0].sum()
    signed = np.sort(x[:, 0] * x[:, 1])
    expected = np.where(
        signed < 0,
        below - np.interp(-signed, at, lower, left=0),
        below + np.interp(signed, at, upper, left=0),
    )
    steps = np.arange(len(x) + 1) / len(x)
    furthest = max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max())
    return furthest * len(x) ** 0.5


@pytest.mark.parametrize("theta", CASES)
def test_simulator_draws_from_the_density(examples, exact, theta):
    x = examples["wiener"].simulator(np.random.default_rng(1), *rows(theta, N).T)
    assert distance(exact[0], theta, x) < KOLMOGOROV


def euler(rng, v, a, z, t, step=0.025):
    """What the simulator would be if a path were only looked at between its steps."""
    place, clock, going = z.copy(), 0.0, np.arange(len(v))
    time, response = np.empty((2, len(v)))
    while len(going):
        place[going] += step * (a * v)[going] + step**0.5 * rng.normal(size=len(going))
        clock += step
        out = (place[going] < 0) | (place[going] > 1)
        time[going[out]], response[going[out]] = clock, np.sign(place[going[out]] - 0.5)
        going = going[~out]
    return np.column_stack([t + a**2 * time, response])


@pytest.mark.parametrize("theta", CASES)
def test_a_simulator_that_looks_at_steps_alone_is_told_from_it(exact, theta):
    x = euler(np.random.default_rng(1), *rows(theta, N).T)
    assert distance(exact[0], theta, x) > 5 * KOLMOGOROV


def test_scores_have_mean_zero_over_the_whole_prior(examples, exact):
    """Each row of a batch has parameters of its own."""
    rng = np.random.default_rng(2)
    theta = rng.uniform(*prior_ends(examples), size=(N, 4))
    scores = exact[1](examples["wiener"].simulator(rng, *theta.T), theta)[1]
    # One score at a time, and times each parameter: 20 sums, 5 errors once in 100,000 runs.
    for weight in (np.ones(N), *theta.T):
        weighted = scores * weight[:, None]
        assert np.all(np.abs(weighted.mean(0)) < 5 * weighted.std(0) / N**0.5)
    wrong = exact[1](
        examples["wiener"].simulator(rng, *theta.T), theta - np.array([0, 0, 0, 0.01])
    )[1]
    assert np.any(np.abs(wrong.mean(0)) > 5 * wrong.std(0) / N**0.5)


SUBJECTS, TRIALS, DRAWS = 20, 1_000, 500
AROUND = {"then around the posterior": 0.1, "the same, accuracy=0.05": 0.05}
# Where people are; the ranges of the training are wider.
TRUTHS = np.array([(-2, 2), (0.8, 1.6), (0.4, 0.6), (0.2, 0.5)]).T


def proposal(likelihood, start, ends):
    """Heavy tails around the peak of ``likelihood``, theta ``(4,)`` -> value and gradient."""

    def down(theta):
        value, gradient = likelihood(theta)
        return -value, -gradient

    peak = minimize(down, start, jac=True, method="L-BFGS-B", bounds=ends.T).x
    steps = 1e-4 * np.eye(4)
    hessian = np.array([down(peak + h)[1] - down(peak - h)[1] for h in steps]) / 2e-4
    return multivariate_t(peak, np.linalg.inv((hessian + hessian.T) / 2), df=5)


def weighted(log_p, log_q, theta):
    """Mean and sd ``(4,)`` of theta ``(m, 4)``, and the effective number of draws."""
    weights = np.exp(log_p - log_q - (log_p - log_q).max())
    weights /= weights.sum()
    mean = weights @ theta
    return mean, (weights @ (theta - mean) ** 2) ** 0.5, 1 / (weights**2).sum()


def of_ratio(ratio, x):
    """Value and gradient of its log-likelihood, theta ``(4,)``."""

    def summed(theta):
        return tuple(part.sum(0) for part in ratio.evaluator.value_and_gradient(theta[None], x))

    return summed


def draws_of(likelihoods, start, ends, rng):
    """Draws inside the ends around the peaks of all likelihoods, and their log density."""
    proposals = [proposal(one, start, ends) for one in likelihoods]
    theta = np.concatenate([q.rvs(DRAWS, random_state=rng) for q in proposals])
    theta = theta[np.all((theta > ends[0]) & (theta < ends[1]), axis=1)]
    return theta, np.logaddexp.reduce([q.logpdf(theta) for q in proposals])


def errors_of(ratios, exact, x, start, ends, rng):
    """A row for each ratio: errors of means in exact sds, ratios of sds, effective draws.

    All posteriors are weighted draws, the same ones.
    """

    def by_density(theta):
        return tuple(part.sum(0) for part in exact[1](x, rows(theta, len(x))))

    likelihoods = [by_density, *(of_ratio(ratio, x) for ratio in ratios)]
    theta, log_q = draws_of(likelihoods, start, ends, rng)
    found = [weighted(np.array([f(t)[0] for t in theta]), log_q, theta) for f in likelihoods]
    mean, sd, n = found[0]
    return [[*(m - mean) / sd, *s / sd, min(n, k)] for m, s, k in found[1:]]


def around(ratio, x, start, ends, rng, **options):
    """The ratio centered around its own posterior."""
    likelihood = of_ratio(ratio, x)
    theta, log_q = draws_of([likelihood], start, ends, rng)
    log_weights = np.array([likelihood(t)[0] for t in theta]) - log_q
    weights = np.exp(log_weights - log_weights.max())
    chosen = theta[rng.choice(len(theta), (1, 1_000), p=weights / weights.sum())]
    posterior = xr.Dataset(
        {name: (("chain", "draw"), chosen[..., j]) for j, name in enumerate("vazt")}
    )
    with pm.Model() as model:
        own = {name: pm.Uniform(name, *ends[:, j]) for j, name in enumerate("vazt")}
        nre.RatioLikelihood("x", ratio, observed=x, engine="torch", **own)
    return nre.center(ratio, around={"posterior": posterior}, model=model, **options)


def table_of_one_subject(ratios, examples, exact):
    """Errors for 20 subjects with 1,000 trials each: of ``ratios``, and of the last around."""
    parts, (lower, upper) = [], prior_ends(examples)
    simulator = nre.Simulator(examples["wiener"].simulator, batched=True)
    columns = pd.MultiIndex.from_product([["error / sd", "sd ratio"], list("vazt")])
    columns = columns.append(pd.MultiIndex.from_tuples([("effective", "draws")]))
    for subject, truth in enumerate(np.random.default_rng(11).uniform(*TRUTHS, (SUBJECTS, 4))):
        rng = np.random.default_rng([11, subject])
        x = simulator.function(rng, *rows(truth, TRIALS).T)
        ends = np.array([lower, np.minimum(upper, [9, 9, 9, x[:, 0].min() - 0.003])])
        start = np.clip(truth, ends[0] + 0.01, ends[1] - 0.01)
        last = list(ratios.values())[-1]
        options = {"simulator": simulator, "random_seed": subject, "progressbar": False}
        tried = ratios | {
            name: around(last, x, start, ends, rng, accuracy=accuracy, **options)
            for name, accuracy in AROUND.items()
        }
        found = errors_of(tried.values(), exact, x, start, ends, rng)
        parts.append(pd.DataFrame(found, tried, columns))
    return pd.concat(parts, keys=range(SUBJECTS), names=["subject", "ratio"])


def by_exact_scores(ratio, examples, exact, ranges):
    """Bias with 1,000 trials, and scatter, in posterior sds: root mean squares over ``ranges``."""
    rng, found = np.random.default_rng(3), []
    for draw in rng.uniform(*ranges, size=(200, 4)):
        theta = rows(draw, 5_000)
        x = examples["wiener"].simulator(rng, *theta.T)
        score = exact[1](x, theta)[1]
        wrong = ratio.evaluator.value_and_gradient(theta, x)[1] - score
        inverse = np.linalg.inv(np.cov(score.T))
        shares = wrong @ inverse / inverse.diagonal() ** 0.5
        found.append([TRIALS**0.5 * shares.mean(0), shares.std(0)])
    return np.sqrt(np.square(found).mean(0)).ravel()


def table_by_exact_scores(ratios, examples, exact):
    """Over the training prior and where the subjects are from."""
    found = {
        (name, where): by_exact_scores(ratio, examples, exact, ranges)
        for name, ratio in ratios.items()
        for where, ranges in {"prior": prior_ends(examples), "subjects": TRUTHS}.items()
    }
    columns = pd.MultiIndex.from_product([["bias", "scatter"], list("vazt")])
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def summary(table):
    """Over all subjects, a row for each ratio and parameter."""
    parts = {}
    for name, part in table.groupby(level="ratio", sort=False):
        errors, widths = part["error / sd"].abs(), part["sd ratio"]
        columns = {"mean error": errors.mean(), "largest": errors.max(), "sd ratio": widths.mean()}
        parts[name] = pd.DataFrame(columns | {"least": widths.min(), "most": widths.max()})
    return pd.concat(parts)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.filterwarnings("default")  # PyMC tells of forks, ArviZ of its next version
def test_one_subject(examples, exact, capsys):
    trained, centered = examples["drift_diffusion"].training(quick=False, seed=1)
    ratios = {"as trained": trained, "centered": centered}
    table = table_of_one_subject(ratios, examples, exact)
    found = summary(table)
    with capsys.disabled():
        print(f"\n{found.round(2).to_string()}\n{trained.budget}\n{centered.budget}")
        print(table_by_exact_scores(ratios, examples, exact).round(2).to_string())
    # Below that many effective draws the errors would be those of the weights.
    assert table["effective", "draws"].min() >= 100
    assert found.loc["centered", "mean error"].max() <= 0.5
    assert (found.loc["centered", "sd ratio"] - 1).abs().max() <= 0.1
    # Of a mean error accuracy makes 0.08 and 0.04, scatter 0.06 to 0.09; all seeds are fixed.
    for name, largest in zip(AROUND, (0.12, 0.1), strict=True):
        assert found.loc[name, "mean error"].max() <= largest
        assert (found.loc[name, "sd ratio"] - 1).abs().max() <= 0.05


def first_order(ratio, exact, data, drawn, example):
    """By how many sds the ratio moves posterior means, of draws by the exact likelihood.

    The derivative of a posterior mean in a weight on an added term is the covariance with it. Here
    the term is what the ratio's log-likelihood is wrong by.
    """
    x, subject = data[example.COLUMNS].to_numpy(), data["subject"].to_numpy()
    numbers = example.flat(drawn).reshape(-1, sum(v[0, 0].size for v in drawn.values()))
    own = np.stack([drawn[name].reshape(len(numbers), -1) for name in example.RANGES], axis=-1)
    each = (theta[subject] for theta in own)
    wrong = np.array([(ratio.evaluator.value(t, x) - exact[0](x, t)).sum() for t in each])
    centered = numbers - numbers.mean(0)
    return (centered * (wrong - wrong.mean())[:, None]).mean(0) / numbers.std(0)


@pytest.mark.slow
@pytest.mark.timeout(14_400)
@pytest.mark.filterwarnings("default")
def test_hierarchy(examples, exact, capsys):
    example = examples["drift_diffusion"]
    truth, data = example.people(np.random.default_rng(2), 20, 200)
    model = example.hierarchy(data, example.by_density)
    settings = {"tune": 300, "draws": 500, "chains": 2, "random_seed": 1}
    _, drawn = example.sample(model, **settings)
    table = example.compare(drawn, None, truth)
    trained, centered = example.training(quick=False, seed=1)
    for name, ratio in {"as trained": trained, "centered": centered}.items():
        table[name] = first_order(ratio, exact, data, drawn, example)
    found = {
        name: example.compare(draws, drawn, truth)
        for name, draws in by_both_ratios(centered, data, settings | {"chains": 1}, example)
    }
    with capsys.disabled():
        print(f"\n{table.round(2).to_string()}")
        for name, part in found.items():
            print(f"{name}\n{part.round(2).to_string()}")
    assert table["ESS"].min() >= 400
    assert table["centered"].abs().mean() <= 0.3
    for part in found.values():
        assert part["error / sd"].abs().mean() <= 0.2
        assert abs(part["sd ratio"].mean() - 1) <= 0.05


def by_both_ratios(centered, data, settings, example):
    """Draws of NUTS by the centered ratio, and by that centered around the first of them."""
    model = example.hierarchy(data, example.by_ratio(centered))
    idata, drawn = example.sample(model, **settings)
    yield "centered", drawn
    options = {"random_seed": 1, "progressbar": False}
    local = nre.center(centered, around=idata, model=model, **options)
    model = example.hierarchy(data, example.by_ratio(local))
    yield "then around the posterior", example.sample(model, **settings)[1]
