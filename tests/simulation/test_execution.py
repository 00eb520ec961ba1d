"""Prior draws through a simulator: streams, executors, failures, shapes, interruption."""

import functools
import multiprocessing
import os
import re
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre import SimulationError, SimulationWarning
from pymc_nre.simulation import execution
from pymc_nre.simulation import prior as prior_module
from pymc_nre.simulation.execution import BLOCK


def prior():
    return {"mu": pm.Uniform.dist(-10.0, 10.0)}


def normal(rng, mu):
    return rng.normal(mu, 1.0)


def simulate(simulator=normal, n=30, **options):
    options = {"random_seed": 1, "progressbar": False} | options
    return nre.simulate(options.pop("prior", None) or prior(), simulator, n, **options)


def assert_identical(one, other):
    assert one.layout == other.layout
    for name, value in one.parameters.items():
        np.testing.assert_array_equal(value, other.parameters[name])
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.log_prior, other.log_prior)
    assert one.n_failed == other.n_failed


@pytest.fixture(scope="module", params=["thread", "process"])
def pools(request):
    """Executors of one and of two workers."""
    if request.param == "thread":
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
            yield one, two
        return
    # Not by plain forking: pytest's process has threads. The server imports once for all.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pymc_nre.simulation.execution"])
    with (
        ProcessPoolExecutor(1, mp_context=context) as one,
        ProcessPoolExecutor(2, mp_context=context) as two,
    ):
        yield one, two


@pytest.fixture
def one_draw_per_task(monkeypatch):
    """Tasks as short as they get, which needs no slow simulator."""
    monkeypatch.setattr(execution, "_TASK_SECONDS", 0.0)


# --- what comes back -------------------------------------------------------------------------


def test_names_shapes_and_log_prior():
    given = {"mu": pm.Normal.dist(0.0, 3.0), "beta": pm.Normal.dist(shape=2)}
    seen = []

    def simulator(rng, mu, beta):
        seen.append((np.shape(mu), np.shape(beta)))
        return np.outer(rng.normal(mu, 1.0, size=3), beta)

    simulations = simulate(simulator, 20, prior=given)
    assert set(seen) == {((), (2,))}
    assert simulations.parameters["mu"].shape == (20,)
    assert simulations.parameters["beta"].shape == (20, 2)
    assert simulations.x.shape == (20, 3, 2)
    assert simulations.event_shape == (3, 2)
    assert simulations.log_prior.shape == (20,)
    assert simulations.simulator.function is simulator
    assert not simulations.simulator.batched


def test_a_model_and_a_dict_agree():
    with pm.Model() as model:
        mu = pm.Normal("mu", 0.0, 3.0)
        pm.Normal("beta", mu, shape=2)
    mu = pm.Normal.dist(0.0, 3.0)
    by_dict = {"mu": mu, "beta": pm.Normal.dist(mu, shape=2)}
    one, other = (simulate(lambda rng, mu, beta: beta, 2_000, prior=p) for p in (model, by_dict))
    for name, sd in (("mu", 3.0), ("beta", np.sqrt(10.0))):
        for draws in (one.parameters[name], other.parameters[name]):
            standard_error = sd / np.sqrt(2_000)
            np.testing.assert_array_less(np.abs(draws.mean(0)), 4 * standard_error)
            np.testing.assert_allclose(draws.std(0), sd, rtol=4 / np.sqrt(2 * 2_000))
    # Evaluated at the same points, the densities are the same numbers.
    again = nre.Simulations(one.parameters, one.x, prior=by_dict)
    np.testing.assert_allclose(again.log_prior, one.log_prior, rtol=1e-12)


def test_observations_have_the_distribution():
    simulations = simulate(n=4_000)
    residuals = simulations.x - simulations.parameters["mu"]
    assert abs(residuals.mean()) < 4 / np.sqrt(4_000)
    assert abs(residuals.std() - 1) < 4 / np.sqrt(2 * 4_000)
    # The twin: observations that belong to their neighbor's parameters.
    shifted = simulations.x - np.roll(simulations.parameters["mu"], 1)
    assert abs(shifted.std() - 1) > 4 / np.sqrt(2 * 4_000)


def test_integer_and_boolean_observations():
    simulations = simulate(lambda rng, mu: mu > 0)
    np.testing.assert_array_equal(simulations.x, simulations.parameters["mu"] > 0)
    assert simulations.x.dtype == float


def test_a_hidden_prior_attribute_is_not_needed_for_one_simulation():
    simulations = simulate(n=1)
    assert simulations.x.shape == simulations.parameters["mu"].shape == (1,)


# --- random streams --------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [False, True])
def test_any_executor_gives_the_same_bits(pools, batched):
    scale = 2.0  # held by the closure

    def closure(rng, mu):
        return rng.normal(mu, scale)

    n = 2_300 if batched else 150  # more than two blocks of a batched simulator
    for simulator in (closure, lambda rng, mu: rng.uniform(mu, mu + scale)):
        serial = simulate(simulator, n, batched=batched)
        for executor in pools:
            assert_identical(simulate(simulator, n, batched=batched, executor=executor), serial)


def test_executors_do_run_the_simulator(pools):
    where = simulate(
        lambda rng, mu: (os.getpid(), threading.get_ident() % 2**32), executor=pools[1]
    )
    here = os.getpid(), threading.get_ident() % 2**32
    assert here not in {tuple(map(int, row)) for row in where.x}


def test_grouping_into_tasks_does_not_matter(monkeypatch):
    lengths, length = [], execution.Job.task_length

    def recorded(*arguments):
        lengths.append(length(*arguments))
        return lengths[-1]

    monkeypatch.setattr(execution.Job, "task_length", recorded)
    monkeypatch.setattr(execution, "_TASK_SECONDS", 1e9)
    whole = simulate(n=60)
    assert lengths == [1, 59]  # the first tells how long one takes
    lengths.clear()
    monkeypatch.setattr(execution, "_TASK_SECONDS", 0.0)
    assert_identical(simulate(n=60), whole)
    assert lengths == [1] * 60


@pytest.mark.parametrize(
    "seed",
    [
        lambda: 7,
        lambda: np.random.SeedSequence(7),
        lambda: np.random.SeedSequence(7, spawn_key=(2, 3)),
        lambda: np.random.default_rng(7),
    ],
    ids=["int", "SeedSequence", "child", "Generator"],
)
def test_the_same_seed_gives_the_same_simulations(seed):
    assert_identical(simulate(random_seed=seed()), simulate(random_seed=seed()))
    assert not np.array_equal(simulate(random_seed=seed()).x, simulate(random_seed=8).x)


def test_an_int_is_its_seed_sequence():
    one, other = simulate(random_seed=7), simulate(random_seed=np.random.SeedSequence(7))
    assert_identical(one, other)


def test_a_seed_sequence_is_not_used_up_but_a_generator_moves_on():
    sequence = np.random.SeedSequence(7)
    assert_identical(simulate(random_seed=sequence), simulate(random_seed=sequence))
    assert sequence.n_children_spawned == 0
    rng = np.random.default_rng(7)
    assert not np.array_equal(simulate(random_seed=rng).x, simulate(random_seed=rng).x)


def test_without_a_seed_every_run_differs():
    assert not np.array_equal(simulate(random_seed=None).x, simulate(random_seed=None).x)


def test_every_draw_has_the_stream_that_spawn_gives_it():
    simulations = simulate(lambda rng, mu: rng.random(3), 25, random_seed=5)
    _, root = np.random.SeedSequence(5).spawn(2)
    expected = [np.random.default_rng(child).random(3) for child in root.spawn(25)]
    np.testing.assert_array_equal(simulations.x, expected)


def test_every_block_of_a_batched_simulator_has_its_stream():
    lengths = []

    def simulator(rng, mu):
        lengths.append(len(mu))
        return rng.random(len(mu))

    simulations = simulate(simulator, 2_500, batched=True, random_seed=5)
    assert lengths == [BLOCK, BLOCK, 500]
    _, root = np.random.SeedSequence(5).spawn(2)
    streams = [np.random.default_rng(child) for child in root.spawn(3)]
    expected = [rng.random(size) for rng, size in zip(streams, lengths, strict=True)]
    np.testing.assert_array_equal(simulations.x, np.concatenate(expected))


def test_the_prior_and_the_simulator_have_different_streams():
    """A simulator that draws as the prior does must not repeat the prior's draws."""
    simulations = simulate(lambda rng, mu: rng.uniform(-10, 10), 200)
    correlation = np.corrcoef(simulations.x, simulations.parameters["mu"])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(200)


# --- failures --------------------------------------------------------------------------------


def fails_above_five(rng, mu):
    if mu > 5:
        raise ZeroDivisionError("no such mu")
    return 2 * mu


def nan_above_five(rng, mu):
    return np.where(mu > 5, np.nan, 2 * mu)


def infinite_in_one_entry(rng, mu):
    return np.array([2 * mu, np.inf if mu > 5 else 1.0])


@pytest.mark.parametrize(
    ("simulator", "first"),
    [
        (fails_above_five, "ZeroDivisionError: no such mu"),
        (nan_above_five, "NaN or infinite values"),
        (infinite_in_one_entry, "NaN or infinite values"),
    ],
)
def test_failures_are_counted_and_left_out(simulator, first):
    everything = simulate(lambda rng, mu: 2 * mu, 200).parameters["mu"]
    n_failed = int((everything > 5).sum())
    assert 0 < n_failed < 100
    message = (
        rf"^{n_failed} of 200 simulations \({n_failed / 200:.1%}\) failed and were left out; the "
        rf"first: {first}\. The ratio will describe observations given that the simulation "
        r"succeeded\. If failing .* posteriors lack the factor P\(success \| parameters\): mend "
        r"the simulator, or shrink the prior to where it works\.$"
    )
    with pytest.warns(SimulationWarning, match=message):
        simulations = simulate(simulator, 200)
    assert simulations.n_failed == n_failed
    assert len(simulations) == 200 - n_failed
    np.testing.assert_array_equal(simulations.parameters["mu"], everything[everything <= 5])
    np.testing.assert_array_equal(
        simulations.x.reshape(len(simulations), -1)[:, 0], 2 * simulations.parameters["mu"]
    )
    assert len(simulations.log_prior) == len(simulations)


def test_failures_in_a_pool_stay_aligned(pools):
    with pytest.warns(SimulationWarning, match="ZeroDivisionError: no such mu"):
        simulations = simulate(fails_above_five, 200, executor=pools[1])
    np.testing.assert_array_equal(simulations.x, 2 * simulations.parameters["mu"])
    with pytest.warns(SimulationWarning, match="ZeroDivisionError: no such mu"):
        assert_identical(simulations, simulate(fails_above_five, 200))


def test_rows_of_a_batched_simulator_may_fail():
    with pytest.warns(SimulationWarning, match=r"of 1,500 simulations .* NaN or infinite values"):
        simulations = simulate(nan_above_five, 1_500, batched=True)
    assert simulations.parameters["mu"].max() <= 5
    np.testing.assert_array_equal(simulations.x, 2 * simulations.parameters["mu"])


def test_the_warning_points_at_the_caller():
    with pytest.warns(SimulationWarning) as caught:
        nre.simulate(prior(), fails_above_five, 50, random_seed=1, progressbar=False)
    assert caught[0].filename == __file__


def broken(rng, mu):
    return undefined_name  # noqa: F821


def test_if_all_fail_the_traceback_is_shown():
    with pytest.raises(SimulationError) as caught:
        simulate(broken, 20)
    text = str(caught.value)
    assert text.startswith("All of 20 simulations failed. The first error was:\n\nTraceback")
    assert "return undefined_name" in text
    assert "NameError: name 'undefined_name' is not defined" in text


def test_if_all_are_nan():
    with pytest.raises(
        SimulationError, match=r"^All of 20 .* failed\. All were NaN or infinite\.$"
    ):
        simulate(lambda rng, mu: np.nan, 20)


def test_a_hopeless_simulator_is_stopped_early(one_draw_per_task):
    calls = []

    def simulator(rng, mu):
        calls.append(mu)
        raise ValueError

    with pytest.raises(SimulationError, match=r"^All of 100 simulations failed"):
        simulate(simulator, 5_000)
    assert len(calls) == 100


def test_a_late_success_is_not_hopeless():
    def simulator(rng, mu):
        if mu < 9:
            raise ValueError("low")
        return mu

    with pytest.warns(SimulationWarning, match="ValueError: low"):
        simulations = simulate(simulator, 300)
    assert simulations.parameters["mu"].min() >= 9


# --- accidents of few draws, late ------------------------------------------------------------


def mu_of(number, n=300):
    """The parameter of one draw, by which a simulator can tell it."""
    return simulate(lambda rng, mu: mu, n).parameters["mu"][number]


ACCIDENTS = {
    "raises": (lambda mu: 1 / 0, "ZeroDivisionError: division by zero"),
    "exits": (lambda mu: sys.exit("no convergence"), "SystemExit: no convergence"),
    "returns nothing": (lambda mu: None, "TypeError: The simulator returned None"),
    "returns text": (lambda mu: "no", "TypeError: What the simulator returned: expected numbers"),
    "returns a complex number": (lambda mu: mu + 1j, "TypeError: .* complex"),
    "returns a masked number": (lambda mu: np.ma.masked, "ValueError: .* masked"),
    "returns lists of several lengths": (lambda mu: [[1.0], [1.0, 2.0]], "ValueError: .* same sha"),
    "returns another shape": (lambda mu: np.zeros(3), r"an observation of shape \(3,\), where o"),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("what", ACCIDENTS)
def test_one_bad_draw_keeps_the_others(what, workers):
    accident, message = ACCIDENTS[what]
    bad = mu_of(250)

    def simulator(rng, mu):
        return accident(mu) if mu == bad else 2 * mu

    executor = ThreadPoolExecutor(workers) if workers else None
    with pytest.warns(SimulationWarning, match=rf"^1 of 300 simulations .* the first: {message}"):
        simulations = simulate(simulator, 300, executor=executor)
    if executor:
        executor.shutdown()
    everything = simulate(lambda rng, mu: 2 * mu, 300)
    np.testing.assert_array_equal(simulations.x, np.delete(everything.x, 250))
    np.testing.assert_array_equal(
        simulations.parameters["mu"], np.delete(everything.parameters["mu"], 250)
    )
    assert simulations.n_failed == 1


@pytest.mark.parametrize(("number", "raises"), [(99, True), (100, False)])
def test_what_the_first_hundred_do_is_no_accident(number, raises, one_draw_per_task):
    bad = mu_of(number)

    def simulator(rng, mu):
        return None if mu == bad else mu

    if raises:
        with pytest.raises(TypeError, match="returned None"):
            simulate(simulator, 300)
    else:
        with pytest.warns(SimulationWarning, match="^1 of 300"):
            simulate(simulator, 300)


def test_an_exit_of_every_simulation_is_no_exit():
    with pytest.raises(SimulationError, match="SystemExit: 3"):
        simulate(lambda rng, mu: sys.exit(3))


def test_an_exit_in_a_pool_is_no_exit(pools):
    def simulator(rng, mu):
        return sys.exit("no convergence") if mu > 5 else mu

    with pytest.warns(SimulationWarning, match="SystemExit: no convergence"):
        simulations = simulate(simulator, 100, executor=pools[1])
    assert 0 < len(simulations) < 100


def dies_at(bad, rng, mu):
    if mu == bad:
        time.sleep(0.3)  # what was before has been reported by then
        os._exit(1)
    return rng.normal(mu)


def test_a_dead_worker_keeps_what_is_done(one_draw_per_task):
    whole = simulate(lambda rng, mu: rng.normal(mu), 60)
    simulator = functools.partial(dies_at, whole.parameters["mu"][40])
    context = multiprocessing.get_context("forkserver")
    message = (
        r"^Stopped by BrokenProcessPool: .* returning the first (\d+) of 60 simulations\. A sim"
    )
    with (
        ProcessPoolExecutor(2, mp_context=context) as pool,
        pytest.warns(SimulationWarning, match=message),
    ):
        simulations = simulate(simulator, 60, executor=pool)
    assert 35 < len(simulations) <= 40
    np.testing.assert_array_equal(simulations.x, whole.x[: len(simulations)])
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(SimulationError, match=r"^Stopped by BrokenProcessPool: .* after 0 of 60"),
    ):
        simulate(functools.partial(dies_at, whole.parameters["mu"][0]), 60, executor=pool)


# --- infinite draws of the prior -------------------------------------------------------------


def test_infinite_draws_of_the_prior_are_told_before_simulating():
    def infinite(rng=None, size=None):
        return np.where(rng.random(size) < 0.1, np.inf, 1.0)

    calls = []
    message = r"^The prior of nu is NaN or infinite in \d of 50 draws\. Give it a distribution"
    with pytest.raises(ValueError, match=message):
        simulate(
            lambda rng, mu, nu: calls.append(mu),
            50,
            prior={"mu": pm.Normal.dist(), "nu": pm.CustomDist.dist(random=infinite)},
        )
    assert not calls


@pytest.mark.parametrize("batched", [False, True])
def test_infinite_draws_that_come_late_are_left_out(batched, monkeypatch):
    monkeypatch.setattr(prior_module, "_DRAWN_AT_ONCE", 100)
    drawn = []

    def one_infinite(rng=None, size=None):
        drawn.append(1)
        return np.where(len(drawn) == 250, np.inf, rng.normal())

    seen = []

    def simulator(rng, mu):
        seen.append(np.ravel(mu))
        return mu

    monkeypatch.setattr("pymc_nre.simulation.sampler._WORTH_IT", np.inf)
    prior = {"mu": pm.CustomDist.dist(random=one_infinite)}
    with pytest.warns(
        SimulationWarning, match="^1 of 300 .* the first: mu was drawn as NaN or inf"
    ):
        simulations = simulate(simulator, 300, prior=prior, batched=batched)
    assert len(simulations) == 299
    assert np.isfinite(np.concatenate(seen)).all()


# --- shapes ----------------------------------------------------------------------------------


def ragged(rng, mu):
    return np.zeros(2 + (mu > 0))


RAGGED = (
    r"^The simulator returned an observation of shape \([23],\) after one of shape \([23],\); all "
    r"must have the same shape\. Pad them, or return summary statistics\.$"
)


def test_observations_of_varying_shape_in_one_task(monkeypatch):
    monkeypatch.setattr(execution, "_TASK_SECONDS", 1e9)
    with pytest.raises(ValueError, match=RAGGED):
        simulate(ragged)


def test_observations_of_varying_shape_across_tasks(one_draw_per_task):
    with pytest.raises(ValueError, match=RAGGED):
        simulate(ragged)


def test_observations_of_varying_shape_in_a_pool(pools):
    with pytest.raises(ValueError, match=RAGGED):
        simulate(ragged, executor=pools[1])


@pytest.mark.parametrize(
    ("returned", "got"),
    [(np.zeros(29), r"\(29,\)"), (np.zeros((2, 30)), r"\(2, 30\)"), (1.0, r"\(\)")],
)
def test_a_batched_simulator_must_return_every_draw(returned, got):
    message = rf"^A batched simulator must return one observation for each of its 30 draws.*{got}"
    with pytest.raises(ValueError, match=message) as caught:
        simulate(lambda rng, mu: returned, batched=True)
    assert "leave out batched=True" in str(caught.value)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (None, r"returned None; .* Does it end with a return statement\?$"),
        ("text", "returned: expected numbers, got an object of type str"),
        (1 + 2j, "returned: expected real numbers, got complex ones"),
        ({"x": 1.0}, "returned: expected real numbers, got an object of type dict"),
    ],
)
def test_the_simulator_must_return_numbers(returned, got, batched):
    with pytest.raises(TypeError, match=rf"simulator {got}"):
        simulate(lambda rng, mu: returned, batched=batched)


# --- Ctrl-C ----------------------------------------------------------------------------------


def interrupted_after(k):
    calls = []

    def simulator(rng, mu):
        calls.append(mu)
        if len(calls) > k:
            raise KeyboardInterrupt
        return rng.normal(mu)

    return simulator


def test_an_interrupted_run_returns_what_is_done(one_draw_per_task):
    whole = simulate(lambda rng, mu: rng.normal(mu), 40)
    with pytest.warns(
        SimulationWarning, match=r"^Interrupted: returning the first 12 of 40 simulations\.$"
    ):
        simulations = simulate(interrupted_after(12), 40)
    np.testing.assert_array_equal(simulations.x, whole.x[:12])
    np.testing.assert_array_equal(simulations.parameters["mu"], whole.parameters["mu"][:12])
    np.testing.assert_array_equal(simulations.log_prior, whole.log_prior[:12])
    assert simulations.n_failed == 0


@pytest.mark.parametrize("slow", [0, 2])
def test_an_interrupted_pool_returns_the_draws_before_the_first_gap(one_draw_per_task, slow):
    """What ended after a slow draw is not returned without it: slow draws may be special."""
    whole = simulate(lambda rng, mu: rng.normal(mu), 40)
    slow_mu, last_mu = whole.parameters["mu"][[slow, 5 if slow else 3]]
    go_on = threading.Event()

    def simulator(rng, mu):
        if mu == slow_mu:
            go_on.wait(30)
        if mu == last_mu:
            time.sleep(0.2)  # so that the draws before it are reported first
            raise KeyboardInterrupt
        return rng.normal(mu)

    expected = (
        pytest.warns(SimulationWarning, match=rf"returning the first {slow} of 40 simulations")
        if slow
        else pytest.raises(KeyboardInterrupt)
    )
    with ThreadPoolExecutor(2) as executor:
        try:
            with expected:
                simulations = simulate(simulator, 40, executor=executor)
                np.testing.assert_array_equal(simulations.x, whole.x[:slow])
        finally:
            go_on.set()


def test_an_interrupt_while_the_prior_is_drawn_keeps_what_is_done(monkeypatch):
    monkeypatch.setattr(prior_module, "_DRAWN_AT_ONCE", 100)
    monkeypatch.setattr("pymc_nre.simulation.sampler._WORTH_IT", np.inf)
    drawn = []

    def interrupted(rng=None, size=None):
        drawn.append(1)
        if len(drawn) == 250:
            raise KeyboardInterrupt
        return rng.normal()

    prior = {"mu": pm.CustomDist.dist(random=interrupted)}
    with pytest.warns(SimulationWarning, match=r"^Interrupted: returning the first 200 of 300"):
        assert len(simulate(lambda rng, mu: mu, 300, prior=prior)) == 200


def test_a_run_that_is_interrupted_at_once_is_interrupted():
    with pytest.raises(KeyboardInterrupt):
        simulate(interrupted_after(0))


def test_an_interrupted_run_of_failures_only():
    def simulator(rng, mu):
        if simulator.calls:
            raise KeyboardInterrupt
        simulator.calls += 1
        raise ValueError("the only one")

    simulator.calls = 0
    with (
        pytest.warns(SimulationWarning, match=r"^Interrupted: returning the first 1 of 30"),
        pytest.raises(SimulationError, match="ValueError: the only one"),
    ):
        simulate(simulator)


# --- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, -3])
def test_n_must_be_positive(n):
    with pytest.raises(ValueError, match=rf"^n: expected at least 1, got {n}\.$"):
        simulate(n=n)


def test_the_simulator_must_be_callable():
    message = r"^simulator must be a function .*, got float\.$"
    with pytest.raises(TypeError, match=message):
        simulate(1.0)


def test_the_prior_is_checked_before_anything_runs():
    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Normal("x", mu, observed=0.0)
    calls = []
    with pytest.raises(ValueError, match=r"observed variables and potentials x\. Leave them out"):
        simulate(calls.append, prior=model)
    with pytest.raises(ValueError, match=r"^Parameters cannot be called rng: .* e\.g\. rng_\.$"):
        simulate(calls.append, prior={"rng": pm.Normal.dist()})
    with pytest.raises(TypeError, match=r"^prior must be a pymc\.Model or a dict .*, got str\.$"):
        simulate(calls.append, prior="uniform")
    assert not calls


@pytest.mark.parametrize("progressbar", [True, False])
def test_the_progress_display(capsys, progressbar):
    simulate(n=37, progressbar=progressbar)
    shown = "".join(capsys.readouterr())
    if progressbar:
        assert "simulating" in shown
        assert re.search(r"37\s*/\s*37", shown)
    else:
        assert shown == ""


def test_nan_alone_may_stand_for_a_failed_array():
    def simulator(rng, mu):
        return np.nan if mu > 5 else rng.normal(mu, 1.0, 3)

    with pytest.warns(SimulationWarning, match="failed and were left out"):
        simulations = nre.simulate(prior(), simulator, 200, random_seed=1, progressbar=False)
    assert simulations.event_shape == (3,)


def test_an_integer_cannot_be_fixed_at_a_fraction():
    with pytest.raises(ValueError, match=r"'k' is an integer, got 2\.5"):
        nre.simulate(
            {"k": pm.Poisson.dist(3)}, lambda rng, k: k, 5, at={"k": 2.5}, progressbar=False
        )
