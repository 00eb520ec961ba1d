"""Other things are refused by name, with what they are."""

import pytest

from pymc_nre.runtime.kinds import check_kind


def refuse(value):
    check_kind(value, (int, float), "f: n", "a number", "Pass 1.")


def test_what_it_says():
    refuse(1.0)
    with pytest.raises(TypeError, match=r"^f: n: expected a number, got str\. Pass 1\.$"):
        refuse("1")
    with pytest.raises(TypeError, match=r"^f: n: expected a number, got the class int\. Pass 1\.$"):
        refuse(int)
