"""The fused noise is JAX's own, bit for bit, and statistics come with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neb_ppl._noise import standard_normal


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 7), (2, 3, 11), (70_001,)])
@pytest.mark.parametrize("seed", [0, 2**31, 12345])
def test_the_numbers_are_jaxs(shape, seed):
    key = jax.random.key(seed)
    ours = standard_normal(key, shape, jnp.float32)
    theirs = jax.random.normal(key, shape, jnp.float32)
    assert jnp.array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


def test_also_under_jit_and_vmap():
    keys = jax.random.split(jax.random.key(3), 5)
    ours = jax.jit(jax.vmap(lambda key: standard_normal(key, (4, 4), jnp.float32)))(keys)
    theirs = jax.vmap(lambda key: jax.random.normal(key, (4, 4)))(keys)
    # Compiled with what uses it, the last bit of the transform may round another way.
    assert jnp.allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("key", "dtype"),
    [
        (jax.random.key(1, impl="rbg"), jnp.float32),
        (jax.random.PRNGKey(1), jnp.float32),
        (jax.random.key(1), jnp.bfloat16),
        (jax.random.key(1), jnp.float64),
    ],
)
def test_other_keys_and_types_are_left_to_jax(key, dtype):
    with jax.enable_x64(True):
        ours = standard_normal(key, (6,), dtype)
        assert jnp.array_equal(ours, jax.random.normal(key, (6,), dtype))


def test_nothing_to_draw():
    assert standard_normal(jax.random.key(0), (0, 3), jnp.float32).shape == (0, 3)


def test_a_million_numbers_are_standard_normal():
    """Finite, mean and variance within five standard errors."""
    noise = standard_normal(jax.random.key(0), (1_000_000,), jnp.float32)
    assert np.isfinite(noise).all()
    assert abs(float(noise.mean())) < 5e-3
    assert abs(float(noise.var()) - 1) < 5 * np.sqrt(2 / 1e6)
