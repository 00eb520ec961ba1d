"""Calibration: what is distorted is restored, in torch, in compiled code, in models, on disk."""

import re

import numpy as np
import pymc as pm
import pytest
import torch
from direct_ratios import direct
from scipy.special import expit
from scipy.stats import norm
from traced import evaluator_of, everything, rows_of, traced
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre import tasks
from pymc_nre.estimators.domain import Domain
from pymc_nre.kernels.traced.evaluator import Traced
from pymc_nre.networks import RatioNetwork
from pymc_nre.networks.calibration.calibrated import Calibrated
from pymc_nre.networks.composed.correction import QuadraticCorrection
from pymc_nre.ops.engines.compilable import compilable, whole

METHODS = ["isotonic", "histogram", "kernel"]
WIDEST = 2.0  # of the mean of a normal observation, the reference is 0
N = 40_000


class Distorted(RatioNetwork):
    """The exact log ratio ``mu x - mu^2 / 2`` after a known map, and more for some parameters."""

    def __init__(self, bend=lambda s: s, shift=lambda mu: 0 * mu):
        super().__init__(1, ())
        self.bend, self.shift = bend, shift

    def embed(self, x):
        return x[:, None]

    def head(self, theta, features):
        mu, x = theta[..., 0], features[..., 0]
        return self.bend(mu * x - mu**2 / 2) + self.shift(mu)


BENDS = {
    "too sure": lambda s: 2 * s,
    "not sure enough, and shifted": lambda s: 0.4 * s + 1,
    "bent": lambda s: torch.where(s > 0, 2 * s, s / 2) + torch.asinh(s),
}


def estimator(reference="fixed", **how):
    rng = np.random.default_rng(0)
    mu = rng.uniform(-WIDEST, WIDEST, (2_000, 1))
    return nre.RatioEstimator(
        Distorted(**how),
        {"mu": ()},
        domain=Domain.from_draws(mu),
        probe_x=rng.normal(mu[:, 0]),
        reference=reference,
        loss="a loss",
    )


def simulate(n=N, seed=1):
    """Of the prior, and of the reference."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(-WIDEST, WIDEST, n)
    return (
        nre.Simulations({"mu": mu}, rng.normal(mu)),
        nre.Simulations({"mu": np.zeros(n)}, rng.normal(size=n)),
    )


def pairs(n=4_000, seed=2):
    """Parameters, observations of either kind, and their exact log ratios."""
    rng = np.random.default_rng(seed)
    mu = rng.uniform(-WIDEST, WIDEST, n)
    x = rng.normal(mu * rng.integers(0, 2, n))
    return mu, x, mu * x - mu**2 / 2


def error(ratio, most=2.0):
    """Root mean square, where neither kind is rarer than one in eight."""
    mu, x, exact = pairs()
    near = np.abs(exact) < most
    return np.sqrt(np.mean((ratio.log_ratio(x, mu=mu) - exact)[near] ** 2))


def noise(regions, bins=16, most=2.0):
    """Root mean square standard error of log odds that are counted in bins of each region."""
    share = expit(pairs()[2][np.abs(pairs()[2]) < most])
    return np.sqrt(np.mean(regions * bins / (2 * N) / (share * (1 - share))))


@pytest.mark.parametrize("regions", [1, 4])
@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_known_distortion_is_undone(method, bend, regions):
    ratio = estimator(bend=BENDS[bend])
    found = nre.calibrate(ratio, *simulate(), method=method, regions=regions)
    # Curves are drawn through a few points: as much again.
    assert error(found) < 2 * noise(regions)
    assert error(ratio) > 5 * noise(regions)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_right_is_left_alone(method):
    assert error(nre.calibrate(estimator(), *simulate(), method=method)) < noise(8)


def wave(mu):
    return 0.8 * torch.sin(2 * mu)


@pytest.mark.parametrize("method", METHODS)
def test_regions_undo_what_differs_between_parameters(method):
    """One curve for all cannot tell two parameters of the same logit apart."""
    ratio = estimator(shift=wave)
    one, many = (
        error(nre.calibrate(ratio, *simulate(), method=method, regions=regions))
        for regions in (1, 16)
    )
    assert many < noise(16)
    assert one > 0.8 * error(ratio) > 3 * noise(16)


def test_a_ratio_to_the_evidence_needs_no_reference():
    """Its other pairs are its own: each observation with the parameters of another."""
    task = nre.tasks.GaussianMean()
    exact = task.estimator()
    wrong = nre.RatioEstimator(
        Powered(exact.network, 2.0), {"mu": ()}, domain=exact.domain, probe_x=exact.probe_x
    )
    found = nre.calibrate(wrong, task.simulate(N, random_seed=1))
    fresh = task.simulate(2_000, random_seed=2)
    right, mu = exact.log_ratio(fresh.x, **fresh.parameters), fresh.parameters
    before, after = (
        np.sqrt(np.mean((one.log_ratio(fresh.x, **mu) - right) ** 2)) for one in (wrong, found)
    )
    assert before > 1
    assert after < 0.15 * before


class Powered(RatioNetwork):
    def __init__(self, inner, power):
        torch.nn.Module.__init__(self)
        self.inner, self.power, self.event_shape = inner, power, inner.event_shape
        self.register_buffer("like", torch.zeros(1))

    def embed(self, x):
        return self.inner.embed(x)

    def head(self, theta, features):
        return self.power * self.inner.head(theta, features)


def test_the_order_of_simulations_does_not_matter():
    """Sorted ones have neighbors that are alike, which are no pairs of the evidence."""
    task = nre.tasks.GaussianMean()
    simulations = task.simulate(4_000, random_seed=1)
    order = np.argsort(simulations.parameters["mu"])
    both = [nre.calibrate(task.estimator(), each) for each in (simulations, simulations[order])]
    mu, x = simulations.parameters["mu"][:500], simulations.x[:500]
    values = [ratio.log_ratio(x, mu=mu) for ratio in both]
    # Of the same problem, by other pairs.
    assert np.median(np.abs(values[0] - values[1])) < 0.1


def test_where_the_reference_makes_nothing_alike_nothing_changes():
    """Observations at 9 lie nine standard deviations from those of the reference."""
    rng = np.random.default_rng(1)
    mu = rng.uniform(8, 10, 4_000)
    far = nre.Simulations({"mu": mu}, rng.normal(mu))
    reference = nre.Simulations({"mu": np.zeros(4_000)}, rng.normal(size=4_000))
    ratio = estimator()
    found = nre.calibrate(ratio, far, reference, regions=1)
    change = found.log_ratio(far.x, mu=mu) - ratio.log_ratio(far.x, mu=mu)
    assert np.abs(change).max() < 1e-3  # all is one window, in which as many came as expected


def test_isotonic_points_are_those_of_scikit_learn():
    from sklearn.isotonic import IsotonicRegression

    from pymc_nre.estimators.calibration.windows import curve_points

    rng = np.random.default_rng(3)
    s = rng.normal(0, 1.5, 50_000)
    joint = rng.random(50_000) < expit(2 * s - 0.5)
    weight = rng.uniform(0.2, 1, 50_000)
    places, heights = curve_points("isotonic", s, joint, weight)
    fitted = IsotonicRegression().fit(s, joint, sample_weight=weight).predict(places)
    # At the ends there are few, and a pool of one kind alone has no finite log odds.
    inner = (fitted > 0.02) & (fitted < 0.98)
    assert inner.sum() > 10
    step = np.abs(expit(heights) - fitted)[inner]
    assert np.median(step) < 0.01


def test_a_curve_of_isotonic_calibration_rises():
    found = nre.calibrate(estimator(), *simulate(2_000), method="isotonic")
    s = torch.linspace(-8, 8, 500, dtype=torch.float64)
    assert (found.network.curves(s).diff(dim=0) >= -1e-12).all()


# --- as an estimator -------------------------------------------------------------------------


def of_network(members=1, method="isotonic", regions=3, **options):
    """A calibrated network of two parameters, one of them a vector, with random weights."""
    options = {"event_shape": (2,), "history": False, **options}
    domain = Domain.from_draws(np.random.default_rng(0).normal(1, 2, (500, 3)))
    ratio = nre.ensemble(
        [make_estimator(seed=seed, domain=domain, **options) for seed in range(members)]
    )
    rng = np.random.default_rng(1)
    mu, beta = rng.normal(1, 2, 800), rng.normal(1, 2, (800, 2))
    simulations = nre.Simulations({"mu": mu, "beta": beta}, rng.normal(-1, 3, (800, 2)))
    return nre.calibrate(ratio, simulations, method=method, regions=regions)


@pytest.mark.parametrize(("method", "members"), [("isotonic", 1), ("kernel", 2)])
def test_compiled_code_gives_what_torch_gives(method, members):
    ratio = of_network(members, method)
    assert isinstance(compilable(ratio, walled=True), Traced)
    assert isinstance(whole(ratio, walled=True), Traced)
    rng = np.random.default_rng(4)
    theta, x, v = rng.normal(1, 2, (300, 3)), rng.normal(-1, 3, (300, 2)), rng.normal(size=(300, 3))
    found = traced(ratio.network, 3, (2,))
    compiled = evaluator_of(found)
    for shared in (theta, theta[:1]):
        torchs = everything(ratio.evaluator, shared, x, v)
        ours = everything(compiled, shared, rows_of(found, ratio.network, x), v)
        for got, wanted in zip(ours, torchs, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_derivatives_are_those_of_differences():
    ratio = of_network()
    rng = np.random.default_rng(5)
    theta, x = rng.normal(1, 2, (50, 3)), rng.normal(-1, 3, (50, 2))
    gradient = ratio.evaluator.value_and_gradient(theta, x)[1]
    for k, step in enumerate(1e-5 * np.eye(3)):
        above, below = (ratio.evaluator.value(theta + s, x) for s in (step, -step))
        np.testing.assert_allclose(gradient[:, k], (above - below) / 2e-5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("centered", [False, True])
def test_saved_and_loaded_it_is_the_same(tmp_path, members, centered):
    ratio = of_network(members)
    if centered:
        ratio = ratio.replace(network=QuadraticCorrection(ratio.network, 3).double())
    ratio.save(tmp_path / "a.nre")
    loaded = nre.load(tmp_path / "a.nre")
    assert loaded == ratio
    assert (loaded.is_calibrated, loaded.is_locally_centered) == (True, centered)
    assert loaded.members == members
    assert loaded.specification == ratio.specification is not None


def test_it_says_what_it_is():
    ratio = of_network()
    assert ratio.loss == "NREC(candidates=5, gamma=1.0), calibrated (isotonic, 3 regions)"
    assert ratio.loss in repr(ratio)
    assert ratio.is_calibrated
    assert not make_estimator().is_calibrated
    assert ratio.architecture == make_estimator(event_shape=(2,)).architecture
    assert type(ratio.trained) is type(make_estimator(event_shape=(2,)).network)
    assert ratio.budget is None
    assert ratio != of_network(method="kernel")


@pytest.mark.one_python
def test_nuts_samples_what_is_right():
    """By a ratio that is three times too sure: a posterior that is far too narrow, and mended."""
    x = np.random.default_rng(1).normal(0.8, 1, 20)
    wrong = estimator(bend=lambda s: 3 * s)
    right = nre.calibrate(wrong, *simulate(), regions=4)
    widths = {}
    for name, ratio in {"wrong": wrong, "right": right}.items():
        with pm.Model():
            mu = pm.Uniform("mu", -WIDEST, WIDEST)
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x)
            drawn = pm.sample(
                500, tune=500, chains=2, cores=1, random_seed=1, progressbar=False,
                compute_convergence_checks=False,
            )  # fmt: skip
        draws = drawn["posterior"]["mu"].to_numpy()
        widths[name] = draws.std()
    exact = norm(x.mean(), 1 / np.sqrt(20))
    assert draws.mean() == pytest.approx(exact.mean(), abs=0.25 * exact.std())
    assert widths["right"] == pytest.approx(exact.std(), rel=0.15)
    assert widths["wrong"] < 0.7 * exact.std()


# --- refused ---------------------------------------------------------------------------------

REFUSED = {
    "no ratio": ({"ratio": "ratio"}, TypeError, "calibrate: ratio: expected a RatioEstimator"),
    "not normalized": (
        {"ratio": estimator().replace(normalized=False)},
        ValueError,
        "calibrate: ratio: expected one whose logits are log ratios themselves, got one by a loss",
    ),
    "calibrated": (
        {"ratio": estimator().replace(network=Calibrated(estimator().network, 1, 1, 1))},
        ValueError,
        "got one that was calibrated. Calibrate the ratio from before.",
    ),
    "centered": (
        {"ratio": estimator().replace(network=QuadraticCorrection(estimator().network, 1))},
        ValueError,
        "got one that was centered around one posterior.",
    ),
    "no reference": (
        {"reference_simulations": None},
        ValueError,
        "calibrate: reference_simulations: expected simulations at the reference of the ratio",
    ),
    "a reference that varies": (
        {"reference_simulations": simulate(600)[0]},
        ValueError,
        "all have the same parameters",
    ),
    "a reference that is not wanted": (
        {"ratio": estimator("evidence")},
        ValueError,
        "calibrate: reference_simulations: expected none, as the ratio is one to the evidence",
    ),
    "too few": (
        {"simulations": simulate(499)[0]},
        ValueError,
        "calibrate: simulations: expected 500 or more, got 499.",
    ),
    "other parameters": (
        {"simulations": nre.Simulations({"nu": np.zeros(600)}, np.zeros(600))},
        ValueError,
        "The simulations do not fit the ratio: expected the parameters {'mu': ()}",
    ),
    "no method": (
        {"method": "sigmoid"},
        ValueError,
        "calibrate: method: expected one of histogram, isotonic, kernel, got 'sigmoid'.",
    ),
    "no regions": ({"regions": 0}, ValueError, "calibrate: regions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    changes, error, message = REFUSED[case]
    drawn, reference = simulate(600)
    given = {"ratio": estimator(), "simulations": drawn, "reference_simulations": reference}
    with pytest.raises(error, match=re.escape(message)):
        nre.calibrate(**given | changes)


def test_ensembles_are_calibrated_whole():
    with pytest.raises(ValueError, match=re.escape("was calibrated. Combine those from before")):
        nre.ensemble([of_network(), of_network()])


def test_it_is_not_trained_on():
    """Curves are for the logits that there were."""
    supply = nre.Online({"mu": pm.Uniform.dist(-2, 2)}, lambda rng, mu: rng.normal(mu))
    ratio = nre.calibrate(estimator("evidence"), simulate(600)[0])
    with pytest.raises(ValueError, match=re.escape("calibrated, and fine-tuning would change")):
        nre.center(ratio, supply, steps=2, progressbar=False)


@pytest.mark.parametrize(
    "make",
    [
        lambda task: direct(task).relative_to(mu=1.0),
        lambda task: make_estimator({"mu": ()}, reference="fixed", theta_ref=[1.0]),
    ],
    ids=["made of a direct one", "trained"],
)
def test_reference_simulations_of_another_reference_are_refused(make):
    """Curves for another one would be wrong."""
    task = tasks.GaussianMean()
    ratio = make(task)
    rng = np.random.default_rng(1)
    at = {
        mu: nre.Simulations({"mu": np.full(600, mu)}, rng.normal(mu, 1.0, 600))
        for mu in (1.0, -1.0)
    }
    simulations = task.simulate(600, random_seed=1)
    assert nre.calibrate(ratio, simulations, at[1.0]).is_calibrated
    with pytest.raises(ValueError, match=r"relative to, \[1\.0\], got CARL\(600 reference .*-1\)"):
        nre.calibrate(ratio, simulations, at[-1.0])
