"""The denoising loss against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.energies.neural import NoiseConditionalEnergy


def test_risk_of_the_exact_energy_on_gaussian_data():
    """Bayes risk of N(m, s^2 I) is s^2 sigma^2 / (s^2 + sigma^2) a dimension; 4 standard errors."""
    s, sigma, n, d = 0.7, 0.4, 20_000, 3
    energy = neb.gaussian_mixture([1.0], np.ones((1, d)), np.array([s**2]), sigma)
    x = energy.sample_clean(jax.random.key(0), (n,))
    risk = neb.denoising_loss(energy, jax.random.key(1), x)
    exact = s**2 * sigma**2 / (s**2 + sigma**2)
    assert abs(risk - exact) < 4 * exact * np.sqrt(2 / (n * d))


@pytest.mark.parametrize("mutant", ["sign", "sigma"])
def test_mutants_have_a_higher_risk(mutant):
    """Jumping the wrong way, or by sigma instead of sigma^2, is no longer the least risk."""
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 3)), np.array([0.5]), 0.4)
    factor = {"sign": -1.0, "sigma": 1 / 0.4}[mutant]
    broken = neb.from_score(lambda y: factor * energy.score(y), 0.4, event_shape=(3,))
    x = energy.sample_clean(jax.random.key(0), (20_000,))
    risks = [neb.denoising_loss(m, jax.random.key(1), x) for m in (energy, broken)]
    assert risks[1] > 1.2 * risks[0]


def test_the_kernel_density_minimises_the_training_loss():
    """No other energy has a lower expected loss on the data it was made of."""
    x = neb.data.two_moons(jax.random.key(0), 200)
    own = neb.kernel_density(x, 0.3)
    other = neb.gaussian_mixture([1.0], np.mean(x, 0)[None], np.cov(np.asarray(x).T)[None], 0.3)
    repeated = jnp.tile(x, (50, 1))
    loss = [neb.denoising_loss(e, jax.random.key(1), repeated) for e in (own, other)]
    assert loss[0] < 0.95 * loss[1]


def test_the_gradient_is_the_finite_difference():
    """Through grad phi, in float64: the double backpropagation is not cut."""
    with jax.enable_x64(True):
        energy = neb.deen(jax.random.key(0), (3,), 0.5, network=neb.MLP(hidden=8, blocks=1))
        x = jax.random.normal(jax.random.key(1), (16, 3))

        def loss(bias):
            weights = dict(energy.weights) | {"blocks.0.inner.bias": bias}
            model = dataclasses.replace(energy, weights=weights)
            return neb.denoising_loss(model, jax.random.key(2), x)

        bias = energy.weights["blocks.0.inner.bias"]
        direction = jax.random.normal(jax.random.key(3), bias.shape)
        step = 1e-5
        difference = (loss(bias + step * direction) - loss(bias - step * direction)) / (2 * step)
        assert jnp.allclose(jax.grad(loss)(bias) @ direction, difference, rtol=1e-6)


def test_noise_conditional_loss_sees_the_whole_range():
    model = neb.noise_conditional(jax.random.key(0), (2,), (0.1, 1.0))
    assert isinstance(model, NoiseConditionalEnergy)
    x = neb.data.two_moons(jax.random.key(1), 256)
    assert jnp.isfinite(neb.denoising_loss(model, jax.random.key(2), x))
    with pytest.raises(neb.errors.InvalidArgumentError, match=r"trained range \[0.1, 1\]; got 2"):
        model.at(2.0)


def test_the_noise_conditional_loss_in_closed_form():
    """A network that is 0: x_hat = (1 - r^2) y, r = t / (1 + t), t = sigma^2 / s^2.

    The risk of Gaussian data of variance v at one sigma is then r^4 v + (1 - r^2)^2 sigma^2; the
    loss weighs it by 1/sigma^2 + 1/s^2 and averages over log sigma. Five standard errors.
    """
    s, v, low, high, n = 1.5, 9.0, 0.2, 3.0, 20_000
    network = neb.MLP(hidden=4, blocks=1, conditional=True)
    levels = neb.noise_conditional(jax.random.key(0), (2,), (low, high), network=network)
    weights = {name: jnp.zeros_like(leaf) for name, leaf in levels.weights.items()}
    scale = neb.data_scale(0.0, s)
    levels = dataclasses.replace(levels, weights=weights, scale=scale)
    x = np.sqrt(v) * jax.random.normal(jax.random.key(1), (n, 2))
    loss = float(neb.denoising_loss(levels, jax.random.key(2), x))
    sigma = np.exp(np.linspace(np.log(low), np.log(high), 20_001))
    r = (sigma / s) ** 2 / (1 + (sigma / s) ** 2)
    risk = r**4 * v + (1 - r**2) ** 2 * sigma**2
    exact = np.mean(risk * (1 / sigma**2 + 1 / s**2))
    assert abs(loss - exact) < 5 * exact * np.sqrt(3 / (2 * n))
