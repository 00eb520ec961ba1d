"""What several tests of the checks look at."""

import pytest
from controls import ranked

import pymc_nre as nre


@pytest.fixture(scope="session")
def exact_ranks():
    """Of 2,000 pairs, by an exact ratio of a mean."""
    task = nre.tasks.GaussianMean()
    return ranked(task.estimator(), task.simulate(2_000, random_seed=1))
