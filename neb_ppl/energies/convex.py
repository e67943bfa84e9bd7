"""A learned energy that is convex in y: an input-convex network and a positive quadratic."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neb_ppl._checks import check_counts, check_key, check_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event, check_sigma
from neb_ppl.energies.layers import Dense
from neb_ppl.energies.modules import Weights, build_module, initial_weights
from neb_ppl.energies.neural import unknown_energies
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar

__all__ = ["ICNN", "ConvexEnergy", "convex"]

SHARPNESS = 3.0


@dataclasses.dataclass(frozen=True)
class ICNN:
    """Input-convex network, one event to one number, in units where data have deviation 1.

    Attributes
    ----------
    hidden : int
        Width of each layer.
    layers : int
        Hidden layers.
    """

    hidden: int = 128
    layers: int = 2
    name: ClassVar[str] = "icnn"

    def __post_init__(self):
        check_counts(hidden=self.hidden, layers=self.layers)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> "ICNNModule":
        """The module for events of `event_shape`."""
        return ICNNModule(self, event_shape, rngs)


class ICNNModule(nnx.Module):
    """``c^2 (|A u + b|^2 / 2 + sqrt(d) g(c u))``; starts near A = 1, g = 0, the best linear one."""

    def __init__(self, spec: ICNN, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        size, hidden = int(np.prod(event_shape)), spec.hidden
        self.square = nnx.Param(jnp.eye(size))
        self.centre = nnx.Param(jnp.zeros(size))
        self.skips = nnx.List([Dense(size, hidden, 1.6, rngs=rngs) for _ in range(spec.layers)])
        for skip in self.skips:  # bends everywhere, not all in the middle of the data
            skip.bias = nnx.Param(jax.random.normal(rngs.params(), (hidden,)))
        self.inner = nnx.List([Positive(hidden, hidden, rngs) for _ in range(spec.layers - 1)])
        self.leave = Positive(hidden, 1, rngs)

    def __call__(self, u: Event, sigma: Scalar) -> Scalar:
        c, u = 1 / jnp.sqrt(1 + sigma**2), jnp.ravel(u)
        skips = [skip(c * u) for skip in self.skips]
        z = _bend(skips[0])
        for inner, skip in zip(self.inner, skips[1:], strict=True):
            z = _bend(inner(z) + skip)
        square = self.square[...] @ u + self.centre[...]
        return c**2 * (0.5 * jnp.sum(square**2) + u.size**0.5 * self.leave(z)[0])


class Positive(nnx.Module):
    """Weights that are not negative, as convexity asks: ``softplus(kernel) / sqrt(inputs)``."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        kernel = jax.random.normal(rngs.params(), (inputs, outputs))
        self.kernel = nnx.Param(kernel - 3)  # small: curvatures add up and never cancel

    def __call__(self, z: Array) -> Array:
        return z @ jax.nn.softplus(self.kernel[...]) / z.size**0.5


def _bend(z: Array) -> Array:
    """Softplus, sharp, and 0 at 0: sums of many positive ones would leave the place of bends."""
    return (jax.nn.softplus(SHARPNESS * z) - jnp.log(2.0)) / SHARPNESS


@value
class ConvexEnergy(SmoothedEnergy):
    r"""A learned energy that is convex in y, whatever its weights.

    .. math:: \phi(y) = c^2 \Bigl( \tfrac12 \lVert A u + b \rVert^2
                       + \sqrt{d}\, g(c u) \Bigr), \quad u = (y - shift) / scale, \quad
              c^2 = 1 / (1 + \sigma^2 / scale^2)

    and, with s a softplus, :math:`g(v) = w^T z_L`,

    .. math:: z_1 = s(V_1 v + b_1), \quad z_{k+1} = s(W_k z_k + V_{k+1} v + b_{k+1}), \quad
              W_k, w \ge 0.

    Non-negative weights are softplus of free ones, so that any optimiser will do. Build it with
    `convex`.

    Attributes
    ----------
    weights, scale, data_energy
        As of a `NeuralEnergy`.
    network : ICNN
        Specification of g; compile-time.
    """

    weights: Weights
    sigma: Scalar
    scale: DataScale
    data_energy: Float[Array, " 3"]
    network: ICNN = static()
    event_shape: tuple[int, ...] = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event, up to a constant. Cost: ``d (d + L h) + L h^2`` products."""
        check_event(self, y)
        u, sigma = self.scale.to_network(y), self.sigma / self.scale.scale
        return build_module(self.network, self.event_shape, self.weights)(u, sigma)


def convex(
    rng_key: PRNGKey,
    event_shape: tuple[int, ...],
    sigma: float | Array,
    *,
    hidden: int = 128,
    layers: int = 2,
) -> ConvexEnergy:
    r"""An untrained convex energy, for `neb_ppl.fit`: walks on it cannot be caught in a mode.

    Right where the smoothed density is log-concave: log-concave data at any sigma, and data within
    a ball of radius R at every :math:`\sigma \ge R`, because :math:`\nabla^2 \phi = (I - Cov(X|y) /
    \sigma^2) / \sigma^2`. There all walks mix at the rate of the smallest curvature. Wrong where
    it has several modes: what is learned then is the best convex fit, which bridges them, and its
    risk stays above that of `deen` however long it is trained. Compare the two risks.

    Parameters
    ----------
    rng_key : key
    event_shape : tuple of int
        Shape of one event; d is its size.
    sigma : float
        In data units.
    hidden, layers : int
        Width h and number L of the hidden layers; g has ``L h (d + 1) + (L - 1) h^2 + h`` weights
        beside the ``d^2 + d`` of the quadratic.

    Raises
    ------
    InvalidArgumentError, EventShapeError
        A bad key, sigma, width, number of layers or shape.

    References
    ----------
    Amos, Xu and Kolter, "Input convex neural networks" (2017).
    """
    sigma, event_shape = check_sigma(sigma), check_shape(event_shape)
    check_key(rng_key)
    network = ICNN(hidden, layers)
    weights = initial_weights(rng_key, network, event_shape)
    return ConvexEnergy(weights, sigma, data_scale(), unknown_energies(), network, event_shape)
