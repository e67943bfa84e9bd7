"""Unknown gains, blurs and noise beside a learned prior, and structured operators in models."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from gates.oracles import effective_size
from scipy import stats

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.inverse import (
    blur,
    downsample,
    from_matrix,
    gaussian_kernel,
    identity,
    mask,
    weighted,
)
from neb_ppl.numpyro import sample_clean, sample_model
from neb_ppl.numpyro.split import SplitNormal

D, SIGMA, SPREAD = 12, 0.1, 1.0
ENERGY = neb.gaussian_mixture([1.0], np.zeros((1, D)), [SPREAD], SIGMA)
SEEN = np.convolve(np.random.default_rng(5).normal(size=D + 2), [0.4, 0.8, 0.4], "valid")


def look(gain, width):
    return weighted(gain, blur(gaussian_kernel(width, 5, ndim=1), (D,)))


def model(seen):
    x = sample_clean("x", ENERGY)
    gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.3))
    width = numpyro.sample("width", dist.LogNormal(-0.3, 0.3))
    operator = look(gain, width)
    low = x.smallest_noise_scale(operator)
    noise = numpyro.sample("noise", dist.TruncatedNormal(0.0, 0.5, low=low))
    numpyro.sample("seen", x.observed(noise, operator), obs=seen)


def truth():
    """Posterior means of the three and of their squares: x is integrated out by Fourier."""
    logs = np.linspace(-1.2, 1.2, 41)
    gains, widths = np.exp(logs), np.exp(logs - 0.3)
    noise = np.linspace(1e-3, 2.5, 400)
    power = np.abs(np.fft.fft(SEEN, norm="ortho")) ** 2
    total, sums = 0.0, np.zeros(6)
    for i, gain in enumerate(gains):
        for j, width in enumerate(widths):
            spectrum = np.asarray(look(gain, width).gram().eigenvalues, np.float64)
            low = SIGMA * spectrum.max() ** 0.5
            variance = SPREAD * spectrum + noise[:, None] ** 2
            fit = -0.5 * np.sum(power / variance + np.log(variance), axis=1)
            tail = stats.norm.sf(low / 0.5)
            prior = -0.5 * (logs[i] ** 2 + logs[j] ** 2) / 0.09 - 2 * noise**2 - np.log(tail)
            weight = np.where(noise > low, np.exp(fit + prior), 0.0)
            total += weight.sum()
            shares = weight.sum(), (weight * noise).sum(), (weight * noise**2).sum()
            sums += [
                gain * shares[0], width * shares[0], shares[1],
                gain**2 * shares[0], width**2 * shares[0], shares[2],
            ]  # fmt: skip
    return sums / total


@pytest.mark.parametrize(
    "walk", [None, pytest.param(neb.GHMC(), marks=pytest.mark.slow)], ids=["NUTS", "GHMC"]
)
def test_a_gain_a_blur_and_a_noise_scale_are_sampled_jointly(walk):
    """All three unknown at once, x integrated out by hand: means and squares, abs z < 5."""
    result = sample_model(
        jax.random.key(0), model, walk=walk, args=(jnp.asarray(SEEN, jnp.float32),), num_chains=16,
        num_samples=500 if walk is None else 4_000, progress_bar=False,
    )  # fmt: skip
    sites = [np.asarray(result.x[name], np.float64) for name in ("gain", "width", "noise")]
    columns = np.stack([*sites, *(site**2 for site in sites)], axis=-1)
    error = columns.std(axis=(0, 1)) / np.sqrt(effective_size(columns))
    assert (np.abs((columns.mean(axis=(0, 1)) - truth()) / error) < 5).all()


def clean():
    return numpyro.handlers.seed(lambda: sample_clean("x", ENERGY), jax.random.key(0))()


@pytest.mark.parametrize(
    "operator",
    [
        mask(np.arange(D) % 3 > 0),
        downsample(2, (D,)),
        blur(np.array([0.25, 0.5, 0.25]), (D,)),
        blur(np.array([0.25, 0.5, 0.25]), (D,), "reflect"),
        from_matrix(np.random.default_rng(0).normal(size=(3, D)) / D),
    ],
    ids=lambda operator: repr(operator).split("(")[0],
)
def test_the_law_given_y(operator):
    """Its density against scipy's, and the covariance of its draws within 5 standard errors."""
    x = clean()
    law = x.observed(0.5, operator)
    matrix = np.asarray(operator.matrix(), np.float64)
    covariance = 0.25 * np.eye(len(matrix)) - SIGMA**2 * matrix @ matrix.T
    value = np.ones(operator.out_shape, np.float32)
    exact = stats.multivariate_normal.logpdf(np.ravel(value), matrix @ x.y, covariance)
    np.testing.assert_allclose(law.log_prob(value), exact, rtol=1e-4)
    drawn = np.asarray(law.sample(jax.random.key(1), (20_000,))).reshape(20_000, -1)
    error = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / 20_000)
    assert (np.abs(np.cov(drawn.T) - covariance) < 5 * error).all()


def test_one_noise_scale_for_each_output():
    x = clean()
    scales = np.linspace(0.2, 0.5, D)
    law = x.observed(scales, identity((D,)))
    assert isinstance(law, SplitNormal)
    variance = scales**2 - SIGMA**2
    exact = -0.5 * np.sum(np.log(2 * np.pi * variance) + np.asarray(x.y) ** 2 / variance)
    np.testing.assert_allclose(law.log_prob(jnp.zeros(D)), exact, rtol=1e-4)


def test_refused():
    def observed(*arguments):
        return clean().observed(*arguments)

    with pytest.raises(EventShapeError, match="the event is"):
        observed(0.5, identity((3,)))
    with pytest.raises(InvalidArgumentError, match="must lie above"):
        observed(0.05, identity((D,)))
    with pytest.raises(InvalidArgumentError, match="orthogonal rows"):
        observed(np.full(D, 0.5), blur(np.ones(3) / 3, (D,)))
