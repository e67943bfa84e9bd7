"""Smoothed classifiers as a user meets them: training, answers, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.robust import (
    ABSTAIN,
    ConvClassifier,
    LinearClassifier,
    fit_classifier,
    lower_bound,
    smoothed_classifier,
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


def test_votes_that_are_not_finite_count_for_no_class():
    broken = smoothed_classifier(
        lambda x: jnp.where(x[0] > 0, jnp.nan, 1.0) * jnp.array([1.0, 0.0]), sigma=1.0
    )
    found = broken.certify(KEY, np.zeros((1, 2), np.float32), num_estimate=1_000,
                           progress_bar=False)  # fmt: skip
    assert 400 < found.num_invalid < 600 and "not finite" in str(found)
    assert found.labels.tolist() == [ABSTAIN] and found.radii.tolist() == [0.0]


ENERGY = neb.gaussian_mixture([1.0], np.zeros((1, 2)), [1.0], 0.5)


def two(x):
    return x


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
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
