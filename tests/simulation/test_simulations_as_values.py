"""Simulations as values: rows of them, several sets joined, and the file they are saved in."""

import json

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre
from pymc_nre.diagnostics.prior_draws import PriorDraws
from pymc_nre.runtime.archive import read_archive, write_archive
from pymc_nre.simulation.simulations import _FORMAT


def simulator(rng, mu, n):
    return rng.normal(mu.sum(-1), n)[:, None] * np.ones(3)


PRIOR = {"mu": pm.Normal.dist(0, 1, shape=2), "n": pm.DiscreteUniform.dist(1, 9)}


def made(seed=1, n=20):
    return nre.simulate(PRIOR, simulator, n, batched=True, random_seed=seed, progressbar=False)


def assert_same(one, other):
    assert one.layout == other.layout
    assert one.n_failed == other.n_failed
    np.testing.assert_array_equal(one.x, other.x)
    for name, values in one.parameters.items():
        np.testing.assert_array_equal(values, other.parameters[name])
    np.testing.assert_array_equal(one.log_prior, other.log_prior)


ROWS = [
    slice(5),
    slice(None, None, -3),
    [3, 0, 3],
    np.array([True, False] * 10),
]


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("computed", [False, True])
def test_rows(rows, computed):
    simulations = made()
    if computed:
        simulations.log_prior  # noqa: B018
    some = simulations[rows]
    np.testing.assert_array_equal(some.x, simulations.x[rows])
    np.testing.assert_array_equal(some.parameters["mu"], simulations.parameters["mu"][rows])
    np.testing.assert_allclose(some.log_prior, simulations.log_prior[rows], rtol=1e-12)
    assert some.layout == simulations.layout
    assert some.simulator is simulations.simulator


@pytest.mark.parametrize("rows", [3, "mu", 1.5, [0.5], [[1]], [True], None, slice(0), []], ids=str)
def test_what_is_no_selection_of_rows_is_told(rows):
    with pytest.raises((TypeError, ValueError), match=r"Rows of simulations|at least one|none"):
        made()[rows]


def test_joined_they_are_all_of_both():
    one, other = made(1), made(2, n=15)
    joined = one + other
    assert len(joined) == 35
    np.testing.assert_array_equal(joined.x, np.concatenate([one.x, other.x]))
    np.testing.assert_allclose(
        joined.log_prior, np.concatenate([one.log_prior, other.log_prior]), rtol=1e-12
    )
    assert joined.simulator == one.simulator
    assert_same(made()[:12] + made()[12:], made())


PARTITIONS = {
    "one after another": [slice(0, 1), slice(1, 8), slice(8, None)],
    "every third": [slice(k, None, 3) for k in range(3)],
    "masks": [np.arange(20) % 2 == 0, np.arange(20) % 2 == 1],
    "numbers": [[3, 0, 19], [k for k in range(20) if k not in (0, 3, 19)]],
}


@pytest.mark.parametrize("parts", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("n_failed", [0, 1, 7, 20, 1_003, 10**30])
def test_failures_of_parts_add_up_to_those_of_all(parts, n_failed):
    simulations = made()
    simulations.n_failed = n_failed
    found = [simulations[rows] for rows in parts]
    assert sum(part.n_failed for part in found) == n_failed
    for part in found:
        assert abs(20 * part.n_failed - n_failed * len(part)) <= 20 * len(part)
        assert part.is_complete == (n_failed == 0)  # also where its own share is none
    one, other = found[0], found[0]
    for part in found[1:]:
        one = one + part
    assert one.n_failed == n_failed
    assert other[:1].is_complete == (n_failed == 0)


def test_ranks_of_a_part_know_that_the_prior_was_not_met():
    """The twin of a set of which nothing failed: its pairs are draws of the prior."""
    task = nre.tasks.GaussianMean()
    simulations = task.simulate(300, random_seed=1)
    fresh = []
    for n_failed in (0, 1):
        simulations.n_failed = n_failed
        part = simulations[150:]
        assert part.n_failed == 0 or n_failed
        given = task.estimator(), part[:-1], 20, np.random.default_rng(1)
        fresh.append(PriorDraws(*given).is_fresh)
    assert fresh == [True, False]


def test_a_prior_stays_known_if_it_is_that_of_both():
    mu = np.linspace(-1, 1, 10)

    def of(prior):
        return nre.Simulations({"mu": mu}, mu, prior=prior)

    same = of({"mu": pm.Normal.dist(0, 1)}) + of({"mu": pm.Normal.dist(0, 1)})
    np.testing.assert_allclose(same.log_prior[:10], of({"mu": pm.Normal.dist(0, 1)}).log_prior)
    assert (of({"mu": pm.Normal.dist(0, 1)}) + of({"mu": pm.Normal.dist(0, 2)})).log_prior is None
    assert (of({"mu": pm.Normal.dist(0, 1)}) + of(None)).log_prior is None


def test_others_cannot_be_joined():
    with pytest.raises(ValueError, match=r"same parameters and observations.*mu.*nu"):
        nre.Simulations({"mu": [1.0]}, [1.0]) + nre.Simulations({"nu": [1.0]}, [1.0])
    with pytest.raises(ValueError, match="same parameters and observations"):
        nre.Simulations({"mu": [1.0]}, [1.0]) + nre.Simulations({"mu": [1.0]}, [[1.0]])
    with pytest.raises(TypeError):
        made() + 1


@pytest.mark.parametrize("prior", [None, PRIOR])
def test_a_file_gives_back_what_was_saved(prior, tmp_path):
    simulations = made()
    simulations.n_failed = 3
    simulations.save(tmp_path / "a.simulations")
    again = nre.Simulations.load(tmp_path / "a.simulations", prior=prior, simulator=simulator)
    assert_same(again, simulations)
    assert (again.known_prior is None) == (prior is None)
    assert again.simulator == nre.Simulator(simulator, batched=True)
    assert_same(again[4:9], simulations[4:9])


@pytest.mark.parametrize("batched", [False, True])
def test_how_the_simulator_is_called_survives_every_file(batched, tmp_path):
    def simulate(rng, mu):
        assert np.ndim(mu) == batched
        return rng.normal(mu)

    prior = {"mu": pm.Uniform.dist(-10, 10)}
    given = {"batched": batched, "random_seed": 1, "progressbar": False}
    nre.simulate(prior, simulate, 500, **given).save(tmp_path / "a")
    for path in (tmp_path / "b", tmp_path / "c"):  # again and again, without a simulator
        loaded = nre.Simulations.load(tmp_path / "a")
        assert loaded.simulator is None
        (loaded[:20] + loaded[20:]).save(path)
        (tmp_path / "a").write_bytes(path.read_bytes())
    assert nre.Simulations.load(path, simulator=simulate).simulator.batched == batched
    trained = nre.train(nre.Simulations.load(path), epochs=5, random_seed=1, progressbar=False)
    trained.save(tmp_path / "ratio.nre")
    ratio = nre.load(tmp_path / "ratio.nre", simulator=simulate)
    assert ratio.simulator == nre.Simulator(simulate, batched)


def test_without_a_simulator_nothing_is_known_of_it(tmp_path):
    nre.Simulations({"mu": [0.0, 1.0]}, [0.0, 1.0]).save(tmp_path / "a")
    loaded = nre.Simulations.load(tmp_path / "a")
    assert loaded.batched is None
    assert (loaded + made_of_one()).batched is True


def made_of_one():
    return nre.tasks.GaussianMean().simulate(2, random_seed=1)


@pytest.mark.parametrize("largest", [2**53, 2**53 + 1, -(2**60), 2**64 - 1])
def test_integers_that_floats_would_round_are_refused(largest):
    k = np.array([1, largest], dtype=np.uint64 if largest > 2**63 else np.int64)
    with pytest.raises(ValueError, match=r"k is an integer and reaches \d+; expected less than"):
        nre.Simulations({"k": k}, [0.0, 1.0])
    nre.Simulations({"k": np.array([1.0, largest])}, [0.0, 1.0])


def test_the_largest_integers_come_back(tmp_path):
    k = np.array([2**53 - 1, 1 - 2**53])
    nre.Simulations({"k": k}, [0.0, 1.0]).save(tmp_path / "a")
    loaded = nre.Simulations.load(tmp_path / "a")
    assert loaded.parameters["k"].astype(int).tolist() == k.tolist()
    assert loaded.layout.integer == {"k"}


def test_training_on_a_file_gives_the_same_bits(tmp_path):
    task = nre.tasks.GaussianMean()
    simulations = task.simulate(500, random_seed=1)
    simulations.save(tmp_path / "a")
    options = {"epochs": 2, "random_seed": 1, "progressbar": False}
    loaded = nre.Simulations.load(tmp_path / "a", prior=task.prior())
    assert nre.train(loaded, **options) == nre.train(simulations, **options)
    # The file has no prior, which contrasts at every scale want.
    loaded, loss = nre.Simulations.load(tmp_path / "a"), nre.losses.NREC()
    assert nre.train(loaded, **options) == nre.train(simulations, loss=loss, **options)


def changed(path, change):
    """Change what a file says, and make its checksum right again."""
    metadata, arrays = read_archive(path, _FORMAT)
    metadata, arrays = change({k: v for k, v in metadata.items() if k != "sha256"}, arrays)
    write_archive(path, json.loads(json.dumps(metadata)), arrays, _FORMAT)


WRONG = {
    "no x": (lambda m, a: (m, {k: v for k, v in a.items() if k != "x"}), "x is missing"),
    "x is a number": (lambda m, a: (m, a | {"x": np.array(1.0)}), "no array of rows"),
    "fewer parameters": (lambda m, a: (m, a | {"parameters/mu": a["parameters/mu"][1:]}), "mu"),
    "integers": (lambda m, a: (m, a | {"x": a["x"].astype(int)}), "'x' must be float64"),
    "one too many": (lambda m, a: (m, a | {"y": a["x"]}), "'y' is not known"),
    "log prior": (lambda m, a: (m, a | {"log_prior": a["x"]}), "'log_prior' must be"),
    "a field": (lambda m, a: (m | {"more": 1}, a), "does not know: more"),
    "a count": (lambda m, a: (m | {"n_failed": -1}, a), "n_failed must be a count"),
    "a shape": (lambda m, a: (m | {"parameters": {"mu": 3}}, a), "parameters must be"),
    "no field": (lambda m, a: ({k: m[k] for k in m if k != "batched"}, a), "batched must be"),
    "a hole": (lambda m, a: (m, a | {"x": a["x"] * np.nan}), "not finite"),
    "halves": (lambda m, a: (m, a | {"parameters/n": a["parameters/n"] + 0.5}), "whole numbers"),
    "huge": (lambda m, a: (m, a | {"parameters/n": a["parameters/n"] * 1e300}), "whole numbers"),
    "rounded": (lambda m, a: (m, a | {"parameters/n": a["parameters/n"] * 2.0**53}), "whole"),
    "others": (lambda m, a: (m | {"integer": ["z"]}, a), "integer must name parameters"),
    "strange": (lambda m, a: (m | {"integer": [3]}, a), "integer must be"),
}


@pytest.mark.parametrize(("change", "told"), WRONG.values(), ids=WRONG)
def test_files_that_hold_something_else_are_refused(change, told, tmp_path):
    path = tmp_path / "a.simulations"
    made().save(path)
    changed(path, change)
    with pytest.raises(nre.EstimatorFileError, match=told):
        nre.Simulations.load(path)


def test_files_of_another_kind_are_refused(tmp_path):
    made().save(tmp_path / "a.simulations")
    with pytest.raises(nre.EstimatorFileError, match=r"not a pymc_nre\.RatioEstimator"):
        nre.load(tmp_path / "a.simulations")
    nre.tasks.GaussianMean().estimator().save(tmp_path / "a.nre")
    with pytest.raises(nre.EstimatorFileError, match=r"not a pymc_nre\.Simulations"):
        nre.Simulations.load(tmp_path / "a.nre")
