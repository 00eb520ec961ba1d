"""Parameters that are drawn when they are asked for."""

import numpy as np

from pymc_nre.simulation.drawn import Drawn


def blocks(asked):
    for start in range(0, 25, 10):
        asked.append(start)
        values = np.arange(start, min(start + 10, 25))
        yield {"k": values, "beta": np.stack([values, -values], 1) / 2}


def test_no_more_is_drawn_than_is_asked_for():
    asked = []
    drawn = Drawn(25, blocks(asked))
    assert (asked, drawn.made) == ([], 0)
    rows = drawn.rows(3, 8)
    assert (asked, drawn.made) == ([0], 10)
    np.testing.assert_array_equal(rows["k"], np.arange(3, 8))
    assert rows["k"].dtype.kind == "i"
    rows = drawn.rows(5, 25)
    assert (asked, drawn.made) == ([0, 10, 20], 25)
    np.testing.assert_array_equal(rows["beta"][:, 1], -np.arange(5, 25) / 2)
    np.testing.assert_array_equal(drawn.rows(0, 25)["k"], np.arange(25))


def test_what_is_there_already_is_not_copied():
    values = {"mu": np.arange(4.0)}
    drawn = Drawn.whole(values)
    assert (drawn.n, drawn.made) == (4, 4)
    assert np.shares_memory(drawn.rows(1, 3)["mu"], values["mu"])
