"""The toys follow their formulas; means and covariances within five standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neb_ppl.data import (
    eight_gaussians,
    rings,
    skewed_mixture,
    skewed_mixture_samples,
    two_moons,
)
from neb_ppl.errors import InvalidArgumentError

CURVES = [two_moons, rings, eight_gaussians]
DRAW = {toy: jax.jit(toy, static_argnums=1) for toy in [*CURVES, skewed_mixture_samples]}
KEY = jax.random.key(7)
NUM_SAMPLES = 4_000


@pytest.mark.parametrize("toy", DRAW)
def test_shape_and_scale_under_jit(toy):
    options = {"noise_scale": 0.1} if toy in CURVES else {}
    x = DRAW[toy](KEY, NUM_SAMPLES, **options)
    assert x.shape == (NUM_SAMPLES, 2) and x.dtype == jnp.result_type(float)
    assert 0.4 < float(jnp.std(x)) < 1.5
    assert not np.array_equal(DRAW[toy](jax.random.key(8), NUM_SAMPLES, **options), x)


@pytest.mark.parametrize("toy", DRAW)
@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_samples(toy, num_samples):
    with pytest.raises(InvalidArgumentError, match="num_samples must be at least 1"):
        toy(KEY, num_samples)


def test_moons_without_noise_lie_on_two_half_circles():
    x = np.asarray(DRAW[two_moons](KEY, NUM_SAMPLES, noise_scale=0.0))
    upper = x + [0.5, 0.25]
    lower = [0.5, 0.25] - x
    on_upper = (np.abs(np.hypot(*upper.T) - 1) < 1e-5) & (upper[:, 1] > -1e-5)
    on_lower = (np.abs(np.hypot(*lower.T) - 1) < 1e-5) & (lower[:, 1] > -1e-5)
    assert np.all(on_upper | on_lower)
    assert abs(on_upper.mean() - 0.5) < 5 * 0.5 / np.sqrt(NUM_SAMPLES)
    # A key used twice would tie the half circle to the place on it.
    place = np.where(on_upper, upper[:, 0], lower[:, 0])
    assert abs(np.corrcoef(place, on_upper)[0, 1]) < 5 / np.sqrt(NUM_SAMPLES)


def test_rings_without_noise_have_their_radii():
    radius = np.hypot(*np.asarray(DRAW[rings](KEY, NUM_SAMPLES, noise_scale=0.0)).T)
    inner = np.abs(radius - 0.5) < 1e-5
    assert np.all(inner | (np.abs(radius - 1.5) < 1e-5))
    assert abs(inner.mean() - 0.5) < 5 * 0.5 / np.sqrt(NUM_SAMPLES)
    with pytest.raises(InvalidArgumentError, match="radii is empty"):
        rings(KEY, 10, radii=())


def test_eight_gaussians_have_their_centres():
    x = np.asarray(DRAW[eight_gaussians](KEY, NUM_SAMPLES, noise_scale=0.0))
    centres, counts = np.unique(x.round(3), axis=0, return_counts=True)
    assert len(centres) == 8
    np.testing.assert_allclose(np.hypot(*centres.T), 1, atol=2e-3)
    assert np.all(np.abs(counts - NUM_SAMPLES / 8) < 5 * np.sqrt(NUM_SAMPLES * 7 / 64))


@pytest.mark.parametrize("toy", CURVES)
def test_noise_scale_is_a_standard_deviation(toy):
    clean = DRAW[toy](KEY, NUM_SAMPLES, noise_scale=0.0)
    noise = np.asarray(DRAW[toy](KEY, NUM_SAMPLES, noise_scale=0.3) - clean)
    standard_error = 0.3 / np.sqrt(4 * NUM_SAMPLES)
    assert abs(noise.std() - 0.3) < 5 * standard_error
    correlation = np.corrcoef(noise.T, np.asarray(clean).T)[:2, 2:]
    assert np.all(np.abs(correlation) < 5 / np.sqrt(NUM_SAMPLES))


def test_mixture_samples_have_its_moments():
    weights, means, covariances = map(np.asarray, skewed_mixture())
    x = np.asarray(DRAW[skewed_mixture_samples](KEY, NUM_SAMPLES), np.float64)
    mean = weights @ means
    centred = means - mean
    covariance = np.einsum("k,kij->ij", weights, covariances) + (centred.T * weights) @ centred
    assert np.all(np.abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(covariance) / NUM_SAMPLES))
    products = np.einsum("ni,nj->nij", x - mean, x - mean)
    standard_errors = products.std(0) / np.sqrt(NUM_SAMPLES)
    assert np.all(np.abs(products.mean(0) - covariance) < 5 * standard_errors)


def test_mixture_is_valid_and_skewed():
    weights, means, covariances = map(np.asarray, skewed_mixture())
    assert abs(weights.sum() - 1) < 1e-6 and len(set(weights.tolist())) == len(weights)
    assert np.all(np.linalg.eigvalsh(covariances) > 0)
    centred = means - weights @ means
    variances = np.einsum("kii->ki", covariances)
    third_moment = weights @ (centred**3 + 3 * centred * variances)
    second_moment = weights @ (centred**2 + variances)
    assert np.all(np.abs(third_moment) > 0.3 * second_moment**1.5)
