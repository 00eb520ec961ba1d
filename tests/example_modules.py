"""The scripts in examples/ as modules, some of which import each other."""

import importlib
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@contextmanager
def imported(*names):
    """Those, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield {name: importlib.import_module(name) for name in names}
