import json

import numpy as np
import pandas as pd
import pytest

from pymc_nre.simulation.conditions.missing import Missing

NAN = np.nan
DATA = [[0.1, NAN, 2.0], [NAN, NAN, NAN], [0.3, 0.4, 0.5], [0.2, NAN, 1.0]]
MASKS = np.isnan(DATA)


def test_a_share_is_how_often_each_number_is_missing():
    masks = Missing.of(0.3, (3,)).draw(20_000, np.random.default_rng(1))
    # Of masks that leave a number: (p - p^3) / (1 - p^3). Five standard errors.
    expected = (0.3 - 0.3**3) / (1 - 0.3**3)
    assert masks.mean(0) == pytest.approx(expected, abs=5 * np.sqrt(0.25 / 20_000))
    assert not masks.all(1).any()


def test_shares_are_those_of_each_number():
    law = Missing.of([0.0, 0.5, 0.9], (3,))
    masks = law.draw(20_000, np.random.default_rng(1))
    assert not masks[:, 0].any()
    assert masks.mean(0)[1:] == pytest.approx([0.5, 0.9], abs=0.02)


@pytest.mark.parametrize(
    "given",
    [DATA, np.array(DATA), pd.DataFrame(DATA), MASKS, pd.DataFrame(MASKS), MASKS[None].tolist()],
)
def test_patterns_are_those_of_data_or_masks_but_the_empty_one(given):
    law = Missing.of(given, (3,))
    assert law == Missing.of(np.ma.masked_invalid(DATA), (3,))
    masks = law.draw(9_000, np.random.default_rng(1))
    found, counts = np.unique(masks, axis=0, return_counts=True)
    assert found.tolist() == [[False] * 3, [False, True, False]]
    assert counts / 9_000 == pytest.approx([1 / 3, 2 / 3], abs=5 * np.sqrt(2 / 9 / 9_000))


def test_observations_of_any_shape_have_masks():
    law = Missing.of(0.5, (2, 5))
    x = law.masked(np.ones((40, 2, 5)), np.random.default_rng(1))
    assert x.shape == (40, 2, 5)
    assert 0.3 < np.isnan(x).mean() < 0.7
    assert law.masked(x, np.random.default_rng(2)) is x


def test_conditions_behind_an_observation_are_not_masked():
    x = Missing.of(0.5, (3,)).masked(np.ones((200, 5)), np.random.default_rng(1))
    assert np.isnan(x[:, :3]).any()
    assert not np.isnan(x[:, 3:]).any()


@pytest.mark.parametrize("given", [0.3, [0.0, 0.5, 0.2], DATA])
def test_what_a_file_holds_is_the_same_law(given):
    law = Missing.of(given, (3,))
    assert Missing.from_dict(json.loads(json.dumps(law.to_dict()))) == law


GOOD = Missing.of(DATA, (3,)).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"event_shape": [0]},
        {"event_shape": 3},
        {"shares": [0.1, 0.1, 0.1]},
        {"patterns": [], "counts": []},
        {"patterns": ["00", "e0"]},  # all is missing
        {"patterns": ["00", "zz"]},
        {"patterns": ["00", "4000"]},
        {"patterns": ["00", 4]},
        {"counts": [1]},
        {"counts": [1, 0]},
        {"counts": [1, 2.5]},
        {"patterns": [], "counts": [], "shares": [0.1, 0.1]},
        {"patterns": [], "counts": [], "shares": [0.0, 0.0, 0.0]},
        {"patterns": [], "counts": [], "shares": [0.1, 0.1, 1.0]},
        {"patterns": [], "counts": [], "shares": [0.1, 0.1, "1"]},
    ],
)
def test_other_descriptions_are_refused(change):
    with pytest.raises(ValueError, match=r"must|expected"):
        Missing.from_dict(GOOD | change)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (MASKS[:, :2], r"train: missing: expected masks.*shape \(m, 3\), got \(4, 2\)"),
        (np.isnan(np.array(DATA).T), r"shape \(m, 3\), got \(3, 4\)"),
        (True, r"expected masks.*got \(\)"),
        ([[NAN] * 3], "every number of every observation is missing in 1 masks"),
        (np.zeros((4, 3), bool), "nothing is missing in 4 masks"),
        (np.zeros((4, 3)), "without NaN. Where nothing is missing, leave it out"),
        ([0.0, 0.0, 0.0], "expected a share"),
        ([0.5, 0.5, 1.0], "shares of at most 0.99"),
        (0.0, "expected a number between 0 and"),
        (1.5, "expected a number between 0 and"),
        ([[np.inf, NAN, 1.0]], "1 of 3 values are infinite"),
    ],
)
def test_other_masks_are_refused(given, told):
    with pytest.raises(ValueError, match=told):
        Missing.of(given, (3,))


def test_text_is_no_mask():
    with pytest.raises(TypeError, match="train: missing: expected numbers"):
        Missing.of("often", (3,))


def test_single_numbers_are_left_out_instead():
    with pytest.raises(ValueError, match="single numbers, and one that is missing tells nothing"):
        Missing.of(0.3, ())


def test_patterns_that_never_occurred_are_told():
    law = Missing.of(DATA, (3,))
    known = np.array([*DATA, [1.0, 2.0, 3.0]])
    assert not law.beyond(known)
    told = law.beyond(np.array([[NAN, 1.0, 1.0], *known]))
    assert told == "16.7% of the observations have patterns that were not among them"


def test_more_holes_than_shares_make_are_told():
    law = Missing.of(0.01, (10,))
    x = np.ones((4, 10))
    x[0, :2] = NAN
    assert not law.beyond(x)
    x[1, :9] = NAN
    assert "in 25.0% of the observations more numbers are missing than" in law.beyond(x)
    never = Missing.of([0.0, 0.5, 0.5], (3,))
    assert never.beyond(np.array([[NAN, 1.0, 1.0]])) == (
        "the number at (0,) is missing, and never was"
    )


def test_finite_numbers_and_masks_for_those_who_compare():
    law = Missing.of(0.3, (2,))
    x = np.array([[NAN, 1.0, 5.0], [3.0, NAN, 6.0]])
    like = np.array([[1.0, NAN, 0.0], [3.0, 4.0, 0.0]])
    np.testing.assert_array_equal(law.beside(x, like), [[2, 1, 5, 1, 0], [3, 4, 6, 0, 1]])
