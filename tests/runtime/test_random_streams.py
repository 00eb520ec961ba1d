"""A stream of one's own in the place of torch's."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pymc_nre.runtime.random_streams import RandomStream


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
