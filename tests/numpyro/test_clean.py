"""Clean variables: exact through the split of the observation's noise, approximate through x."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from gates.oracles import effective_size, mixture

import neb_ppl as neb
from neb_ppl.errors import (
    ApproximationWarning,
    EventShapeError,
    InvalidArgumentError,
    WalkWarning,
)
from neb_ppl.numpyro import SmoothedDensity, model_potential, sample_clean, sample_model

KEY = jax.random.key(0)
SIGMA, NOISE = 0.35, 0.5
ENERGY = mixture(3, SIGMA)
MATRIX = np.array([[1.0, 0.5, 0.0], [0.0, -0.4, 1.0]], np.float32)
MASK = np.array([True, False, True])
SEEN = jnp.array([0.6, -0.3])


def exact_moments(matrix):
    """Mean and second moments of x given o, for a Gaussian mixture: closed form, in float64."""
    weights = np.exp(np.asarray(ENERGY.log_weights, np.float64))
    log_weights, means, covariances = [], [], []
    for k, weight in enumerate(weights):
        vectors = np.asarray(ENERGY.eigenvectors[k], np.float64)
        prior = vectors * np.asarray(ENERGY.eigenvalues[k], np.float64) @ vectors.T
        mean = np.asarray(ENERGY.means[k], np.float64)
        seen = matrix @ prior @ matrix.T + NOISE**2 * np.eye(len(matrix))
        gain = prior @ matrix.T @ np.linalg.inv(seen)
        gap = np.asarray(SEEN, np.float64) - matrix @ mean
        log_weights.append(
            np.log(weight) - 0.5 * (gap @ np.linalg.solve(seen, gap) + np.linalg.slogdet(seen)[1])
        )
        means.append(mean + gain @ gap)
        covariances.append(prior - gain @ matrix @ prior)
    weights = np.exp(log_weights - np.max(log_weights))
    weights /= weights.sum()
    means, covariances = np.array(means), np.array(covariances)
    second = np.einsum("kii->ki", covariances) + means**2
    return np.concatenate([weights @ means, weights @ second])


def draws(observe, jump_key=KEY, seen=SEEN):
    def model(seen):
        x = sample_clean("x", ENERGY)
        numpyro.sample("seen", observe(x), obs=seen)

    result = sample_model(
        KEY, model, args=(seen,), num_chains=16, num_samples=1_000, progress_bar=False
    )
    return result, np.asarray(SmoothedDensity(ENERGY).jump(result.x["x_y"], jump_key))


def z_scores(x, matrix):
    columns = np.concatenate([x, x**2], axis=-1).astype(np.float64)
    error = columns.std(axis=(0, 1)) / np.sqrt(effective_size(columns))
    return (columns.mean(axis=(0, 1)) - exact_moments(matrix)) / error


@pytest.mark.parametrize(
    "operator", [MATRIX, pytest.param(MASK, marks=pytest.mark.slow)], ids=["matrix", "mask"]
)
def test_the_split_is_exact(operator):
    """Means of the plain jumps, means and second moments of the stochastic ones: abs z < 5.

    The energy is exact; its stochastic jump is Gaussian where X given Y is a mixture, which has
    the same two moments.
    """
    matrix = np.eye(3)[MASK] if operator is MASK else MATRIX.astype(np.float64)
    seen = jnp.array([0.6, 99.0, -0.3]) if operator is MASK else SEEN
    result, x = draws(lambda clean: clean.observed(NOISE, operator), seen=seen)
    assert (np.abs(z_scores(x, matrix)) < 5).all()
    assert (np.abs(z_scores(np.asarray(result.x["x"]), matrix))[:3] < 5).all()
    assert (z_scores(np.asarray(result.x["x"]), matrix)[3:] < -5).any()


def test_neither_y_nor_the_jump_would_be_exact():
    """The negative controls: a likelihood of y, and of the jump, which warns."""

    def of_y(clean):
        return dist.Normal(MATRIX @ clean.y, NOISE).to_event(1)

    _, x = draws(of_y)
    assert (np.abs(z_scores(x, MATRIX.astype(np.float64))) > 5).any()
    with pytest.warns(ApproximationWarning, match="over-confident"):
        draws(lambda clean: dist.Normal(MATRIX @ clean.x, NOISE).to_event(1))


def test_an_unknown_noise_scale_is_exact_too():
    """x ~ N(0, 1) in one dimension, noise above sigma: both posteriors by quadrature, abs z < 5."""
    energy = neb.gaussian_mixture([1.0], [[0.0]], [1.0], SIGMA)

    def model(seen):
        x = sample_clean("x", energy)
        low = x.smallest_noise_scale()
        noise = numpyro.sample("noise", dist.TruncatedNormal(0.0, 1.0, low=low))
        numpyro.sample("seen", x.observed(noise), obs=seen)

    result = sample_model(
        KEY, model, args=(jnp.array([2.0]),), num_chains=16, adapt_scale="diagonal",
        progress_bar=False,
    )  # fmt: skip
    x = SmoothedDensity(energy).jump(result.x["x_y"], KEY)[..., 0]
    noise = result.x["noise"]
    columns = np.stack([x, x**2, noise, noise**2], axis=-1).astype(np.float64)
    xs, taus = np.linspace(-6, 6, 1_001)[:, None], np.linspace(SIGMA, 6, 2_001)[None]
    weight = np.exp(-0.5 * (xs**2 + taus**2 + ((2 - xs) / taus) ** 2)) / taus
    weight /= weight.sum()
    truth = [(weight * f).sum() for f in (xs, xs**2, taus, taus**2)]
    error = columns.std(axis=(0, 1)) / np.sqrt(effective_size(columns))
    assert (np.abs((columns.mean(axis=(0, 1)) - truth) / error) < 5).all()


def test_repeated_looks_are_refused():
    """Five looks at one x share its smoothing noise: they would not be exact one by one."""

    def twice(seen):
        x = sample_clean("x", ENERGY)
        numpyro.sample("first", x.observed(NOISE), obs=seen)
        numpyro.sample("second", x.observed(NOISE), obs=seen)

    def plate(seen):
        law = sample_clean("x", ENERGY).observed(NOISE)
        with numpyro.plate("looks", 5):
            numpyro.sample("seen", law, obs=seen)

    for model, told in ((twice, "called twice"), (plate, "in a plate")):
        with pytest.raises(InvalidArgumentError, match=told):
            sample_model(KEY, model, args=(jnp.zeros(3),), progress_bar=False)

    def batch(seen):
        numpyro.sample("seen", sample_clean("x", ENERGY).observed(NOISE), obs=seen)

    with pytest.raises(EventShapeError, match="Repeated looks"):
        sample_model(KEY, batch, args=(jnp.zeros((5, 3)),), progress_bar=False)
    with pytest.raises(EventShapeError, match=r"'seen' expects data of shape \(3,\); got \(4,\)"):
        sample_model(KEY, batch, args=(jnp.zeros(4),), progress_bar=False)
    with pytest.warns(WalkWarning, match="'seen', of x.observed, has no data"):
        model_potential(batch, None)


def test_what_is_refused():
    def observed(**settings):
        def model():
            return sample_clean("x", ENERGY).observed(**settings)

        return numpyro.handlers.seed(model, KEY)()

    with pytest.raises(InvalidArgumentError, match=r"must lie above sigma \* \|\|A\|\| = 0\.35"):
        observed(noise_scale=0.1)
    with pytest.raises(EventShapeError, match=r"operator is a mask \(2,\)"):
        observed(noise_scale=0.5, operator=np.array([True, False]))
    with pytest.raises(EventShapeError, match=r"a mask \(3,\) of booleans or a matrix"):
        observed(noise_scale=0.5, operator=np.ones((2, 4)))
