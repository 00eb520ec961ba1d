"""Losses are read back from their texts, and nothing else is."""

import pytest

from pymc_nre.losses import BNRE, DNRE, NREA, NREB, NREC, Balanced, MultiScale
from pymc_nre.losses.written import loss_from_text

LOSSES = (
    NREA(),
    NREB(candidates=7),
    NREC(candidates=3, gamma=0.5),
    BNRE(),
    Balanced(NREC(candidates=3), strength=10.0),
    MultiScale(),
    MultiScale(NREB(candidates=4), candidates=2, scales=(0.1, 1.0)),
    DNRE("additive"),
)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_loss_is_what_it_shows(loss):
    assert loss_from_text(repr(loss)) == loss


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CARL(2,000 reference simulations at mu = 0)",
        "NREC(candidates=5, gamma=1.0), calibrated (isotonic, 8 regions)",
        "NREC(5)",
        "NREC(candidates=-5, gamma=1.0)",
        "NREC(candidates=5)",  # of another version, which said less
        "NREC(letters=5)",
        "Mine()",
        "__import__('os')",
        "NREC",
        "(" * 300,
    ],
)
def test_what_is_no_loss_is_none(text):
    assert loss_from_text(text) is None
