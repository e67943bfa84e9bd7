"""Matrix products in full precision: accelerators shorten the mantissas of float32 otherwise."""

from functools import partial

import jax.numpy as jnp

__all__ = ["matmul"]

matmul = partial(jnp.matmul, precision="highest")
