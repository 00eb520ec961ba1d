"""Training goes on from a trained ratio, as it was, with more simulations."""

import numpy as np
import pymc as pm
import pytest
import torch
from partly_frozen import LAYER, PartlyFrozen, moved, partly_frozen
from quick_training import TASK, quick
from untrained import make_estimator

import pymc_nre as nre
from pymc_nre.exceptions import TrainingWarning
from pymc_nre.losses import CARL, DNRE, NREA, NREB, NREC
from pymc_nre.networks import MLP
from pymc_nre.training.batching.batches import batches_of
from pymc_nre.training.settings import Settings
from pymc_nre.training.start import Start

# A few epochs on a few simulations, from new weights, may find nothing.
pytestmark = pytest.mark.filterwarnings("ignore:The validation loss")
STILL = {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}  # steps that change nothing
X, MU = np.linspace(-8, 8, 33), np.linspace(-7, 9, 33)
SMALL = MLP((8,))


@pytest.fixture(scope="module")
def simulations():
    return TASK.simulate(300, random_seed=1)


@pytest.fixture(scope="module")
def more():
    return TASK.simulate(300, random_seed=2)


@pytest.fixture(scope="module")
def ratio(simulations):
    return quick(simulations, network=SMALL, epochs=30)


def same(one, other):
    values = [each.log_ratio(X, mu=MU) for each in (one, other)]
    return np.allclose(*values, atol=1e-5, rtol=1e-5)


def test_it_begins_with_what_was_learned(ratio, simulations, more):
    grown = quick(simulations + more, start=ratio, **STILL)
    assert same(grown, ratio)
    assert not same(quick(simulations + more, network=SMALL, **STILL), ratio)
    assert grown.specification == ratio.specification
    assert grown.loss == ratio.loss
    assert grown.history.attrs["n_simulations"] == 600


def test_the_start_is_left_alone(ratio, simulations, more):
    before = ratio.digest
    grown = quick(simulations + more, start=ratio)
    assert not same(grown, ratio)
    assert ratio.replace().digest == before
    assert not any(weight.requires_grad for weight in ratio.network.parameters())


def test_more_simulations_make_it_better(ratio, simulations):
    more = TASK.simulate(3_000, random_seed=2)
    grown = nre.train(simulations + more, start=ratio, epochs=20, random_seed=1, progressbar=False)
    exact, test = TASK.estimator(), TASK.simulate(2_000, random_seed=3)
    values = [each.log_ratio(test.x, mu=test.parameters["mu"]) for each in (exact, grown, ratio)]
    grown_error, error = (np.square(value - values[0]) for value in values[1:])
    gained = error - grown_error
    assert gained.mean() > 5 * gained.std() / np.sqrt(len(gained))


def test_members_go_on_one_by_one(simulations, more):
    both = quick(simulations, network=SMALL, members=2)
    grown = quick(simulations + more, start=both, **STILL)
    assert grown.members == 2
    assert same(grown, both)
    pairs = zip(grown.network.members, both.network.members, strict=True)
    assert all(
        torch.allclose(one.x_in.weight, other.x_in.weight, atol=1e-6) for one, other in pairs
    )


def test_what_was_seen_is_not_held_out(ratio, simulations, more):
    start = Start(ratio)
    assert start.seen(simulations + more) == 300
    assert start.seen(more + simulations) == start.seen(more) == start.seen(simulations[1:]) == 0
    batches = batches_of(simulations + more, NREC(), 0.1, "cpu", 1, 300)
    assert len(batches.unseen) == 60
    assert batches.unseen.min() >= 300
    assert batches.size == 540
    few = batches_of(simulations + more[:40], NREC(), 0.1, "cpu", 1, 300)
    assert len(few.unseen) == 20  # half of what is new is learned from
    again = batches_of(simulations, NREC(), 0.1, "cpu", 1, 300)  # nothing is new
    assert np.array_equal(again.unseen, batches_of(simulations, NREC(), 0.1, "cpu", 1).unseen)


def test_more_are_known_than_draws_are_kept(ratio, simulations, more):
    history = ratio.history.assign_attrs(n_simulations=400)
    assert Start(ratio.replace(history=history)).seen(simulations + more) == 400
    old = {k: v for k, v in ratio.history.attrs.items() if k != "n_simulations"}
    history.attrs = old
    assert Start(ratio.replace(history=history)).seen(simulations + more) == 300


@pytest.mark.parametrize("loss", [NREB(candidates=3), DNRE(), NREA()], ids=repr)
def test_the_loss_is_that_of_the_start(loss, simulations, more):
    begun = quick(simulations, network=SMALL, loss=loss)
    grown = quick(simulations + more, start=begun, **STILL)
    assert grown.loss == repr(loss)
    assert grown.reference == loss.reference
    assert grown.architecture == begun.architecture


def test_scales_are_kept_where_the_prior_is_known(simulations):
    wanted = nre.losses.MultiScale(scales=(0.05, 0.5))
    begun = quick(simulations, network=SMALL, loss=wanted)
    assert Start(begun).loss(None, simulations) == wanted
    bare = nre.Simulations(simulations.parameters, simulations.x)
    assert Start(begun).loss(None, bare) == NREC()


def test_a_loss_that_is_not_known_is_chosen_anew(ratio, simulations):
    assert Start(ratio.replace(loss="Mine()")).loss(None, simulations) == nre.losses.MultiScale()


def test_missing_numbers_go_on_missing():
    rng = np.random.default_rng(1)
    mu = rng.uniform(-2, 2, 200)
    pairs = nre.Simulations({"mu": mu}, rng.normal(mu[:, None], 1.0, (200, 2)))
    begun = quick(pairs, network=SMALL, missing=0.3)
    grown = quick(pairs, start=begun, **STILL)
    assert grown.missing == begun.missing
    x = [[0.3, np.nan], [np.nan, 1.0]]
    assert np.allclose(grown.log_ratio(x, mu=0.1), begun.log_ratio(x, mu=0.1), atol=1e-5)
    with pytest.raises(ValueError, match="no place for masks"):
        quick(pairs, start=quick(pairs, network=SMALL), missing=0.3)


def test_fresh_simulations_go_on_too(ratio):
    prior = {"mu": pm.Uniform.dist(-10, 10)}
    online = nre.Online(prior, TASK.simulator, batched=True, per_epoch=200, random_seed=1)
    assert same(quick(online, start=ratio, **STILL), ratio)


def test_a_network_of_ones_own_goes_on(simulations, more):
    def factory(theta_size, event_shape):
        return Own(theta_size)

    class Own(torch.nn.Module):
        def __init__(self, theta_size):
            super().__init__()
            self.layer = torch.nn.Bilinear(theta_size, 1, 1)

        def forward(self, theta, x):
            return self.layer(theta, x[:, None])

    begun = quick(simulations, network=factory)
    assert same(quick(simulations + more, start=begun, **STILL), begun)


@pytest.fixture(scope="module")
def frozen(simulations):
    return quick(simulations, network=partly_frozen, members=2)


@pytest.mark.parametrize("how", ["as it came", "loaded", "calibrated before"])
def test_what_was_not_trained_is_not_trained_after(how, frozen, simulations, more, tmp_path):
    start = frozen
    if how == "loaded":
        frozen.save(tmp_path / "frozen.nre")
        start = nre.load(tmp_path / "frozen.nre", network=partly_frozen)
    if how == "calibrated before":
        calibrated = nre.calibrate(frozen, TASK.simulate(2_000, random_seed=5))
        start = calibrated.replace(network=calibrated.trained)
    grown = quick(simulations + more, start=start)
    assert moved(start, grown) == {f"members.{k}.{name}" for k in (0, 1) for name in LAYER}
    assert quick(simulations + more, start=grown).network.members[1].kept_weights == (
        "module.known.weight",
        "module.known.bias",
    )


@pytest.mark.parametrize("network", [partly_frozen, SMALL], ids=["partly frozen", "trained whole"])
def test_a_training_resumes_from_the_file_of_its_start(network, simulations, more, tmp_path):
    start = quick(simulations, network=network)
    start.save(tmp_path / "start.nre")
    own = {"network": network} if network is partly_frozen else {}
    loaded = nre.load(tmp_path / "start.nre", **own)
    options = {"checkpoint": tmp_path / "a.ckpt", "epochs": 2}
    grown = quick(simulations + more, start=start, **options)
    assert quick(simulations + more, start=loaded, **options) == grown


def test_all_is_trained_where_nothing_was_frozen(simulations, more):
    """The twin: the same network, none of whose weights were held fast."""

    def factory(theta_size, event_shape):
        return PartlyFrozen(theta_size).requires_grad_(True)

    begun = quick(simulations, network=factory)
    grown = quick(simulations + more, start=begun)
    assert moved(begun, grown) == LAYER | {"module.known.weight", "module.known.bias"}


def test_half_of_the_epochs_by_default_and_all_of_them():
    others = 9_000, NREC(), False, 9_000
    plan, again = (Settings(goes_on=goes_on).plan(*others) for goes_on in (False, True))
    assert again.epochs == -(-plan.epochs // 2) == again.patience
    assert Settings(epochs=7, goes_on=True).plan(*others).epochs == 7


def test_a_checkpoint_is_of_one_start(ratio, simulations, more, tmp_path):
    options = {"start": ratio, "checkpoint": tmp_path / "a.ckpt", "epochs": 2}
    grown = quick(simulations + more, **options)
    assert quick(simulations + more, **options) == grown
    other = ratio.replace(network=quick(simulations, network=SMALL, random_seed=2).network)
    with pytest.raises(ValueError, match="belongs to another training run, with other network"):
        quick(simulations + more, **options | {"start": other})
    with pytest.raises(ValueError, match="belongs to another training run, with other network"):
        quick(simulations + more, **options | {"start": None, "network": SMALL})


def test_a_domain_that_is_left_is_told(ratio):
    narrow = nre.tasks.GaussianMean(half_width=5.0).simulate(300, random_seed=1)
    with pytest.warns(TrainingWarning, match=r"% of what start was .* mu in \[-4.9"):
        grown = quick(narrow, start=ratio)
    assert grown.domain.upper < 5


def _centered(ratio, simulations):
    from pymc_nre.networks.composed.correction import QuadraticCorrection

    return ratio.replace(network=QuadraticCorrection(ratio.network, 1))


CHANGED = {
    "calibrated": (
        lambda ratio, _: nre.calibrate(ratio, TASK.simulate(2_000, random_seed=5)),
        r"that was calibrated\. Go on from what it was before: start.replace\(network=start.tr",
    ),
    "centered": (_centered, "centered around one posterior"),
    "marginal": (lambda _, pairs: quick(pairs, loss=DNRE()).marginal(3), "made of a direct one"),
    "density": (
        lambda *_: nre.from_log_density(
            lambda theta, x: -((theta[:, 0] - x) ** 2),
            prior={"mu": pm.Uniform.dist(-10, 10)},
            kind="likelihood",
            x=[0.5, 1.0],
        ),
        "arrived as a log density",
    ),
    "rounds": (
        lambda ratio, _: ratio.made_for(np.zeros(3), ratio.domain),
        "made for one data set. Give nre.rounds more simulations",
    ),
    "none": (lambda *_: "ratio.nre", "start: expected a RatioEstimator"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_was_made_of_a_ratio_is_refused(name, ratio, simulations):
    change, message = CHANGED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        quick(simulations, start=change(ratio, simulations))


def test_what_it_was_before_goes_on(ratio, simulations):
    centered = _centered(ratio, simulations)
    before = centered.replace(network=centered.trained)
    assert same(quick(simulations, start=before, **STILL), ratio)


WRONG = {
    "network": ({"network": SMALL}, "network: expected none beside start"),
    "members": ({"members": 2}, "members: start has 1 and each goes on; got 2"),
    "normalization": ({"loss": NREB()}, "ratios to the evidence, normalized; expected .* NREB"),
    "pairs": ({"loss": DNRE()}, "of ratios of two parameter vectors, antisymmetric"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_go_with_a_start_is_refused(name, ratio, simulations):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        quick(simulations, start=ratio, **options)


def test_another_denominator_is_refused(ratio, simulations):
    reference = nre.simulate(
        {"mu": pm.Uniform.dist(-10, 10)},
        TASK.simulator,
        20,
        at={"mu": 0.0},
        batched=True,
        random_seed=1,
        progressbar=False,
    )
    with pytest.raises(ValueError, match="of ratios to fixed parameters, normalized"):
        quick(simulations, start=ratio, loss=CARL(reference))


def at(mu, n=100):
    return CARL(nre.Simulations({"mu": np.full(n, mu)}, np.random.default_rng(1).normal(mu, 1, n)))


def test_a_fixed_reference_stays_where_it_was(simulations, more):
    begun = quick(simulations, network=SMALL, loss=at(0.3))
    assert begun.theta_ref == [0.3]
    grown = quick(simulations + more, start=begun, loss=at(0.3, 150))
    assert grown.theta_ref == [0.3]
    with pytest.raises(ValueError, match=r"fixed parameters, \[0.3\]; expected .* at mu = 0.31\)"):
        quick(simulations + more, start=begun, loss=at(0.31))
    with pytest.raises(ValueError, match=r"Give the CARL\(\) of its reference simulations, or"):
        quick(simulations + more, start=begun)


def test_simulations_of_something_else_are_refused():
    begun = make_estimator({"mu": (), "beta": (2,)})
    draws = {"mu": np.zeros(50), "beta": np.zeros((50, 2))}
    with pytest.raises(ValueError, match=r"in this order.* beta, mu"):
        quick(nre.Simulations(dict(reversed(draws.items())), np.zeros(50)), start=begun)
    whole = draws | {"mu": np.zeros(50, int)}
    with pytest.raises(ValueError, match=r"and mu\. Simulate as for start"):
        quick(nre.Simulations(whole, np.zeros(50)), start=begun)
    with pytest.raises(ValueError, match="expected observations of shape"):
        quick(nre.Simulations(draws, np.zeros((50, 2))), start=begun)
    with pytest.raises(ValueError, match="expected the parameters"):
        quick(nre.Simulations({"mu": np.zeros(50)}, np.zeros(50)), start=begun)


def test_a_series_of_two_trainings_takes_none(ratio):
    series = nre.Simulations({"mu": np.zeros(20)}, np.zeros((20, 5)))
    with pytest.raises(TypeError, match="train_series takes no start="):
        nre.train_series(series, start=ratio)
