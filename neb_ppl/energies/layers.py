"""Layers of the networks. Every one acts on one event; leading axes come from `jax.vmap`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from neb_ppl.types import Array, Scalar

__all__ = [
    "Block",
    "Conv3x3",
    "Dense",
    "DenseBlock",
    "NoiseEmbedding",
    "convolve",
    "depth_to_space",
    "space_to_depth",
]

EMBEDDING = 64


def convolve(x: Array, kernel: Array) -> Array:
    """3 x 3 convolution with zero padding, (h, w, c) and (3, 3, c, k) to (h, w, k).

    On a CPU as one product of matrices: three rows gathered into the inputs, three columns
    scattered from the outputs, so that batches and chains become rows of it. There a
    `lax.conv` inside a compiled loop, which every walk is, runs many times slower than outside.
    Elsewhere `lax.conv`.
    """
    return jax.lax.platform_dependent(x, kernel, cpu=_matrix_convolve, default=_lax_convolve)


def _matrix_convolve(x: Array, kernel: Array) -> Array:
    height, width, depth = *x.shape[:2], kernel.shape[-1]
    x = jnp.pad(x, ((1, 1), (0, 0), (0, 0)))
    rows = jnp.concatenate([x[i : i + height] for i in range(3)], axis=-1)
    z = rows @ kernel.transpose(0, 2, 1, 3).reshape(-1, 3 * depth)
    z = jnp.pad(z, ((0, 0), (1, 1), (0, 0)))
    return sum(
        (z[:, j : j + width, j * depth : (j + 1) * depth] for j in range(3)),
        start=jnp.zeros((), z.dtype),
    )


def _lax_convolve(x: Array, kernel: Array) -> Array:
    out = jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return out[0]


def space_to_depth(x: Array, n: int = 2) -> Array:
    """(h, w, c) to (h/n, w/n, n n c)."""
    h, w, c = x.shape
    return x.reshape(h // n, n, w // n, n, c).swapaxes(1, 2).reshape(h // n, w // n, n * n * c)


def depth_to_space(x: Array, n: int = 2) -> Array:
    """(h, w, n n c) to (n h, n w, c)."""
    h, w, c = x.shape
    return x.reshape(h, w, n, n, c // n**2).swapaxes(1, 2).reshape(h * n, w * n, c // n**2)


class Dense(nnx.Module):
    """Affine map of the last axis; weights of deviation ``gain / sqrt(inputs)``."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, *, rngs: nnx.Rngs):
        weights = jax.random.normal(rngs.params(), (inputs, outputs))
        self.kernel = nnx.Param(weights * gain / inputs**0.5)
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...] + self.bias[...]


class Conv3x3(nnx.Module):
    """3 x 3 convolution; weights of deviation ``gain / sqrt(9 inputs)``."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0, *, rngs: nnx.Rngs):
        weights = jax.random.normal(rngs.params(), (3, 3, inputs, outputs))
        self.kernel = nnx.Param(weights * gain / (9 * inputs) ** 0.5)
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Array) -> Array:
        return convolve(x, self.kernel[...]) + self.bias[...]


class NoiseEmbedding(nnx.Module):
    """Features of log sigma for noise-conditional networks."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.dense = Dense(8, EMBEDDING, rngs=rngs)

    def __call__(self, sigma: Scalar) -> Array:
        phases = 0.7 * jnp.arange(1, 5) * jnp.log(sigma)
        return nnx.silu(self.dense(jnp.concatenate([jnp.sin(phases), jnp.cos(phases)])))


class Block(nnx.Module):
    """Residual block ``h + B silu(A h)``; sigma, where it is read, scales and shifts ``A h``."""

    def __init__(
        self,
        layer: Callable[..., nnx.Module],
        width: int,
        hidden: int,
        conditional: bool,
        *,
        rngs: nnx.Rngs,
    ):
        self.inner = layer(width, hidden, 1.6, rngs=rngs)
        self.outer = Dense(hidden, width, 0.3, rngs=rngs)
        self.film = Dense(EMBEDDING, 2 * hidden, 0.1, rngs=rngs) if conditional else None

    def __call__(self, h: Array, noise: Array | None = None) -> Array:
        return h + self.residual(h, noise)

    def residual(self, h: Array, noise: Array | None) -> Array:
        """The block without its skip."""
        z = self.inner(h)  # pyright: ignore[reportCallIssue]
        if self.film is not None and noise is not None:
            scale, shift = jnp.split(self.film(noise), 2)
            shape = (1,) * (z.ndim - 1) + scale.shape
            z = z * (1 + scale.reshape(shape)) + shift.reshape(shape)
        return self.outer(nnx.silu(z))


class DenseBlock(nnx.Module):
    """Residual block over all of space at once, through a few channels."""

    def __init__(
        self,
        space: tuple[int, int],
        width: int,
        channels: int,
        hidden: int,
        conditional: bool,
        *,
        rngs: nnx.Rngs,
    ):
        self.down = Dense(width, channels, rngs=rngs)
        self.block = Block(Dense, space[0] * space[1] * channels, hidden, conditional, rngs=rngs)
        self.up = Dense(channels, width, rngs=rngs)

    def __call__(self, h: Array, noise: Array | None = None) -> Array:
        z = self.down(h)
        return h + self.up(self.block.residual(z.reshape(-1), noise).reshape(z.shape))
