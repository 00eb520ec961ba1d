"""A network in training beside one that is known."""

import torch

from pymc_nre.networks import MLP
from pymc_nre.networks.composed.offset import Offset


def test_the_sum_of_both_and_only_one_is_trained():
    torch.manual_seed(1)
    inner, known = MLP((8,)).build(2, (5,)), MLP((4, 4)).build(2, (3,))
    both = Offset(inner, known)
    theta, x = torch.randn(6, 2), torch.randn(6, 5)
    both.fit_standardization(theta, x)
    torch.testing.assert_close(both(theta, x), inner(theta, x) + known(theta, x[:, 2:]))
    table = both.head(theta[None], both.embed(x)[:, None])
    torch.testing.assert_close(table[2, 4], both(theta[4:5], x[2:3])[0])
    both(theta, x).sum().backward()
    assert all(weight.grad is None for weight in known.parameters())
    assert all(weight.grad is not None for weight in inner.parameters())
