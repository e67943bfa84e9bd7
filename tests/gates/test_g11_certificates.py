"""G11: no more certificates are wrong than alpha says, against a linear case with exact radii.

Two classes, ``f(x) = (w.x + c, 0)``, and a Gaussian prior, whose jump is affine, ``A y + b``:

    P(first class) = Phi(m / (sigma |A w|)),  m = w.(A x + b) + c,

so that the radius is |m| / |A w|.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import neb_ppl as neb
from neb_ppl.robust import ABSTAIN, attack, certified_radius, smoothed_classifier
from neb_ppl.robust import classifier as module

SIGMA, ALPHA, TRIES = 0.5, 0.05, 1_000
SPREAD, MEAN = np.array([1.5, 0.4, 0.1]), np.array([0.3, -0.2, 0.5])
W, C = np.array([1.0, -2.0, 0.5]), 0.1
SLOPE = SPREAD / (SPREAD + SIGMA**2) * W  # A w
ALLOWED = ALPHA + 3.29 * np.sqrt(ALPHA * (1 - ALPHA) / TRIES)  # fails 1 in 2,000 times
PRIOR = neb.gaussian_mixture([1.0], MEAN[None], np.diag(SPREAD)[None], SIGMA)
SMOOTHED = smoothed_classifier(lambda x: jnp.array([1.0, 0.0]) * (x @ jnp.asarray(W) + C), PRIOR)


def margin(x):
    """``w.(A x + b) + c``."""
    return float(neb.bayes_estimator(PRIOR, jnp.asarray(x)) @ W + C)


def place(radius):
    """An event whose exact radius is this, of the first class."""
    x = MEAN + (radius - margin(MEAN) / np.linalg.norm(SLOPE)) * SLOPE / np.linalg.norm(SLOPE)
    assert margin(x) / np.linalg.norm(SLOPE) == pytest.approx(radius, abs=1e-6)
    return x


def wrong(radius, seed=0):
    """Share of certificates of one event that claim the other class, or too large a radius."""
    x = np.tile(place(radius), (TRIES, 1)).astype(np.float32)
    found = SMOOTHED.certify(
        jax.random.key(seed), x, num_choose=25, num_estimate=400, alpha=ALPHA, progress_bar=False
    )
    claimed = found.labels != ABSTAIN
    return float((claimed & ((found.labels == 1) | (found.radii > radius))).mean())


def test_votes_have_their_exact_probability():
    """100,000 votes at three places, abs z < 5; the jump moves the margin and its spread."""
    for radius in (0.0, 0.4, 1.0):
        counts, invalid = SMOOTHED.votes(
            jax.random.key(1), place(radius)[None].astype(np.float32), 100_000, progress_bar=False
        )
        p = stats.norm.cdf(radius / SIGMA)
        assert counts.sum() == 100_000 and invalid == 0
        assert abs(counts[0, 0] - 100_000 * p) < 5 * np.sqrt(100_000 * p * (1 - p))


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.8])
def test_certificates_are_wrong_as_seldom_as_alpha_says(radius):
    assert wrong(radius) <= ALLOWED


def test_a_plug_in_probability_is_wrong_half_of_the_time(monkeypatch):
    monkeypatch.setattr(module, "lower_bound", lambda k, n, alpha: np.asarray(k) / n)
    assert wrong(0.3) > 0.4


def test_choosing_and_estimating_by_the_same_votes_doubles_it(monkeypatch):
    """At the boundary, where either class may be claimed."""
    tally = module._tally
    monkeypatch.setattr(
        module,
        "_tally",
        lambda smoothed, key, x, n, show: tally(smoothed, jax.random.key(3), x, 400, show),
    )
    assert wrong(0.0) > ALLOWED


def test_twice_the_noise_in_the_radius_is_seen(monkeypatch):
    monkeypatch.setattr(module, "certified_radius", lambda p, sigma: certified_radius(p, 2 * sigma))
    assert wrong(0.3) > 0.4


def test_predictions_abstain_where_votes_cannot_tell():
    """At the boundary 1 in 20 claims a class; 1.5 sigma away none abstains."""
    x = np.tile(place(0.0), (TRIES, 1)).astype(np.float32)
    labels = SMOOTHED.predict(jax.random.key(4), x, num_draws=200, alpha=ALPHA, progress_bar=False)
    assert (labels != ABSTAIN).mean() <= ALLOWED
    far = SMOOTHED.predict(
        jax.random.key(5), place(0.75)[None].astype(np.float32), num_draws=200, progress_bar=False
    )
    assert far.tolist() == [0]


def test_attacks_find_the_shortest_way_out():
    """Gradient ascent moves the majority with 5 % more than the exact radius, so that it goes where
    that is least; with 5 % less nothing could, and it is only seen that it keeps to its length."""
    x = place(0.4)[None].astype(np.float32)
    for share, label in ((0.95, 0), (1.05, 1)):
        moved = attack(
            jax.random.key(6), SMOOTHED, x, np.array([0]), 0.4 * share, progress_bar=False
        )
        assert np.linalg.norm(moved - x) <= 0.4 * share + 1e-5
        assert (margin(moved[0]) < 0) == bool(label)
