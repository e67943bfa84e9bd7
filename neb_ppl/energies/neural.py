"""Learned energies: a network's weights, the sigma and the data scale they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl._checks import check_key, check_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event, check_sigma
from neb_ppl.energies.modules import Weights, build_module, initial_weights
from neb_ppl.energies.networks import Network, check_network, default_network
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar

__all__ = ["NeuralEnergy", "NoiseConditionalEnergy", "deen", "noise_conditional"]


@value
class NeuralEnergy(SmoothedEnergy):
    r"""A learned energy in residual form.

    .. math:: \phi(y) = \frac{\lVert u - U(u) \rVert^2}{2 \varsigma^2}, \quad
              u = (y - shift) / scale, \quad \varsigma = \sigma / scale

    Build it with `deen`. Cost of a score: one forward and one backward pass of U.

    Attributes
    ----------
    weights : dict of arrays
        Named as in the module: ``"layers.0.kernel"``.
    scale : DataScale
        The data's scale; part of the energy, and saved with it.
    data_energy : array, shape (3,)
        1 %, 50 % and 99 % quantiles of phi over held-out data + noise, by which
        `neb_ppl.diagnostics.diagnose` knows walks that settle elsewhere; NaN before training.
    network : Network
        Specification of U; compile-time.
    """

    weights: Weights
    sigma: Scalar
    scale: DataScale
    data_energy: Float[Array, " 3"]
    network: Network = static()
    event_shape: tuple[int, ...] = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event, up to a constant."""
        check_event(self, y)
        u, sigma = self.scale.to_network(y), self.sigma / self.scale.scale
        residual = u - build_module(self.network, self.event_shape, self.weights)(u, sigma)
        return 0.5 * jnp.sum(residual**2) / sigma**2


@value
class NoiseConditionalEnergy:
    r"""One network for a range of noise levels, :math:`\phi(y, \sigma)`.

    Not an energy itself: ``.at(sigma)`` gives the `NeuralEnergy` of one level, sharing the
    weights. Build it with `noise_conditional`.
    """

    weights: Weights
    sigma_range: Array
    scale: DataScale
    network: Network = static()
    event_shape: tuple[int, ...] = static()

    def __repr__(self) -> str:
        low, high = self.sigma_range
        levels = "?" if isinstance(low, Tracer) else f"({float(low):.4g}, {float(high):.4g})"
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.weights))
        return (
            f"NoiseConditionalEnergy(event_shape={self.event_shape}, sigma_range={levels}, "
            f"{size:,} numbers)"
        )

    def at(self, sigma: float | Array) -> NeuralEnergy:
        """The energy at one noise level.

        Raises
        ------
        InvalidArgumentError
            If sigma lies outside the range of training.
        """
        level = check_sigma(sigma).astype(self.sigma_range.dtype)
        if not isinstance(sigma, Tracer) and not isinstance(self.sigma_range, Tracer):
            low, high = np.asarray(self.sigma_range)
            if not low * (1 - 1e-6) <= float(sigma) <= high * (1 + 1e-6):
                raise InvalidArgumentError(
                    f"sigma must lie in the trained range [{low:g}, {high:g}]; got "
                    f"{float(sigma):g}. Train with a wider sigma_range."
                )
        return NeuralEnergy(
            self.weights, level, self.scale, unknown_energies(), self.network, self.event_shape
        )

    def __call__(self, y: Event, sigma: float | Array) -> Scalar:
        r"""Energy :math:`\phi(y, \sigma)` of one event, up to a constant of each sigma."""
        return self.at(sigma)(y)


def deen(
    rng_key: PRNGKey,
    event_shape: tuple[int, ...],
    sigma: float | Array,
    *,
    network: Network | None = None,
) -> NeuralEnergy:
    """An untrained neural energy for `neb_ppl.fit`: deep energy estimator network (DEEN).

    Parameters
    ----------
    rng_key : key
        For the initial weights.
    event_shape : tuple of int
        Shape of one event, such as ``(2,)`` or ``(28, 28)``.
    sigma : float
        Standard deviation of the smoothing, in data units.
    network : Network, optional
        `MLP` or `UNet`; the default follows the event's shape.

    Raises
    ------
    InvalidArgumentError, EventShapeError
        Bad sigma, widths or shapes.

    References
    ----------
    Saremi, Mehrjou, Schoelkopf, Hyvaerinen, "Deep Energy Estimator Networks" (2018).
    """
    event_shape = check_shape(event_shape)
    network = network or default_network(event_shape)
    check_key(rng_key)
    check_network(network, event_shape)
    sigma = check_sigma(sigma)
    weights = initial_weights(rng_key, network, event_shape)
    return NeuralEnergy(weights, sigma, data_scale(), unknown_energies(), network, event_shape)


def noise_conditional(
    rng_key: PRNGKey,
    event_shape: tuple[int, ...],
    sigma_range: tuple[float, float],
    *,
    network: Network | None = None,
) -> NoiseConditionalEnergy:
    """An untrained energy for every sigma of a range.

    Parameters
    ----------
    rng_key, event_shape
        As in `deen`.
    sigma_range : (float, float)
        Lowest and highest noise level, in data units.
    network : Network, optional
        With ``conditional=True``; the default follows the event's shape.

    Raises
    ------
    InvalidArgumentError, EventShapeError
        A range that does not increase, a network that does not read sigma, bad shapes.
    """
    if np.shape(sigma_range) != (2,):
        raise InvalidArgumentError(
            f"sigma_range must be two numbers, (lowest, highest); got {sigma_range!r}."
        )
    low, high = (check_sigma(bound, "sigma_range") for bound in sigma_range)
    if not low < high:
        raise InvalidArgumentError(f"sigma_range must increase; got {tuple(sigma_range)}.")
    event_shape = check_shape(event_shape)
    network = network or default_network(event_shape, conditional=True)
    check_key(rng_key)
    check_network(network, event_shape)
    if not getattr(network, "conditional", False):
        raise InvalidArgumentError(
            f"network must read sigma: pass conditional=True to {type(network).__name__}."
        )
    weights = initial_weights(rng_key, network, event_shape)
    return NoiseConditionalEnergy(
        weights, jnp.stack([low, high]), data_scale(), network, event_shape
    )


def check_one_level(model: object, use: str, name: str = "energy") -> None:
    """Refuse a range of noise levels where one is meant."""
    if isinstance(model, NoiseConditionalEnergy):
        raise InvalidArgumentError(
            f"{name} is a {type(model).__name__}: {use} one of its levels, {name}.at(sigma)."
        )


def check_trained(model: object, name: str = "energy") -> None:
    """Refuse a learned energy that has seen no data."""
    scale = getattr(model, "scale", None)
    if hasattr(model, "weights") and isinstance(scale, DataScale) and not scale.is_fitted:
        raise InvalidArgumentError(
            f"{name} has not been trained: neb_ppl.fit(rng_key, {name}, x) first."
        )


def unknown_energies() -> Float[Array, " 3"]:
    """`NeuralEnergy.data_energy` before training."""
    return jnp.full(3, jnp.nan, jnp.result_type(float))
