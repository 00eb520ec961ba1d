"""Arrays of several points in a simulation: read, selected, joined, written, and refused."""

import numpy as np
import pymc as pm
import pytest

import pymc_nre as nre

MU = np.array([1.0, 2.0, 3.0])


def masked(event=()):
    """Three simulations of 2, 1 and 3 points, whose numbers are 0 to 5."""
    x = np.full((3, 3, *event), np.nan)
    there = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    x[there] = np.arange(6.0).reshape(6, *(1,) * len(event))
    mask = np.broadcast_to(~there.reshape(3, 3, *(1,) * len(event)), x.shape)
    return nre.Simulations({"mu": MU}, np.ma.array(x, mask=mask), iid=True)


@pytest.mark.parametrize("event", [(), (2,), (2, 3)])
def test_what_is_masked_is_absent(event):
    simulations = masked(event)
    assert len(simulations) == 3
    assert simulations.event_shape == event
    assert simulations.counts.tolist() == [2, 1, 3]
    np.testing.assert_array_equal(simulations.points.reshape(6, -1)[:, 0], np.arange(6.0))
    np.testing.assert_array_equal(simulations.x.reshape(3, -1)[:, 0], [0.0, 2.0, 3.0])
    assert repr(simulations).startswith("Simulations: 3 with 1 to 3 points each, parameters mu")


def test_points_of_equal_number_are_not_copied():
    x = np.arange(24.0).reshape(3, 4, 2)
    simulations = nre.Simulations({"mu": MU}, x, iid=True)
    assert np.shares_memory(simulations.points, x)
    assert simulations.event_shape == (2,)
    assert "3 with 4 points each" in repr(simulations)
    assert "1 point each" in repr(nre.Simulations({"mu": MU}, x[:, :1], iid=True))


def test_without_it_an_observation_is_a_point():
    simulations = nre.Simulations({"mu": MU}, np.zeros((3, 4)))
    assert not simulations.iid
    assert simulations.points is simulations.x
    assert simulations.counts.tolist() == [1, 1, 1]


@pytest.mark.parametrize("rows", [slice(1, 3), [2, 0, 2], np.array([True, False, True])])
def test_rows_keep_their_points(rows):
    chosen = masked()[rows]
    numbers = np.arange(3)[rows]
    expected = [[0.0, 1.0], [2.0], [3.0, 4.0, 5.0]]
    assert chosen.points.tolist() == [x for k in numbers for x in expected[k]]
    assert chosen.counts.tolist() == [len(expected[k]) for k in numbers]
    assert chosen.x.tolist() == [expected[k][0] for k in numbers]
    assert chosen.parameters["mu"].tolist() == MU[rows].tolist()


def test_joined_with_their_like_and_with_single_observations():
    both = masked()[:2] + masked()[2:]
    assert both.points.tolist() == masked().points.tolist()
    assert both.counts.tolist() == [2, 1, 3]
    single = nre.Simulations({"mu": MU}, [7.0, 8.0, 9.0])
    assert (masked() + single).points.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert (single + masked()).counts.tolist() == [1, 1, 1, 2, 1, 3]


def test_files_hold_all_of_them(tmp_path):
    file, simulations = tmp_path / "of.points", masked((2,))
    simulations.save(file)
    again = nre.Simulations.load(file, simulator=lambda rng, mu: rng.normal(mu, 1, (4, 2)))
    assert again.iid
    np.testing.assert_array_equal(again.points, simulations.points)
    np.testing.assert_array_equal(again.counts, simulations.counts)
    draw = again.simulator.draw(np.random.default_rng(1), {"mu": np.zeros(3)}, 3)
    assert draw.shape == (3, 2)


@pytest.mark.parametrize("counts", [[2, 1, 2], [3, 0, 3], [2.5, 0.5, 3], [6]])
def test_counts_of_a_file_that_do_not_fit_are_refused(tmp_path, monkeypatch, counts):
    simulations = masked()
    with monkeypatch.context() as patched:
        patched.setattr(nre.Simulations, "counts", np.array(counts))
        if len(counts) < 3:  # seen before anything is written
            with pytest.raises(Exception, match="must be"):
                simulations.save(tmp_path / "file")
            return
        simulations.save(tmp_path / "file")
    with pytest.raises(nre.EstimatorFileError, match="do not add up to those of x"):
        nre.Simulations.load(tmp_path / "file")


def test_as_a_dataset_points_tell_their_simulation():
    dataset = masked((2,)).to_xarray()
    assert dataset.x.dims == ("point", "x_dim_0")
    assert dataset.simulation_of.values.tolist() == [0, 0, 1, 2, 2, 2]
    assert dataset.mu.dims == ("simulation",)


def partly():
    x = np.ma.array(np.zeros((3, 2, 2)))
    x[1, 0, 1] = np.ma.masked
    return x


def wholly():
    x = np.ma.array(np.zeros((3, 2)))
    x[1] = np.ma.masked
    return x


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros(3), r"m points of each simulation, shape \(n, m, \*event\), got shape \(3,\)"),
        (1.0, r"shape \(n, m, \*event\), got shape \(\)"),
        (np.zeros((3, 0)), r"3 of 3 simulations have no points \(first: row 0\)"),
        (np.zeros((3, 2, 0)), r"at least one number for each"),
        (np.zeros((0, 2)), r"at least one simulation, got none"),
        (wholly(), r"1 of 3 simulations have no points \(first: row 1\).*Leave such rows out"),
        (partly(), r"x: 1 of 6 points are masked in part.*Mask all of a point"),
        (np.zeros((4, 2)), r"the same length .*mu: 3, x: 4"),
        (
            np.array([[0.0, 1.0], [0.0, 1.0], [0.0, np.nan]]),
            r"not finite in 1 of 6 points \(first: one of row 2\).*Mask whole points",
        ),
    ],
)
def test_what_is_no_array_of_points_is_refused(x, told):
    with pytest.raises(ValueError, match=told):
        nre.Simulations({"mu": MU}, x, iid=True)


def test_a_prior_is_looked_at_once_for_each_simulation():
    simulations = nre.Simulations(
        {"mu": MU}, np.zeros((3, 5)), iid=True, prior={"mu": pm.Normal.dist()}
    )
    assert simulations.log_prior.shape == (3,)
