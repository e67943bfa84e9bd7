"""Jump noise: dense and Lanczos agree, bad eigenvalues are clamped and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.errors import InvalidArgumentError


def test_lanczos_is_the_dense_square_root():
    """20 products in 200 dimensions: to 1 % of the noise; all 200: to rounding."""
    with jax.enable_x64(True):
        energy = mixture(200, 0.5, radius=2.0)
        y = energy.sample(jax.random.key(1))
        dense = neb.jump_noise(jax.random.key(2), energy, y, dense_size=500).noise
        for steps, tolerance in ((20, 1e-2), (60, 1e-3), (200, 1e-6)):
            fast = neb.jump_noise(jax.random.key(2), energy, y, lanczos_steps=steps).noise
            assert jnp.linalg.norm(fast - dense) < tolerance * jnp.linalg.norm(dense)


def test_a_jump_may_be_compiled_once_for_all_energies_of_a_kind(compilations):
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 200)), np.array([0.5]), 0.5)
    jump = jax.jit(neb.stochastic_jump)
    jump(jax.random.key(0), energy, jnp.ones(200))
    other, y = energy.at(0.4), jnp.zeros(200)
    with compilations() as count:
        jump(jax.random.key(0), other, y)
    assert count == []


def test_what_is_no_model_is_told():
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 2)), np.array([0.5]), 0.5)
    levels = neb.noise_conditional(jax.random.key(0), (2,), (0.1, 1.0))
    for call in (
        lambda: neb.mean_jump(energy, jnp.zeros(2), jax.random.key(0)),
        lambda: neb.bayes_estimator(levels, jnp.zeros(2)),
    ):
        with pytest.raises(InvalidArgumentError, match=r"an energy or a score; got .*at\(sigma"):
            call()


def test_lanczos_survives_an_exhausted_space():
    """A covariance with one eigenvalue: the Krylov space has one dimension."""
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 200)), np.array([0.5]), 0.5)
    out = neb.jump_noise(jax.random.key(2), energy, jnp.ones(200))
    dense = neb.jump_noise(jax.random.key(2), energy, jnp.ones(200), dense_size=500)
    assert jnp.allclose(out.noise, dense.noise, atol=1e-4)
    assert out.num_clamped == dense.num_clamped == 0


@pytest.mark.parametrize("d", [4, 200])
def test_impossible_curvature_is_clamped_and_counted(d):
    """Curvature above 1/sigma^2 along 3 axes cannot belong to a smoothed density."""
    curvature = jnp.ones(d).at[:3].set(9.0)
    energy = neb.from_energy(lambda y: 0.5 * jnp.sum(curvature * y**2), 0.5, event_shape=(d,))
    out = neb.jump_noise(jax.random.key(0), energy, jnp.ones(d))
    assert jnp.isfinite(out.noise).all()
    assert out.min_eigenvalue < -1
    assert out.num_clamped == 3 if d == 4 else 1 <= out.num_clamped <= 3
    assert jnp.abs(out.noise[:3]).max() < 1e-3 if d == 4 else True


def test_images_allocate_no_square_matrix():
    energy = neb.deen(jax.random.key(0), (64, 64), 0.3)
    y = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    jump = jax.jit(lambda k, e, y: neb.stochastic_jump(k, e, y))
    memory = jump.lower(jax.random.key(1), energy, y).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * (64 * 64) ** 2 / 2


def test_integers_are_not_smoothed_silently():
    with pytest.raises(neb.errors.InvalidArgumentError, match=r"uint8.*x / 255"):
        neb.smooth(jax.random.key(0), np.zeros((2, 2), np.uint8), 0.3)
