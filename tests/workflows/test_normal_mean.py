"""The example's claim, over five training seeds; minutes each, so marked slow.

docs/accuracy.md holds the last table that this printed.
"""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "normal_mean.py"


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.filterwarnings("default")  # PyMC tells of forks, ArviZ of its next version
def test_posterior_is_right_over_five_training_seeds(capsys):
    spec = importlib.util.spec_from_file_location("normal_mean", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = pd.concat({seed: example.main(seed=seed) for seed in range(1, 6)}, names=["seed"])
    with capsys.disabled():
        print(f"\n{table.round(3).to_string()}")
    errors, widths = table["error / sd"].abs(), table["sd ratio"]
    assert table["ESS"].min() >= 4_000
    assert errors.mean() <= 0.1
    assert errors.max() <= 0.2
    assert (widths - 1).abs().max() <= 0.05
