"""What several tests of training train on."""

import pytest
from quick_training import TASK


@pytest.fixture(scope="session")
def simulations():
    return TASK.simulate(4_000, random_seed=1)
