"""Standard normal noise: the numbers of `jax.random.normal`, in one kernel on a CPU.

JAX's own threefry is a loop of many small kernels on a CPU, which takes a third of a step of 64
small chains. Here its twenty rounds are written out and fuse with what uses the noise.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.types import Array, PRNGKey

__all__ = ["standard_normal"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
ONE = 0x3F800000


def standard_normal(rng_key: PRNGKey, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Standard normal numbers, the same as ``jax.random.normal(rng_key, shape, dtype)``.

    Keys of other kinds than threefry, and other types than float32, go to `jax.random.normal`.
    """
    size = math.prod(shape)
    typed = jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)
    if not typed or dtype != jnp.float32 or not 0 < size < 2**32:
        return jax.random.normal(rng_key, shape, dtype)
    if str(jax.random.key_impl(rng_key)) != "threefry2x32":
        return jax.random.normal(rng_key, shape, dtype)
    bits = _threefry(jax.random.key_data(rng_key), jax.lax.iota(jnp.uint32, size))
    low = np.nextafter(np.float32(-1), np.float32(0))
    # 23 random bits are the fraction of a float in [1, 2).
    unit = jax.lax.bitcast_convert_type((bits >> np.uint32(9)) | np.uint32(ONE), jnp.float32) - 1
    uniform = jnp.maximum(low, unit * (1 - low) + low)
    return (np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)).reshape(shape)


def _threefry(key: Array, count: Array) -> Array:
    """32 bits for each counter: both words of Threefry-2x32 of (0, count), 20 rounds, combined.

    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    high, low = jnp.zeros_like(count) + schedule[0], count + schedule[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            high = high + low
            low = high ^ _rotate(low, rotation)
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return high ^ low


def _rotate(word: Array, distance: int) -> Array:
    return (word << np.uint32(distance)) | (word >> np.uint32(32 - distance))
