"""Conditions by name, packed behind observations, and split again."""

import json

import numpy as np
import pytest

from pymc_nre.simulation.conditions.layout import Conditions, split_keywords

RNG = np.random.default_rng(1)
LOW, HIGH = (0.0, -1.0, -1.0), (1.0, 1.0, 1.0)
KNOWN = Conditions({"dose": (), "design": (2,)}, (3,), LOW, HIGH, ("dose",))


def test_what_is_packed_is_split_again():
    x, dose, design = RNG.normal(size=(4, 5, 3)), RNG.integers(3, size=5), RNG.normal(size=2)
    packed = KNOWN.pack(x, {"design": design, "dose": dose}, "f")
    assert packed.shape == (4, 5, *KNOWN.packed_shape) == (4, 5, 6)
    found, conditions = KNOWN.split(packed)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(conditions["dose"], np.broadcast_to(dose, (4, 5)))
    np.testing.assert_array_equal(conditions["design"], np.broadcast_to(design, (4, 5, 2)))
    assert conditions["dose"].dtype.kind == "i"


def test_a_scalar_observation():
    known = Conditions({"c": ()}, (), (0.0,), (1.0,))
    packed = known.pack(np.array(2.0), {"c": 0.5}, "f")
    np.testing.assert_array_equal(packed, [2.0, 0.5])
    x, conditions = known.split(packed)
    assert x == 2.0
    assert conditions["c"] == 0.5


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"dose": 1}, TypeError, "f: expected the conditions dose, design, got missing design"),
        ({"dose": 1, "design": [0, 0], "k": 1}, TypeError, "got unknown k"),
        ({"dose": np.zeros(4), "design": [0, 0]}, ValueError, r"'dose' has the batch shape \(4,\)"),
        ({"dose": np.zeros((1, 5)), "design": [0, 0]}, ValueError, "one value for each"),
        ({"dose": 1, "design": [0, 0, 0]}, ValueError, r"condition 'design' has own shape \(2,\)"),
        ({"dose": np.nan, "design": [0, 0]}, ValueError, "f: dose: 1 of 1 values are NaN"),
        ({"dose": "a", "design": [0, 0]}, TypeError, "f: dose: expected numbers"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(given, kind, message):
    with pytest.raises(kind, match=message):
        KNOWN.pack(np.zeros((5, 3)), given, "f")


def test_what_lies_outside_is_told_by_name_and_share():
    x = np.zeros((4, 3))
    inside = {"dose": [0, 1, 1, 0], "design": [0.5, 1.0]}
    assert KNOWN.outside(KNOWN.pack(x, inside, "f")) == ""
    told = KNOWN.outside(KNOWN.pack(x, inside | {"dose": [0, 1, 5, 9]}, "f"))
    assert told == "dose reaches 5 to 9 (50.0% of the observations), trained in [0, 1]"
    # Draws do not quite reach the ends of a distribution.
    assert KNOWN.outside(KNOWN.pack(x, inside | {"design": [1.005, 0.0]}, "f")) == ""
    assert "design[0]" in KNOWN.outside(KNOWN.pack(x, inside | {"design": [1.2, 0.0]}, "f"))


def test_a_file_gives_the_same():
    assert Conditions.from_dict(json.loads(json.dumps(KNOWN.to_dict()))) == KNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": {}},
        {"shapes": {"dose": [-1], "design": [2]}},
        {"shapes": {"dose": 3}},
        {"shapes": {"a dose": [], "design": [2]}},
        {"event_shape": "3"},
        {"low": [0.0]},
        {"low": [0.0, float("nan"), 1.0]},
        {"high": ["a", 1.0, 1.0]},
        {"integer": ["k"]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(change):
    with pytest.raises(ValueError, match=r"expected the fields|must"):
        Conditions.from_dict(KNOWN.to_dict() | change)
    with pytest.raises(ValueError, match="expected the fields"):
        Conditions.from_dict([1])


def test_keywords_are_parameters_or_conditions():
    assert split_keywords(KNOWN, {"mu": 1, "dose": 2}) == ({"mu": 1}, {"dose": 2})
    assert split_keywords(None, {"mu": 1, "dose": 2}) == ({"mu": 1, "dose": 2}, {})
