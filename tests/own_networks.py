"""Networks as users write them, which are traced: what tests of machine code share."""

from itertools import pairwise

import torch
from torch import nn

from pymc_nre.networks import build

D, E = 4, 3


def layers(activation, *widths, norm=False):
    steps = []
    for before, after in pairwise(widths):
        steps += [nn.Linear(before, after), *([nn.LayerNorm(after)] if norm else []), activation()]
    return nn.Sequential(*steps, nn.Linear(widths[-1], 1))


class Joined(nn.Module):
    def __init__(self, activation=nn.SiLU, norm=False):
        super().__init__()
        self.net = layers(activation, D + E, 21, 10, norm=norm)

    def forward(self, theta, x):
        return self.net(torch.cat([theta, x.flatten(1)], -1))


class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.of_theta = nn.Sequential(nn.Linear(D, 17), nn.SiLU(), nn.Linear(17, 6))
        self.of_x = nn.Sequential(nn.Linear(E, 9), nn.SiLU(), nn.Linear(9, 6))

    def embed(self, x):
        return self.of_x(x.flatten(1))

    def head(self, theta, features):
        return (self.of_theta(theta) * features).sum(-1)

    def forward(self, theta, x):
        return self.head(theta, self.embed(x))


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.of_x = nn.Linear(E, D + D * D + 1)

    def forward(self, theta, x):
        f = self.of_x(x.flatten(1))
        matrix = f[:, D:-1].reshape(-1, D, D)
        r = (matrix @ (theta - f[:, :D])[..., None])[..., 0]
        return f[:, -1] - 0.5 * (r * r).sum(-1)


class Film(nn.Module):
    def __init__(self):
        super().__init__()
        self.of_x, self.of_theta, self.out = nn.Linear(E, 12), nn.Linear(D, 24), nn.Linear(12, 1)

    def forward(self, theta, x):
        h = nn.functional.silu(self.of_x(x.flatten(1)))
        scale, shift = self.of_theta(theta).chunk(2, -1)
        return self.out(nn.functional.silu(h * (1 + scale) + shift))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.out = nn.Linear(1, 8), nn.Linear(8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, theta, x):
        h = self.token(torch.cat([theta, x.flatten(1)], -1)[..., None])
        return self.out(self.attention(h, h, h, need_weights=False)[0].mean(1))


class Fourier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = layers(nn.SiLU, 2 * D + E, 11)

    def forward(self, theta, x):
        return self.net(torch.cat([torch.sin(theta), torch.cos(theta), x.flatten(1)], -1))


class Student(nn.Module):
    """With a gamma function, whose second derivative no machine code is made for."""

    def __init__(self):
        super().__init__()
        self.net = layers(nn.Tanh, D, 7)

    def forward(self, theta, x):
        degrees = nn.functional.softplus(theta[:, 1:2]) + 1
        tail = torch.log1p((x[:, :1] - theta[:, :1]) ** 2 / degrees)
        return torch.lgamma(degrees) - degrees * tail + self.net(theta)


class InPlace(nn.Module):
    """Writes into its numbers, and chooses between them."""

    def __init__(self):
        super().__init__()
        self.net = layers(nn.SiLU, D + E, 9)

    def forward(self, theta, x):
        h = torch.cat([theta, x.flatten(1)], -1)
        h = h * 1.0
        h += 1
        h[:, 0] = torch.where(theta[:, 0] > 0, theta[:, 0], 0.01 * theta[:, 1])
        h[:, 1:3].mul_(2)
        return self.net(h) - (h**3).mean(-1, keepdim=True)


class Filled(nn.Module):
    """Fills a tensor of its own by indices and conditions, and computes what nobody asks for."""

    def forward(self, theta, x):
        theta.sort()
        x.mean()
        row, column = torch.tril_indices(2, 2)
        matrix = torch.zeros(len(theta), 2, 2, dtype=theta.dtype)
        matrix[:, row, column] = theta[:, [0, 2, 3]].asinh()
        z = (matrix @ x[:, :2, None])[..., 0]
        z[z > 1] = 0.5
        return torch.logsumexp(z, -1) - z.abs().sum(-1)


class Inner(nn.Module):
    """A derivative inside, whose sum over rows is none in the end."""

    def __init__(self):
        super().__init__()
        self.net = layers(nn.Tanh, D + E, 8)

    def forward(self, theta, x):
        def total(t):
            return self.net(torch.cat([t, x], -1)).sum()

        return torch.func.grad(total)(theta)[:, 0] * theta[:, 1]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.GRU(1, 3, batch_first=True)

    def forward(self, theta, x):
        return self.net(torch.cat([theta, x], -1)[..., None])[0][:, -1, 0]


class Normed(nn.Module):
    """Batch normalization, whose moments are weights of an estimator."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(D + E, 9), nn.BatchNorm1d(9), nn.PReLU(), nn.Linear(9, 5), nn.Tanh()
        )
        self.net[1].running_mean.normal_()
        self.net[1].running_var.uniform_(0.5, 2)

    def forward(self, theta, x):
        h = self.net(torch.cat([theta, x.flatten(1)], -1))
        return nn.functional.normalize(h)[:, 0] + h.norm(dim=-1)


class Truths(nn.Module):
    """Adds and multiplies what is true or false, which is not a sum or a product of numbers."""

    def forward(self, theta, x):
        high = (theta[:, 0] > 0) + (theta[:, 1] > 0)
        both = (theta[:, 2] > 0) * (x[:, 0] > 0)
        count = (theta > 0.3).sum(-1) + (theta > 0).double().sum(-1)
        return high * theta[:, 2] ** 3 + both * theta[:, 3] ** 2 + count * x[:, 1] * theta[:, 0]


class Linear(nn.Module):
    """Its gradient is the same everywhere; a power of zero, and a slice of nothing."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(D + E, 1)

    def forward(self, theta, x):
        nothing = (theta[:, D:] ** 2).sum(-1, keepdim=True) + theta[:, :1] ** 0
        return self.net(torch.cat([theta, x.flatten(1)], -1)) + nothing


class Rounding(nn.Module):
    def forward(self, theta, x):
        return theta[:, 0].float().double() * x[:, 0]


class Complex(nn.Module):
    def forward(self, theta, x):
        return (theta * 1j).abs().sum(-1) * x[:, 0]


class Narrow(nn.Module):
    """Features in single precision, which machine code would read as if they were double."""

    def embed(self, x):
        return x.float()

    def head(self, theta, features):
        return theta[:, 0] * features[:, 0]

    def forward(self, theta, x):
        return self.head(theta, self.embed(x))


class Deciding(nn.Module):
    """Does one thing or another, as a value says."""

    def forward(self, theta, x):
        return theta[:, 0] * x[:, 0] if theta[0, 0] > 0 else theta[:, 0]


class Mixing(nn.Module):
    """Takes numbers of other observations, too."""

    def forward(self, theta, x):
        return theta[:, 0] * (x[:, 0] - x[:, 0].mean())


class Sorting(nn.Module):
    def forward(self, theta, x):
        return theta.sort(-1).values[:, 1] * x[:, 0]


COMPILE = {
    **{
        f"joined, {activation.__name__}": lambda activation=activation: Joined(activation)
        for activation in (
            *(nn.SiLU, nn.GELU, nn.Tanh, nn.ELU, nn.Softplus, nn.ReLU),
            *(nn.LeakyReLU, nn.Mish, nn.Sigmoid),
        )
    },
    "joined, layer norm": lambda: Joined(norm=True),
    "bilinear": Bilinear,
    "quadratic": Quadratic,
    "film": Film,
    "attention": Attention,
    "fourier": Fourier,
    "in place": InPlace,
    "filled": Filled,
    "inner derivative": Inner,
    "recurrent": Recurrent,
    "normalized": Normed,
    "truths": Truths,
    "linear": Linear,
}
LEFT = {  # to torch, and why
    "a gamma function": (Student, "no machine code for torch's aten.polygamma"),
    "a decision": (Deciding, "torch.where compiles"),
    "other observations": (Mixing, "different observations"),
    "single precision inside": (Rounding, "float32"),
    "complex numbers": (Complex, "complex"),
    "features in single precision": (Narrow, "float32"),
    "a sort": (Sorting, "no machine code for torch's aten.sort"),
}


def made(factory, seed=0):
    """A network as estimators hold it, in double precision, with random moments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(lambda size, shape: factory(), D, (E,)).double()
        for part in (network.standardize_theta, network.standardize_x):
            part.mean.normal_()
            part.scale.uniform_(0.5, 2)
    return network.eval().requires_grad_(False)
