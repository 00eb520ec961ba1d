"""Rounds that several tests look at."""

import pytest
from quick_rounds import quick


@pytest.fixture(scope="session", params=["truncated", "posterior"])
def found(request):
    return quick(method=request.param)
