"""The benchmark's own parts: definitions, equations, sampler, two-sample test, resuming."""

import warnings

import numpy as np
import pytest
from benchmarks.combinations import measure_all, parser_of
from benchmarks.results import Results
from benchmarks.sbibm import lotka_volterra, sir, slcp
from benchmarks.sbibm.catalog import TASKS
from benchmarks.sbibm.classifier_test import c2st
from benchmarks.sbibm.priors import Box, Normal
from benchmarks.sbibm.published import BUDGETS, published
from benchmarks.sbibm.recipes import Recipe, combined, trained
from benchmarks.sbibm.report import comparison, structure
from benchmarks.sbibm.sampler import sample
from scipy.integrate import solve_ivp
from sklearn.neural_network import MLPClassifier

import pymc_nre as nre

# Mean and covariance are checked to this many standard errors: with 60 of them, one of 4.5 or
# more comes up by chance in one of 2,000 tests, and seeds are fixed.
_ERRORS = 4.5


def check_mean(draws, mean):
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - mean) < _ERRORS * error).all()


def repeated(theta, n=20_000):
    return np.repeat(np.atleast_2d(np.asarray(theta, float)), n, 0)


@pytest.mark.parametrize("name", ["gaussian_linear", "gaussian_linear_uniform"])
def test_gaussian_observations_are_means_with_a_variance_of_a_tenth(name):
    theta = repeated(np.linspace(-0.9, 0.9, 10))
    x = TASKS[name].simulate(np.random.default_rng(1), theta)
    check_mean(x, theta[0])
    check_mean((x - theta) ** 2, 0.1)


def test_halves_of_the_mixture_share_a_scale_over_both_numbers():
    x = TASKS["gaussian_mixture"].simulate(np.random.default_rng(1), repeated([3.0, -4.0]))
    check_mean(x, [3.0, -4.0])
    squares = (x - [3.0, -4.0]) ** 2
    check_mean(squares, 0.5 * (1 + 0.01))
    check_mean(squares.prod(1), 0.5 * (1 + 0.01**2))  # (.505)^2 = .255 if each had its own


def test_slcp_points_have_squared_scales_and_a_correlation():
    theta = np.array([0.5, -1.0, -1.2, 0.8, 0.6])
    x = TASKS["slcp"].simulate(np.random.default_rng(1), repeated(theta)).reshape(-1, 4, 2)
    check_mean(x.reshape(-1, 2), theta[:2])
    d = (x - theta[:2]).reshape(-1, 2)
    expected = [1.2**4, 0.8**4, np.tanh(0.6) * 1.2**2 * 0.8**2]
    check_mean(np.stack([d[:, 0] ** 2, d[:, 1] ** 2, d.prod(1)], -1), expected)
    check_mean((x[:, 0] - theta[:2]) * (x[:, 1] - theta[:2]), 0.0)  # points are independent


def test_distractors_hide_the_same_eight_numbers_among_others():
    theta = TASKS["slcp"].prior.draw(np.random.default_rng(1), 50)
    plain = TASKS["slcp"].simulate(np.random.default_rng(2), theta)
    hidden = TASKS["slcp_distractors"].simulate(np.random.default_rng(2), theta)
    back = hidden[:, np.argsort(slcp._mixture()[2])]
    np.testing.assert_array_equal(back[:, :8], plain)
    both = [
        TASKS["slcp"].log_likelihood(theta, plain[0]),
        TASKS["slcp_distractors"].log_likelihood(theta, hidden[0]),
    ]
    np.testing.assert_allclose(*both)


def test_two_moons_are_a_half_ring():
    x = TASKS["two_moons"].simulate(np.random.default_rng(1), repeated([0.3, 0.5]))
    u, v = (x - [-0.8 / np.sqrt(2) + 0.25, 0.2 / np.sqrt(2)]).T
    assert (u > 0).all()
    check_mean(np.hypot(u, v)[:, None], 0.1)
    check_mean((np.hypot(u, v)[:, None] - 0.1) ** 2, 0.01**2)
    check_mean(np.arctan2(v, u)[:, None] ** 2, np.pi**2 / 12)


def test_spikes_are_logistic_and_their_statistics_sufficient():
    raw, summed = TASKS["bernoulli_glm_raw"], TASKS["bernoulli_glm"]
    theta = repeated(summed.prior.draw(np.random.default_rng(3), 1))
    spikes = raw.simulate(np.random.default_rng(1), theta)
    statistics = summed.simulate(np.random.default_rng(1), theta)
    np.testing.assert_array_equal(statistics[:, 0], spikes.sum(1))  # offset: how many spikes
    others = summed.prior.draw(np.random.default_rng(4), 5)
    log_odds = raw.log_likelihood(others, spikes[0]) - summed.log_likelihood(others, statistics[0])
    np.testing.assert_allclose(log_odds, 0.0, atol=1e-10)
    np.testing.assert_allclose(raw.log_likelihood(np.zeros((1, 10)), spikes[0]), -100 * np.log(2))


def rates(model, theta):
    """Slopes of the models as they are usually written, for an adaptive solver."""
    if model is sir:
        b, g = theta
        return lambda t, y: (-b * y[0] * y[1], b * y[0] * y[1] - g * y[1]), [1 - 1e-6, 1e-6], 1
    a, b, c, d = theta
    return lambda t, y: (a * y[0] - b * y[0] * y[1], d * y[0] * y[1] - c * y[1]), [30.0, 1.0], None


@pytest.mark.parametrize("model", [lotka_volterra, sir], ids=["lotka_volterra", "sir"])
def test_equations_agree_with_an_adaptive_solver(model):
    prior = model.TASKS[0].prior
    log_theta = prior.draw(np.random.default_rng(1), 20)
    solved = sir.infected if model is sir else lotka_volterra.log_populations
    for values, theta in zip(solved(log_theta), np.exp(log_theta), strict=True):
        slope, start, part = rates(model, theta)
        times = model._EVERY * np.arange(model._TIMES)
        exact = solve_ivp(slope, (0, times[-1]), start, "LSODA", times, rtol=1e-10, atol=1e-13).y
        if part is None:
            # A hundredth of the noise.
            np.testing.assert_allclose(values, np.log(exact.clip(1e-10, 1e4)).ravel(), atol=1e-3)
        else:
            # 1,000 people are tested: a tenth of one of them.
            np.testing.assert_allclose(values, exact[part], atol=1e-4)


def test_populations_that_explode_are_failures():
    x = TASKS["lotka_volterra"].simulate(np.random.default_rng(1), np.full((1, 4), 300.0))
    assert np.isnan(x).all()


@pytest.mark.parametrize("name", TASKS)
def test_truth_beats_other_parameters_and_shapes_fit(name):
    task, rng = TASKS[name], np.random.default_rng(1)
    n = 8 if name in ("lotka_volterra", "sir") else 40  # equations take their time
    theta = task.prior.draw(rng, n)
    x = task.simulate(rng, theta)
    assert np.isfinite(task.features(x)).all()
    own = np.array([task.log_likelihood(theta[i : i + 1], x[i])[0] for i in range(n)])
    other = np.array([task.log_likelihood(theta[i - 1 : i or None], x[i])[0] for i in range(n)])
    assert (own > other).mean() > 0.8
    assert task.name in published()
    assert set(published()[task.name]["NRE"]) == set(BUDGETS)


def two_peaks(theta):
    """A third of the mass around (-2, -2), two thirds around (2, 2), standard deviation .2."""
    near, far = (-0.5 * np.square((theta - at) / 0.2).sum(-1) for at in (-2.0, 2.0))
    return np.logaddexp(near, far + np.log(2))


def test_sampler_keeps_the_mass_of_modes():
    draws = sample(Box(-5.0, 5.0, 2), two_peaks, 4_000, np.random.default_rng(1))
    right = draws[:, 0] > 0
    # Resampling at about ten powers, each as noisy as 2,000 independent draws would be.
    assert abs(right.mean() - 2 / 3) < 4 * np.sqrt(10 * 2 / 9 / 2_000)
    for mode, at in ((right, 2.0), (~right, -2.0)):
        np.testing.assert_allclose(draws[mode].mean(0), at, atol=0.03)
        np.testing.assert_allclose(draws[mode].std(0), 0.2, rtol=0.1)


def test_sampler_keeps_correlations_of_ten_numbers():
    covariance = 0.9 ** np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    precision = np.linalg.inv(0.01 * covariance)

    def log_likelihood(theta):
        return -0.5 * np.einsum("ni,ij,nj->n", theta - 0.5, precision, theta - 0.5)

    prior = Normal.independent(np.zeros(10), np.ones(10))
    draws = sample(prior, log_likelihood, 4_000, np.random.default_rng(1))
    expected = np.linalg.inv(precision + np.eye(10))
    mean = expected @ precision @ np.full(10, 0.5)
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose((draws.mean(0) - mean) / scale, 0.0, atol=0.15)
    whitened = np.linalg.solve(np.linalg.cholesky(expected), (draws - mean).T)
    np.testing.assert_allclose(np.cov(whitened), np.eye(10), atol=0.2)


@pytest.mark.one_python
def test_c2st_is_a_half_for_equals_and_high_for_others():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 1_500, 2))
    # Accuracy on 3,000 points has a standard error of .009.
    assert abs(c2st(first, second) - 0.5) < 0.04
    # The best classifier of normals two standard deviations apart is right in Phi(1) = .841.
    assert abs(c2st(first, second + np.array([2.0, 0.0])) - 0.841) < 0.04
    np.testing.assert_array_equal(c2st(first, second), c2st(first, second))


def test_c2st_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    first = rng.normal(size=(1_500, 2))
    second = first[rng.permutation(1_500)] + rng.normal([1.0, 0.0], 0.7, (1_500, 2))
    x = np.concatenate([first, second]).astype(np.float32)
    x, label = (x - first.mean(0)) / first.std(0, ddof=1), np.repeat([0, 1], 1_500)
    order = rng.permutation(3_000)
    training, held_out = order[600:], order[:600]
    theirs = MLPClassifier((20, 20), max_iter=10_000, random_state=1)
    accuracy = theirs.fit(x[training], label[training]).score(x[held_out], label[held_out])
    # On 600 points theirs has a standard error of .019, ours, on all 3,000, of .009.
    assert abs(c2st(first, second) - accuracy) < 3 * np.hypot(0.019, 0.009)


def test_members_are_trained_once_and_combined_by_their_mean(tmp_path):
    recipe = Recipe(2, {"epochs": 1, "batch_size": 50, "network": nre.networks.MLP((4,))})
    task = TASKS["two_moons"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.TrainingWarning)  # nothing is learned in one epoch
        ratios = trained(task, 400, recipe, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    assert len({ratio.specification for ratio in ratios}) == 1
    assert trained(task, 400, recipe, tmp_path) == ratios
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    x, theta = np.array([0.1, -0.2]), task.prior.draw(np.random.default_rng(1), 30)
    mean = np.mean([ratio.log_ratio(x, theta=theta) for ratio in ratios], axis=0)
    np.testing.assert_allclose(combined(ratios, x)(theta), mean, atol=1e-5)


def test_results_are_kept_and_a_cut_line_is_done_again(tmp_path):
    results, calls = Results(tmp_path / "results.jsonl", ("task", "observation")), []

    def compute():
        calls.append(1)
        return {"c2st": 0.6}

    for number in (1, 1, 2):
        assert results.get(compute, task="slcp", observation=number)["c2st"] == 0.6
    assert len(calls) == 2
    text = results.path.read_text()
    results.path.write_text(text[:-10])  # killed while it wrote
    assert results.get(compute, task="slcp", observation=2)["c2st"] == 0.6
    assert len(calls) == 3
    assert len(results.read()) == 2


def test_points_add_up_to_the_ratio_of_their_observation(tmp_path):
    task = TASKS["slcp"]
    recipe = Recipe(1, {"epochs": 1, "network": nre.networks.MLP((4,))}, iid=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nre.TrainingWarning)  # nothing is learned in one epoch
        [ratio] = trained(task, 300, recipe, tmp_path)
    assert ratio.event_shape == (2,)
    theta = task.prior.draw(np.random.default_rng(1), 30)
    x = task.simulator(np.random.default_rng(2), theta[:1])
    points = task.as_points(x)[0]
    one_by_one = sum(ratio.log_ratio(point, theta=theta) for point in points)
    np.testing.assert_allclose(combined([ratio], points)(theta), one_by_one, atol=1e-4)
    np.testing.assert_array_equal(
        task.point_simulator(np.random.default_rng(2), theta[:1])[0], points
    )


def test_both_tables_of_points_name_what_was_trained():
    key = {"task": "slcp", "recipe": "points", "simulations": 10_000, "draws": 10_000, "seed": 1}
    records = [key | {"observation": k, "c2st": 0.6 + k / 100} for k in (1, 2)]
    table = structure([*records, key | {"recipe": "points_five", "observation": 1, "c2st": 0.58}])
    assert "| 10,000 | one network, `train`'s defaults |" in table.markdown()
    assert "0.615 | 0.610 to 0.620 | 1, 2 | 1 |" in table.markdown()
    assert "mean of five such networks | 0.947 | 0.917 | 0.904 | 0.620 | 0.580" in table.markdown()


def test_table_has_one_network_beside_five():
    key = {"task": "sir", "simulations": 10_000, "draws": 10_000, "seed": 1}
    one, five = (
        [key | {"recipe": recipe, "observation": k, "c2st": c2st + k / 100} for k in (1, 2)]
        for recipe, c2st in (("default", 0.6), ("default_five", 0.56))
    )
    text = comparison([*one, *five], 10_000).markdown()
    assert (
        "| sir | 0.770 | 0.646 | 0.723 | 0.561 | 0.615 | 0.575 | 0.570 to 0.580 | 1, 2 | 1 and 1 |"
        in text
    )
    assert "| two_moons | 0.761 | 0.582 | 0.595 | 0.513 | - | - | - | - | - |" in text
    assert "| mean of these | 0.770 | 0.646 | 0.723 | 0.561 | 0.615 | 0.575 |" in text
    alone = comparison(one, 10_000).markdown()
    assert "0.561 | 0.615 | - | 0.610 to 0.620 | 1, 2 | 1 |" in alone
    again = [record | {"seed": 11, "c2st": record["c2st"] + 0.1} for record in one]
    twice = comparison([*one, *again, *five], 10_000).markdown()
    assert "0.561 | 0.665 | 0.575 | 0.570 to 0.580 | 1, 2 | 2 and 1 |" in twice


def test_combinations_are_measured_once(tmp_path, capsys):
    options = parser_of("").parse_args(["--work", str(tmp_path), "--out", str(tmp_path)])
    calls = []

    def measured(task, seed):
        calls.append((task, seed))
        return {"found": 10 * seed}

    def table(records):
        return str(sum(record["found"] for record in records.values()))

    wanted = [("slcp", 1), ("slcp", 2)]
    for some in (wanted[:1], wanted):
        measure_all("made", ("task", "seed"), some, measured, table, options)
    assert calls == wanted
    assert (tmp_path / "made.inc").read_text() == "30"
    assert capsys.readouterr().out.count("\n") == 3
