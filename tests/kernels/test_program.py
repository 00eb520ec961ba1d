"""Programs are plain data: equal, hashed and pickled by value."""

import pickle
from dataclasses import FrozenInstanceError, replace

import numba
import numpy as np
import pytest

from pymc_nre.kernels.program import ACTIVATIONS, AllSteps, FewSteps, Kind, Program, Step

STEPS = (Step(Kind.JOIN, 3, 8, 0), Step(Kind.ACTIVATE, 8, 8, 48), Step(Kind.LINEAR, 8, 1, 48))
PROGRAM = Program(STEPS, "silu")


def test_equal_by_value():
    program, again = Program(STEPS, "silu"), pickle.loads(pickle.dumps(PROGRAM))
    program.instructions  # noqa: B018  # what is kept there is no part of the value
    for other in (program, again, pickle.loads(pickle.dumps(program))):
        assert other == PROGRAM
        assert hash(other) == hash(PROGRAM)
        assert repr(other) == repr(PROGRAM)
    others = [
        replace(PROGRAM, activation="gelu"),
        replace(PROGRAM, members=2),
        replace(PROGRAM, members=2, mean_of="logits"),
        replace(PROGRAM, steps=(*STEPS[:2], Step(Kind.LINEAR, 8, 1, 49))),
    ]
    assert len({PROGRAM, *others}) == 5
    with pytest.raises(FrozenInstanceError):
        PROGRAM.members = 3


def test_columns_of_observations_and_of_features():
    assert PROGRAM.columns == 3
    assert replace(PROGRAM, members=4).columns == 3
    features = replace(PROGRAM, steps=(Step(Kind.FEATURES, 0, 8, 0), *STEPS[1:]))
    assert features.columns == 8
    assert replace(features, members=4).columns == 32


def test_instructions_are_its_numbers_and_types():
    instructions = replace(PROGRAM, members=2, mean_of="logits").instructions
    np.testing.assert_array_equal(instructions.steps, [[0, 3, 8, 0], [2, 8, 8, 48], [3, 8, 1, 48]])
    assert instructions.steps.dtype == np.int64
    assert (instructions.members, instructions.mean_of_logits) == (2, True)
    assert isinstance(instructions.known, FewSteps)
    normed = (*STEPS[:2], Step(Kind.AFFINE, 8, 8, 48), STEPS[2])
    assert isinstance(replace(PROGRAM, steps=normed).instructions.known, AllSteps)


def test_numba_knows_activations_apart_and_nothing_else():
    def kind(**changes):
        return numba.typeof(replace(PROGRAM, **changes).instructions)

    assert len({kind(activation=name) for name in ACTIVATIONS}) == len(ACTIVATIONS)
    assert kind(members=3, mean_of="logits") == kind()
    assert kind(steps=(*STEPS[:2], *STEPS[1:])) == kind()
    assert kind(steps=(*STEPS, Step(Kind.KEEP, 1, 1, 57))) != kind()
