"""What the benchmarks of memory measure at full size, at a small one."""

import sys

import pytensor
import pytest
from benchmarks import limits, many_ratios

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# Twice what they take at these sizes, and less than all of it at once would take: 512 MB for the
# model, 205 MB for the draws, 50 MB for the simulations, 256 MB for the domain.
MOST_MEGABYTES = 45.0


@pytest.mark.parametrize("case", limits.CASES)
def test_memory_does_not_grow_with_everything_at_once(case):
    assert limits.CASES[case](**limits.SIZES[True])["megabytes"] < MOST_MEGABYTES


@pytest.mark.parametrize("loop", many_ratios.LOOPS)
def test_models_of_one_ratio_after_another(loop):
    with pytensor.config.change_flags(mode="FAST_COMPILE"):
        found = many_ratios.grown(loop, turns=5, first=3)
    assert max(found.values()) < many_ratios.MOST_MEGABYTES
