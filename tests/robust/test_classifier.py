"""Smoothed classifiers as a user meets them: training, answers, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import neb_ppl as neb
from neb_ppl.energies.scale import fit_data_scale
from neb_ppl.errors import (
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NebPPLWarning,
    NonFiniteDataError,
    NotAnEnergyError,
    TrainingDivergedError,
)
from neb_ppl.robust import (
    ABSTAIN,
    Certificates,
    ConvClassifier,
    LinearClassifier,
    SmoothedClassifier,
    attack,
    certified_radius,
    fit_classifier,
    lower_bound,
    smoothed_classifier,
    training,
)

SIGMA = 0.3
X = neb.data.digits("train")
TEST = neb.data.digits("test")
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def jumping():
    """A linear classifier of what the jump of the smoothed data leaves."""
    energy = neb.kernel_density(X.x, SIGMA)
    return fit_classifier(
        KEY, LinearClassifier(), X.x, X.labels, energy, num_steps=300, batch_size=64,
        progress_bar=False,
    )  # fmt: skip


def test_the_bound_is_that_of_clopper_and_pearson():
    """``P(Bin(n, bound) >= k) = alpha``, by SciPy's binomial."""
    for n, k in ((1, 1), (10, 7), (400, 399), (10_000, 6_000)):
        bound = float(lower_bound(k, n, 0.01))
        assert stats.binom.sf(k - 1, n, bound) == pytest.approx(0.01, rel=1e-9)
    assert lower_bound(0, 10, 0.01) == 0


def test_the_largest_radius_that_ten_thousand_votes_prove():
    """3.2 sigma, as the documentation of `certify` says."""
    bound = lower_bound(10_000, 10_000, 0.001)
    assert certified_radius(bound, 1.0) == pytest.approx(3.199, abs=1e-3)
    assert bound == pytest.approx(0.001 ** (1 / 10_000), rel=1e-12)


def test_digits_are_classified_and_certified(jumping):
    """Accuracy above 85 % (nearest neighbours of noisy digits would reach it), falling in the
    radius; all radii below what so many votes can prove."""
    x, labels = TEST.x[:60], TEST.labels[:60]
    found = jumping.certify(KEY, x, num_choose=50, num_estimate=500, progress_bar=False)
    radii = np.linspace(0, 1, 11)
    curve = found.accuracy(labels, radii)
    assert curve[0] > 0.85 and (np.diff(curve) <= 0).all() and found.num_invalid == 0
    assert found.radii.max() <= SIGMA * stats.norm.ppf(0.001 ** (1 / 500)) + 1e-6
    assert "certified radius" in str(found)
    agree = jumping.predict(KEY, x, num_draws=200, progress_bar=False)
    both = (agree != ABSTAIN) & (found.labels != ABSTAIN)
    assert both.mean() > 0.8 and (agree[both] == found.labels[both]).all()


def test_convolutions_and_attacks_in_training():
    """A few steps of each lower the loss; what comes out certifies."""
    plain = fit_classifier(
        KEY, ConvClassifier(widths=(8, 8), hidden=16), X.x, X.labels, sigma=SIGMA, radius=0.25,
        num_copies=2, num_steps=150, batch_size=32, learning_rate=1e-2, progress_bar=False,
    )  # fmt: skip
    found = plain.certify(KEY, TEST.x[:20], num_choose=20, num_estimate=100, progress_bar=False)
    assert found.accuracy(TEST.labels[:20])[()] > 0.3  # chance is .1
    assert plain.energy is None and float(plain.sigma) == pytest.approx(SIGMA)


def test_other_weights_and_events_compile_nothing(jumping, compilations):
    jumping.votes(KEY, TEST.x[:1], 100, progress_bar=False)
    other = jax.tree.map(lambda leaf: leaf * 1.01, jumping)
    with compilations() as count:
        other.votes(jax.random.key(1), TEST.x[1:3], 300, progress_bar=False)
    assert not [event for event in count if "backend" not in event]


BROKEN = smoothed_classifier(
    lambda x: jnp.where(x[0] > 0, jnp.nan, 1.0) * jnp.array([1.0, 0.0]), sigma=1.0
)


def test_votes_that_are_not_finite_count_for_no_class():
    found = BROKEN.certify(KEY, np.zeros((1, 2), np.float32), num_estimate=1_000,
                           progress_bar=False)  # fmt: skip
    assert 400 < found.num_invalid < 600 and "not finite" in str(found)
    assert found.labels.tolist() == [ABSTAIN] and found.radii.tolist() == [0.0]


def test_votes_that_are_not_finite_can_beat_every_class():
    """One event far on the good side, one at the boundary, one where most votes fail."""
    x = np.array([[-4.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    with pytest.warns(NebPPLWarning, match="of 3000 votes were not finite"):
        labels = BROKEN.predict(KEY, x, progress_bar=False)
    assert labels.tolist() == [0, ABSTAIN, ABSTAIN]


def test_as_few_votes_as_decide():
    """All agree: 11 decide a prediction at alpha = .001 and 10 a certificate, one less is refused
    (below)."""
    smoothed, x = smoothed_classifier(two, sigma=0.1), np.array([[1.0, 0.0]], np.float32)
    assert smoothed.predict(KEY, x, num_draws=11, progress_bar=False).tolist() == [0]
    found = smoothed.certify(KEY, x, num_estimate=10, progress_bar=False)
    assert found.labels.tolist() == [0] and found.radii[0] > 0


def test_a_classifier_outside_jax_votes_by_a_callback():
    def outside(x):
        return np.exp(np.asarray(x))

    def inside(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(outside, shape, x, vmap_method="sequential")

    x = np.array([[1.0, 0.0]], np.float32)
    found = smoothed_classifier(inside, ENERGY).predict(KEY, x, num_draws=100, progress_bar=False)
    assert found.tolist() == [0]
    with pytest.raises(InvalidArgumentError, match="could not be differentiated.*Error: "):
        attack(KEY, smoothed_classifier(inside, ENERGY), x, [0], 0.1, progress_bar=False)


def test_attacks_take_one_radius_or_one_for_each():
    smoothed, x = smoothed_classifier(two, ENERGY), np.zeros((3, 2), np.float32)
    one, each = (
        attack(KEY, smoothed, x, [0, 1, 0], radii, num_draws=4, progress_bar=False)
        for radii in (0.2, [0.2, 0.2, 0.1])
    )
    np.testing.assert_array_equal(one[:2], each[:2])
    assert np.linalg.norm(each, axis=1) == pytest.approx([0.2, 0.2, 0.1], rel=1e-5)


def test_other_units_are_warned_of():
    energy = fitted_at_zero_to_one()
    smoothed, x = smoothed_classifier(two, energy), np.array([[255.0, 0.0]], np.float32)
    with pytest.warns(DataRangeWarning, match="255"):
        smoothed.predict(KEY, x, num_draws=20, progress_bar=False)
    with pytest.warns(DataRangeWarning, match="255"):
        smoothed.certify(KEY, x, num_choose=1, num_estimate=20, progress_bar=False)
    with pytest.warns(DataRangeWarning, match="255"):
        attack(KEY, smoothed, x, [0], 0.1, num_steps=1, num_draws=1, progress_bar=False)
    smoothed.predict(KEY, x / 255, num_draws=20, progress_bar=False)


def fitted_at_zero_to_one():
    """An energy that knows a range of data."""
    energy = neb.from_energy(lambda u: 0.5 * jnp.sum(u**2), 0.1, event_shape=(2,))
    return dataclasses.replace(energy, scale=fit_data_scale(np.array([0.0, 1.0])))


def test_what_is_printed_is_short(jumping):
    assert repr(jumping).startswith(
        "SmoothedClassifier(classifier=NeuralClassifier, energy=KernelDensityEnergy, sigma=0.3, "
    )
    assert repr(jumping.classifier) == (
        "NeuralClassifier(LinearClassifier(classes=10), event_shape=(8, 8), 650 numbers)"
    )
    assert "classifier=function, energy=None" in repr(smoothed_classifier(two, sigma=1.0))


def test_abstaining_is_never_right():
    assert CERTIFIED.accuracy([0, 0], [[0.0, 0.5, 0.6]]).tolist() == [[0.5, 0.5, 0.0]]


def test_an_interrupt_keeps_what_was_learned(interrupt_at_second_call):
    interrupt_at_second_call(training, "_train")
    with pytest.warns(NebPPLWarning, match="interrupted after [0-9]+ of 5000 steps"):
        smoothed = train(num_steps=5_000)
    assert np.isfinite(smoothed.classifier.weights["dense.kernel"]).all()


def test_training_that_diverges_says_where():
    with pytest.raises(TrainingDivergedError, match="at step [0-9]+ with learning_rate=1e"):
        train(learning_rate=1e38)


ENERGY = neb.gaussian_mixture([1.0], np.zeros((1, 2)), [1.0], 0.5)
ZEROS = np.zeros((3, 2), np.float32)
LINEAR = LinearClassifier(2)
CERTIFIED = Certificates(np.array([0, ABSTAIN]), np.array([0.5, 0.0]), np.ones(2), 0, 0.001, 1.0)


def two(x):
    return x


def train(network=LINEAR, x=ZEROS, labels=(0, 1, 1), energy=None, **rest):
    sigma = 1.0 if energy is None else None
    return fit_classifier(
        KEY, network, x, labels, energy, **{"sigma": sigma, "progress_bar": False, **rest}
    )


def votes(classifier, x=ZEROS, energy=None):
    return smoothed_classifier(classifier, energy, sigma=0.5).predict(KEY, x, progress_bar=False)


def attacked(smoothed=None, x=ZEROS, labels=(0, 1, 1), radii=0.1):
    return attack(KEY, smoothed or smoothed_classifier(two, sigma=1.0), x, labels, radii)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: smoothed_classifier(np.ones(2), ENERGY), InvalidArgumentError, "function of one"),
        (lambda: smoothed_classifier(two), InvalidArgumentError, "give an energy"),
        (lambda: smoothed_classifier(two, ENERGY, sigma=0.4), InvalidArgumentError, "0.5"),
        (lambda: smoothed_classifier(two, sigma=-1.0), InvalidArgumentError, "positive"),
        (
            lambda: smoothed_classifier(two, neb.deen(KEY, (2,), 0.3)),
            InvalidArgumentError, "not been trained",
        ),
        (
            lambda: smoothed_classifier(lambda x: x[0], ENERGY).predict(KEY, np.zeros((1, 2))),
            EventShapeError, "(classes,)",
        ),
        (
            lambda: smoothed_classifier(lambda x: x[None], ENERGY).certify(KEY, np.zeros((1, 2))),
            EventShapeError, "Batched",
        ),
        (
            lambda: smoothed_classifier(two, ENERGY).certify(KEY, np.zeros((1, 2)), alpha=1.0),
            InvalidArgumentError, "alpha",
        ),
        (
            lambda: smoothed_classifier(two, ENERGY).certify(KEY, np.zeros((1, 3))),
            EventShapeError, "3",
        ),
        (
            lambda: smoothed_classifier(two, ENERGY).certify(KEY, np.full((1, 2), np.nan)),
            NonFiniteDataError, "finite",
        ),
        (
            lambda: fit_classifier(
                KEY, LinearClassifier(2), np.zeros((3, 2)), [0, 1, 2], sigma=1.0
            ),
            InvalidArgumentError, "0 .. 1",
        ),
        (
            lambda: fit_classifier(KEY, LinearClassifier(2), np.zeros((3, 2)), [0, 1], sigma=1.0),
            EventShapeError, "3 whole numbers",
        ),
        (
            lambda: fit_classifier(
                KEY, ConvClassifier(2), np.zeros((3, 2)), [0, 1, 1], sigma=1.0
            ),
            EventShapeError, "LinearClassifier",
        ),
        (lambda: smoothed_classifier(two, 0.5), NotAnEnergyError, "pass sigma="),
        (lambda: smoothed_classifier(two, "x"), NotAnEnergyError, "got a str"),
        (lambda: smoothed_classifier(ENERGY, two), InvalidArgumentError, "The order is"),
        (lambda: smoothed_classifier(two, ENERGY, sigma="x"), InvalidArgumentError, "sigma"),
        (
            lambda: SmoothedClassifier(two, ENERGY, jnp.asarray(0.7)).predict(KEY, ZEROS),
            InvalidArgumentError, "sigma is 0.7",
        ),
        (lambda: votes(two, energy=ENERGY, x=ZEROS[0]), EventShapeError, "x[None]"),
        (lambda: votes(two, x=ZEROS[0]), EventShapeError, "x[None]"),
        (lambda: votes(two, x=ZEROS[:0]), InvalidArgumentError, "empty"),
        (lambda: votes(two, x=ZEROS.astype(int)), InvalidArgumentError, "int64"),
        (lambda: votes(np.exp), InvalidArgumentError, "jax.pure_callback"),
        (lambda: votes(lambda x: x if x[0] else -x), InvalidArgumentError, "JAX function"),
        (lambda: votes(jnp.argmax), EventShapeError, "not the label"),
        (lambda: votes(lambda x: x[:1]), EventShapeError, "two or more"),
        (lambda: votes(list), InvalidArgumentError, "jnp.stack"),
        (lambda: votes(lambda x: jnp.eye(5) @ x), EventShapeError, "one event of shape (2,)"),
        (lambda: votes(lambda x: x * jnp.nan), InvalidArgumentError, "all 3000 votes"),
        (lambda: train().predict(KEY, np.zeros((1, 3))), EventShapeError, "(2,)"),
        (
            lambda: smoothed_classifier(two, ENERGY).predict(KEY, ZEROS, num_draws=10),
            InvalidArgumentError, "at least 11",
        ),
        (
            lambda: smoothed_classifier(two, ENERGY).certify(KEY, ZEROS, num_estimate=9),
            InvalidArgumentError, "at least 10",
        ),
        (lambda: smoothed_classifier(two, ENERGY).certify(0, ZEROS), InvalidArgumentError, "key"),
        (lambda: attacked(two), InvalidArgumentError, "SmoothedClassifier"),
        (lambda: attacked(x=ZEROS[0], labels=[0]), EventShapeError, "x[None]"),
        (lambda: attacked(x=ZEROS[:0]), InvalidArgumentError, "empty"),
        (lambda: attacked(x=ZEROS.astype(int)), InvalidArgumentError, "int64"),
        (lambda: attacked(x=ZEROS * np.nan), NonFiniteDataError, "NaN"),
        (lambda: attacked(labels=[0, 1, ABSTAIN]), InvalidArgumentError, "leave those"),
        (lambda: attacked(labels=[0, 1, 2]), InvalidArgumentError, "0 .. 1"),
        (lambda: attacked(labels=[0, 1]), EventShapeError, "3 whole numbers"),
        (lambda: attacked(labels=[0.0, 1, 1]), InvalidArgumentError, "astype(int)"),
        (lambda: attacked(radii=-0.1), InvalidArgumentError, "got -0.1"),
        (lambda: attacked(radii=[0.1, 0.1, np.inf]), InvalidArgumentError, "got inf"),
        (lambda: attacked(radii=[0.1, 0.1]), EventShapeError, "() or (3,)"),
        (lambda: CERTIFIED.accuracy([0, ABSTAIN]), InvalidArgumentError, "leave those"),
        (lambda: CERTIFIED.accuracy([0]), EventShapeError, "2 whole numbers"),
        (lambda: CERTIFIED.accuracy([0.0, 0.0]), InvalidArgumentError, "astype(int)"),
        (lambda: CERTIFIED.accuracy([0, 0], [0.1, -1.0]), InvalidArgumentError, "got -1"),
        (lambda: CERTIFIED.accuracy([0, 0], np.nan), InvalidArgumentError, "got nan"),
        (lambda: certified_radius(1.1, 1.0), InvalidArgumentError, "[0, 1]; got 1.1"),
        (lambda: certified_radius(np.nan, 1.0), InvalidArgumentError, "got nan"),
        (lambda: certified_radius(0.9, 0.0), InvalidArgumentError, "sigma"),
        (lambda: lower_bound(11, 10, 0.1), InvalidArgumentError, "0 .. 10"),
        (lambda: lower_bound([1, 2.5], 10, 0.1), InvalidArgumentError, "got 2.5"),
        (lambda: lower_bound(0, 0, 0.1), InvalidArgumentError, "trials"),
        (lambda: lower_bound(1, 10, 0.0), InvalidArgumentError, "alpha"),
        (lambda: train(energy=0.5), NotAnEnergyError, "got a float"),
        (lambda: train(labels=ENERGY, energy=np.zeros(3, int)), NotAnEnergyError, "labels"),
        (lambda: train(LinearClassifier), InvalidArgumentError, "ConvClassifier(...)"),
        (lambda: train("linear"), InvalidArgumentError, "'linear'"),
        (lambda: train(neb.MLP()), InvalidArgumentError, "MLP"),
        (lambda: train(learning_rate=np.inf), InvalidArgumentError, "learning_rate"),
        (lambda: train(radius="a"), InvalidArgumentError, "radius"),
        (lambda: train(radius=-1.0), InvalidArgumentError, "radius"),
        (lambda: train(labels=[-1, 0, 1]), InvalidArgumentError, "from 0 on"),
        (lambda: train(labels=[0.0, 1, 1]), InvalidArgumentError, "astype(int)"),
        (lambda: train(labels=np.eye(3)), EventShapeError, "argmax(1)"),
        (lambda: train(x=ZEROS[:, 0]), EventShapeError, "x[:, None]"),
        (lambda: LinearClassifier(1), InvalidArgumentError, "at least 2"),
        (lambda: LinearClassifier("a"), InvalidArgumentError, "'a'"),
        (lambda: LinearClassifier(10.0), InvalidArgumentError, "whole"),
        (lambda: ConvClassifier(1), InvalidArgumentError, "at least 2"),
        (lambda: ConvClassifier(widths=8), InvalidArgumentError, "tuple of two"),
        (lambda: ConvClassifier(widths=(4,)), InvalidArgumentError, "tuple of two"),
        (lambda: ConvClassifier(widths=(0, 8)), InvalidArgumentError, "widths[0]"),
        (lambda: ConvClassifier(hidden=-1), InvalidArgumentError, "hidden"),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
