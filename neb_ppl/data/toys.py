"""Two-dimensional toys of scale about one. Pure JAX: `num_samples` is static under jit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Array, Float, PRNGKey

__all__ = [
    "MixtureParameters",
    "eight_gaussians",
    "rings",
    "skewed_mixture",
    "skewed_mixture_samples",
    "two_moons",
]


class MixtureParameters(NamedTuple):
    """A Gaussian mixture.

    Attributes
    ----------
    weights : array, shape ``(k,)``, sum one
    means : array, shape ``(k, d)``
    covariances : array, shape ``(k, d, d)``
    """

    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]


def two_moons(rng_key: PRNGKey, num_samples: int, noise_scale: float = 0.05) -> Float[Array, "n 2"]:
    r"""Two interleaved half circles of radius one, the pair centred at the origin.

    .. math:: \pm(\cos t - 1/2, \sin t - 1/4) + \text{noise}, \quad t \sim U(0, \pi)

    Parameters
    ----------
    rng_key : PRNG key
    num_samples : int
        Static under jit.
    noise_scale : float
        Standard deviation of the Gaussian noise added to each coordinate.

    Returns
    -------
    array, shape ``(num_samples, 2)``
    """
    _check_num_samples(num_samples)
    key_angle, key_side, key_noise = jax.random.split(rng_key, 3)
    angle = jnp.pi * jax.random.uniform(key_angle, (num_samples,))
    side = jax.random.rademacher(key_side, (num_samples, 1), angle.dtype)
    curve = side * (_on_circle(angle) - jnp.array([[0.5, 0.25]]))
    return curve + noise_scale * jax.random.normal(key_noise, curve.shape)


def rings(
    rng_key: PRNGKey,
    num_samples: int,
    noise_scale: float = 0.05,
    radii: tuple[float, ...] = (0.5, 1.5),
) -> Float[Array, "n 2"]:
    """Concentric rings of equal weight.

    Parameters
    ----------
    rng_key, num_samples, noise_scale
        As in `two_moons`.
    radii : tuple of float

    Returns
    -------
    array, shape ``(num_samples, 2)``
    """
    _check_num_samples(num_samples)
    if not radii:
        raise InvalidArgumentError("radii is empty; expected at least one radius.")
    key_angle, key_ring, key_noise = jax.random.split(rng_key, 3)
    angle = 2 * jnp.pi * jax.random.uniform(key_angle, (num_samples,))
    radius = jax.random.choice(key_ring, jnp.asarray(radii, angle.dtype), (num_samples, 1))
    curve = radius * _on_circle(angle)
    return curve + noise_scale * jax.random.normal(key_noise, curve.shape)


def eight_gaussians(
    rng_key: PRNGKey, num_samples: int, noise_scale: float = 0.1
) -> Float[Array, "n 2"]:
    """Eight Gaussians of equal weight on the unit circle, at multiples of 45 degrees.

    Parameters
    ----------
    rng_key, num_samples
        As in `two_moons`.
    noise_scale : float
        Standard deviation of each Gaussian.

    Returns
    -------
    array, shape ``(num_samples, 2)``
    """
    _check_num_samples(num_samples)
    key_mode, key_noise = jax.random.split(rng_key)
    centres = _on_circle(jnp.arange(8) * (jnp.pi / 4))
    modes = jax.random.choice(key_mode, centres, (num_samples,))
    return modes + noise_scale * jax.random.normal(key_noise, modes.shape)


def skewed_mixture() -> MixtureParameters:
    """An unequal, skewed mixture of three Gaussians in two dimensions.

    No symmetry is left that could hide an error of sign, axis or weight. Unpacks into
    ``(weights, means, covariances)``.
    """
    return MixtureParameters(
        weights=jnp.array([0.6, 0.3, 0.1]),
        means=jnp.array([[-0.6, -0.2], [0.5, -0.3], [1.5, 1.5]]),
        covariances=jnp.array(
            [
                [[0.10, 0.04], [0.04, 0.06]],
                [[0.06, -0.05], [-0.05, 0.15]],
                [[0.02, 0.01], [0.01, 0.04]],
            ]
        ),
    )


def skewed_mixture_samples(rng_key: PRNGKey, num_samples: int) -> Float[Array, "n 2"]:
    """Samples of `skewed_mixture`.

    Parameters
    ----------
    rng_key : PRNG key
    num_samples : int
        Static under jit.

    Returns
    -------
    array, shape ``(num_samples, 2)``
    """
    _check_num_samples(num_samples)
    key_component, key_noise = jax.random.split(rng_key)
    mixture = skewed_mixture()
    component = jax.random.categorical(
        key_component, jnp.log(mixture.weights), shape=(num_samples,)
    )
    roots = jnp.linalg.cholesky(mixture.covariances)[component]
    noise = jax.random.normal(key_noise, (num_samples, 2))
    return mixture.means[component] + jnp.einsum("nij,nj->ni", roots, noise)


def _on_circle(angle: Float[Array, " n"]) -> Float[Array, "n 2"]:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _check_num_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise InvalidArgumentError(f"num_samples must be at least 1; got {num_samples}.")
