"""The negative evidence bound of a variational autoencoder, as the energy of a smoothed density."""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neb_ppl._checks import check_counts, check_key, check_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event, check_sigma
from neb_ppl.energies.layers import Block, Dense
from neb_ppl.energies.modules import Weights, build_module, initial_weights
from neb_ppl.energies.neural import unknown_energies
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar

__all__ = ["VAE", "Autoencoder", "LinearVAE", "VariationalEnergy", "check_decoder_noise", "uvb"]

LARGEST = 5.0


class Autoencoder(Protocol):
    """Specification of an encoder and a decoder, in units where data have deviation 1."""

    name: ClassVar[str]

    @property
    def latent(self) -> int:
        """Size of the code."""
        ...

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module with ``encode(u) -> mean, log deviation`` and ``decode(z) -> u``."""
        ...


@dataclasses.dataclass(frozen=True)
class VAE:
    """Encoder and decoder of residual blocks on the flat event; activations are smooth.

    Attributes
    ----------
    latent : int
        Size of the code.
    hidden : int
        Width.
    blocks : int
        Residual blocks on each side.
    """

    latent: int = 32
    hidden: int = 512
    blocks: int = 1
    name: ClassVar[str] = "vae"

    def __post_init__(self):
        check_counts(latent=self.latent, hidden=self.hidden, blocks=self.blocks)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """The module for events of `event_shape`."""
        return _Residual(self, event_shape, rngs)


@dataclasses.dataclass(frozen=True)
class LinearVAE:
    """Affine means and one deviation for each entry of the code: probabilistic PCA.

    Attributes
    ----------
    latent : int
    """

    latent: int = 8
    name: ClassVar[str] = "linear_vae"

    def __post_init__(self):
        check_counts(latent=self.latent)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """The module for events of `event_shape`."""
        return _Affine(self, event_shape, rngs)


class _Residual(nnx.Module):
    def __init__(self, spec: VAE, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        size = int(np.prod(event_shape))

        def blocks() -> nnx.List:
            width = spec.hidden
            return nnx.List(
                [Block(Dense, width, width, False, rngs=rngs) for _ in range(spec.blocks)]
            )

        self.shape = event_shape
        self.enter = Dense(size, spec.hidden, 1.6, rngs=rngs)
        self.first = blocks()
        self.code = Dense(spec.hidden, 2 * spec.latent, 0.5, rngs=rngs)
        self.back = Dense(spec.latent, spec.hidden, 1.6, rngs=rngs)
        self.last = blocks()
        self.leave = Dense(spec.hidden, size, 0.5, rngs=rngs)

    def encode(self, u: Event) -> tuple[Array, Array]:
        h = nnx.silu(self.enter(jnp.ravel(u)))
        for block in self.first:
            h = block(h)
        return tuple(jnp.split(self.code(nnx.silu(h)), 2))  # pyright: ignore

    def decode(self, z: Array) -> Event:
        h = nnx.silu(self.back(z))
        for block in self.last:
            h = block(h)
        return self.leave(nnx.silu(h)).reshape(self.shape)


class _Affine(nnx.Module):
    def __init__(self, spec: LinearVAE, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        size = int(np.prod(event_shape))
        self.shape = event_shape
        self.mean = Dense(size, spec.latent, 0.5, rngs=rngs)
        self.log_deviation = nnx.Param(jnp.zeros(spec.latent))
        self.leave = Dense(spec.latent, size, 0.5, rngs=rngs)

    def encode(self, u: Event) -> tuple[Array, Array]:
        return self.mean(jnp.ravel(u)), self.log_deviation[...]

    def decode(self, z: Array) -> Event:
        return self.leave(z).reshape(self.shape)


@value
class VariationalEnergy(SmoothedEnergy):
    r"""Negative evidence bound of y under a decoder with noise sigma.

    .. math:: \phi(y) = E_{q(z \mid y)} \frac{\lVert y - \nu(z) \rVert^2}{2 \sigma^2}
              + KL\bigl(q(z \mid y) \,\|\, N(0, I)\bigr)

    The mean is over fixed points, :math:`z_k = \mu(y) + s(y)\,\epsilon_k`, so that it is a function
    of y; training draws others at every step. See `uvb`.

    Attributes
    ----------
    weights, scale, data_energy
        As of a `NeuralEnergy`.
    points : array, shape ``(k, latent)``
        The epsilon.
    network : Autoencoder
        Compile-time.
    """

    weights: Weights
    sigma: Scalar
    scale: DataScale
    data_energy: Float[Array, " 3"]
    points: Float[Array, "k latent"]
    network: Autoencoder = static()
    event_shape: tuple[int, ...] = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event. Cost: one encoding, k decodings."""
        misfit, divergence = self.terms(y)
        return misfit + jnp.sum(divergence)

    def terms(self, y: Event, noise: str = "gaussian") -> tuple[Scalar, Float[Array, " latent"]]:
        """Of one event: mean misfit over sigma, and each code entry's divergence, in nats.

        With ``noise="laplace"`` the decoder's errors are double-exponential of deviation sigma.
        """
        check_event(self, y)
        check_decoder_noise(noise)
        module, u = self._module(), self.scale.to_network(y)
        mean, log_deviation = _encode(module, u)
        z = mean + jnp.exp(log_deviation) * self.points
        residual = (u - jax.vmap(module.decode)(z)) * self.scale.scale / self.sigma
        each = 0.5 * residual**2 if noise == "gaussian" else jnp.sqrt(2.0) * jnp.abs(residual)
        divergence = 0.5 * (mean**2 + jnp.exp(2 * log_deviation) - 1) - log_deviation
        return jnp.sum(each) / len(self.points), divergence

    def encode(self, y: Event) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and deviation of the code of one event."""
        check_event(self, y)
        mean, log_deviation = _encode(self._module(), self.scale.to_network(y))
        return mean, jnp.exp(log_deviation)

    def decode(self, z: Float[Array, " latent"]) -> Event:
        """The decoder's mean for one code, in data units."""
        seen, expected = np.shape(z), (self.network.latent,)
        if seen != expected:
            raise EventShapeError(
                f"z has shape {seen}; expected one code {expected}. Batch with jax.vmap."
            )
        return self.scale.to_data(self._module().decode(jnp.asarray(z)))

    def renewed(self, rng_key: PRNGKey, num_points: int | None = None) -> "VariationalEnergy":
        """The same energy over other points: as many, or `num_points`."""
        count = len(self.points) if num_points is None else num_points
        check_counts(num_points=count)
        points = jax.random.normal(rng_key, (count, self.network.latent), self.points.dtype)
        return dataclasses.replace(self, points=points)  # pyright: ignore

    def _module(self):
        return build_module(self.network, self.event_shape, self.weights)


def uvb(
    rng_key: PRNGKey,
    event_shape: tuple[int, ...],
    sigma: float | Array,
    *,
    network: Autoencoder | None = None,
    num_points: int = 4,
) -> VariationalEnergy:
    r"""An untrained variational energy, for `neb_ppl.fit`.

    By the denoising loss, fit's default, it becomes unnormalised variational Bayes (UVB): an energy
    like any other, whose walks, jumps and diagnostics are the same. By `neb_ppl.ELBOLoss` on clean
    data it becomes a sigma-VAE, whose decoder noise is sigma.

    Parameters
    ----------
    rng_key : key
    event_shape : tuple of int
    sigma : float
        Of the smoothing noise, and of the decoder; in data units.
    network : VAE or LinearVAE, optional
    num_points : int
        Over which the energy is a mean. Training with one is cheapest, but the denoising loss adds
        the variance of the jump over the points, divided by their number: with fewer points it
        learns codes of smaller deviation. ``energy.renewed(rng_key, 16)`` walks on a better mean.

    References
    ----------
    Saremi, "Unnormalized variational Bayes" (2020); Saremi, "Learning and inference in imaginary
    noise models" (2020). (Elsewhere "sigma-VAE" means a decoder whose noise is fitted.)
    """
    sigma, event_shape = check_sigma(sigma), check_shape(event_shape)
    check_key(rng_key)
    check_counts(num_points=num_points)
    spec: Autoencoder = VAE() if network is None else network
    if isinstance(spec, type) or not hasattr(spec, "latent"):
        raise InvalidArgumentError(
            f"network must be a specification such as neb_ppl.VAE(); got {spec!r}."
        )
    key_weights, key_points = jax.random.split(rng_key)
    points = jax.random.normal(key_points, (num_points, spec.latent), sigma.dtype)
    weights = initial_weights(key_weights, spec, event_shape)
    return VariationalEnergy(
        weights, sigma, data_scale(), unknown_energies(), points, spec, event_shape
    )


def check_decoder_noise(noise: str) -> None:
    """Refuse a law that the decoder's errors cannot have."""
    if noise not in ("gaussian", "laplace"):
        raise InvalidArgumentError(f'noise must be "gaussian" or "laplace"; got {noise!r}.')


def _encode(module, u: Event) -> tuple[Array, Array]:
    """Mean and log deviation, the latter kept within +-5 without a kink."""
    mean, raw = module.encode(u)
    return mean, LARGEST * jnp.tanh(raw / LARGEST)
