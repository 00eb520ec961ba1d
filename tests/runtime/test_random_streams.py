"""A stream of one's own in the place of torch's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pymc_nre.runtime.random_streams import (
    RandomStream,
    generator_of,
    plain_seed,
    seed_sequence,
)


def drawn(stream):
    """Eight numbers, two at a time."""
    parts = []
    for _ in range(4):
        with stream.in_place():
            parts.append(torch.rand(2))
    return torch.cat(parts)


def expected(seed):
    return torch.rand(8, generator=torch.Generator().manual_seed(seed))


def test_it_goes_on_where_it_was_and_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    assert torch.equal(drawn(RandomStream(3)), expected(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_fails_gives_it_back():
    def fail():
        with RandomStream(3).in_place():
            raise KeyError(torch.rand(1))

    before = torch.get_rng_state()
    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_draw_each_from_its_own():
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda seed: drawn(RandomStream(seed)), range(64)))
    for seed, numbers in enumerate(found):
        assert torch.equal(numbers, expected(seed))


def test_streams_can_be_nested():
    outer, inner = RandomStream(1), RandomStream(2)
    with outer.in_place():
        first = torch.rand(4)
        with inner.in_place():
            other = torch.rand(8)
        rest = torch.rand(4)
    assert torch.equal(torch.cat([first, rest]), expected(1))
    assert torch.equal(other, expected(2))


READINGS = {"plain": plain_seed, "sequence": seed_sequence, "generator": generator_of}


def first(read, seed):
    """What a reading of a seed starts with."""
    return np.random.default_rng(read(seed)).integers(2**63)


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_one_reading_of_seeds(read):
    of_an_int = np.random.default_rng(7).integers(2**63)
    assert [first(read, seed) for seed in (7, 7.0, np.uint8(7))] == [of_an_int] * 3
    # a sequence is not used up, a generator moves on
    sequence = np.random.SeedSequence(7)
    assert first(read, sequence) == first(read, sequence)
    assert sequence.n_children_spawned == 0
    generator = np.random.default_rng(7)
    assert first(read, generator) != first(read, generator)


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
@pytest.mark.parametrize("seed", ["1", 1.5, True, [1, 2], np.random.RandomState(1), np.nan])
def test_what_is_no_seed(read, seed):
    message = "^random_seed: expected a whole number.*Generator.*SeedSequence or None, got "
    with pytest.raises(TypeError, match=message):
        read(seed)
    with pytest.raises(ValueError, match="random_seed: expected at least 0, got -1"):
        read(-1)


def test_without_a_seed_it_is_another_one_each_time():
    assert plain_seed(None) is None
    assert seed_sequence(None).entropy != seed_sequence(None).entropy
