"""The exact oracle: the smoothed density of a Gaussian mixture, everything in closed form."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import as_sample_shape
from neb_ppl._precise import matmul
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event, check_sigma
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, ArrayLike, Event, Float, PRNGKey, Scalar

__all__ = ["GaussianMixtureEnergy", "gaussian_mixture"]


@value
class GaussianMixtureEnergy(SmoothedEnergy):
    r"""Energy of a Gaussian mixture smoothed by :math:`N(0, \sigma^2 I)`, normalised.

    .. math:: \phi(y) = -\log \sum_k w_k N(y; \mu_k, P_k + \sigma^2 I)

    Build it with `gaussian_mixture`. Covariances are held by their eigenvectors, so another
    sigma costs nothing. Cost of one energy: K products of a (d, d) matrix with a vector.
    """

    is_exact = True
    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    eigenvalues: Float[Array, "k d"]
    rows: Float[Array, "k*d d"]
    turned_means: Float[Array, "k d"]
    sigma: Scalar
    event_shape: tuple[int, ...] = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy :math:`-\\log p_\\sigma(y)` of one event, normalising constant included."""
        check_event(self, y)
        log_joint, _ = self._components(jnp.ravel(y))
        return -jax.scipy.special.logsumexp(log_joint)

    def at(self, sigma: float | Array) -> "GaussianMixtureEnergy":
        """The same clean density, smoothed by another sigma."""
        return GaussianMixtureEnergy(
            self.log_weights,
            self.means,
            self.eigenvalues,
            self.rows,
            self.turned_means,
            check_sigma(sigma).astype(self.means.dtype),
            self.event_shape,
        )

    @property
    def eigenvectors(self) -> Float[Array, "k d d"]:
        """Of the components' covariances, in columns."""
        k, d = self.means.shape
        return self.rows.reshape(k, d, d).swapaxes(1, 2)

    def posterior_mean(self, y: Event) -> Event:
        r"""Exact :math:`E[X | Y = y] = \sum_k r_k (\mu_k + G_k (y - \mu_k))`, not through phi."""
        check_event(self, y)
        responsibilities, means = self._posterior_components(y)
        return (responsibilities @ means).reshape(self.event_shape)

    def posterior_covariance(self, y: Event) -> Float[Array, "d d"]:
        r"""Exact :math:`Cov(X | Y = y)`, by the law of total variance over components."""
        check_event(self, y)
        responsibilities, means = self._posterior_components(y)
        centred = means - responsibilities @ means
        between = jnp.einsum("k,ki,kj->ij", responsibilities, centred, centred)
        shrunk = self.eigenvalues * self.sigma**2 / (self.eigenvalues + self.sigma**2)
        within = jnp.einsum(
            "k,kie,ke,kje->ij", responsibilities, self.eigenvectors, shrunk, self.eigenvectors
        )
        return between + within

    def sample(self, rng_key: PRNGKey, shape: int | tuple[int, ...] = ()) -> Array:
        """Exact independent draws of Y, shape ``(*shape, *event)``."""
        return self._draw(rng_key, shape, self.eigenvalues + self.sigma**2)

    def sample_clean(self, rng_key: PRNGKey, shape: int | tuple[int, ...] = ()) -> Array:
        """Exact independent draws of X, shape ``(*shape, *event)``."""
        return self._draw(rng_key, shape, self.eigenvalues)

    def sample_posterior(self, rng_key: PRNGKey, y: Event) -> Event:
        """One exact draw of X given Y = y."""
        check_event(self, y)
        key_component, key_noise = jax.random.split(rng_key)
        log_joint, _ = self._components(jnp.ravel(y))
        k = jax.random.categorical(key_component, log_joint)
        _, means = self._posterior_components(y)
        shrunk = self.eigenvalues[k] * self.sigma**2 / (self.eigenvalues[k] + self.sigma**2)
        noise = jax.random.normal(key_noise, shrunk.shape, shrunk.dtype)
        x = means[k] + self.eigenvectors[k] @ (jnp.sqrt(shrunk) * noise)
        return x.reshape(self.event_shape)

    def mean(self) -> Event:
        """Mean of X, and of Y."""
        return (jnp.exp(self.log_weights) @ self.means).reshape(self.event_shape)

    def covariance(self) -> Float[Array, "d d"]:
        """Covariance of Y; that of X is less by ``sigma**2`` on the diagonal."""
        weights = jnp.exp(self.log_weights)
        centred = self.means - weights @ self.means
        between = jnp.einsum("k,ki,kj->ij", weights, centred, centred)
        smoothed = self.eigenvalues + self.sigma**2
        within = jnp.einsum(
            "k,kie,ke,kje->ij", weights, self.eigenvectors, smoothed, self.eigenvectors
        )
        return between + within

    def _components(self, y: Float[Array, " d"]) -> tuple[Array, Array]:
        """Log joint density of y and each component, and y in each component's eigenbasis."""
        z = matmul(self.rows, y).reshape(self.means.shape)
        z = z - self.turned_means
        smoothed = self.eigenvalues + self.sigma**2
        log_density = -0.5 * jnp.sum(z**2 / smoothed + jnp.log(2 * jnp.pi * smoothed), axis=1)
        return self.log_weights + log_density, z

    def _posterior_components(self, y: Event) -> tuple[Array, Array]:
        """Weights and means of the mixture that is the law of X given Y = y."""
        log_joint, z = self._components(jnp.ravel(y))
        gains = self.eigenvalues / (self.eigenvalues + self.sigma**2)
        means = self.means + jnp.einsum(
            "kde,ke->kd", self.eigenvectors, gains * z, precision="highest"
        )
        return jax.nn.softmax(log_joint), means

    def _draw(self, rng_key: PRNGKey, shape: int | tuple[int, ...], variances: Array) -> Array:
        shape = as_sample_shape(shape)
        key_component, key_noise = jax.random.split(rng_key)
        k = jax.random.categorical(key_component, self.log_weights, shape=shape)
        noise = jax.random.normal(key_noise, (*shape, self.means.shape[1]), self.means.dtype)
        scaled = jnp.sqrt(variances)[k] * noise
        draws = self.means[k] + jnp.einsum("...de,...e->...d", self.eigenvectors[k], scaled)
        return draws.reshape(*shape, *self.event_shape)


def gaussian_mixture(
    weights: ArrayLike | Sequence[float],
    means: ArrayLike,
    covariances: ArrayLike,
    sigma: float | Array,
) -> GaussianMixtureEnergy:
    r"""The exact energy of the mixture :math:`\sum_k w_k N(\mu_k, P_k)` smoothed by sigma.

    Parameters
    ----------
    weights : array, shape (k,)
        Positive; normalised here if their sum is 1 within rounding, refused otherwise.
    means : array, shape (k, *event)
    covariances : array, shape (k, d, d), (k, d) or (k,)
        Of the clean components; two axes mean diagonals, one means multiples of the identity.
        Zero is allowed: a point mass.
    sigma : float
        Standard deviation of the smoothing, in data units.

    Raises
    ------
    InvalidArgumentError
        Weights that are not a distribution, covariances that are not symmetric positive
        semi-definite, sigma that is not positive.
    EventShapeError
        Shapes that do not fit each other.
    """
    sigma = check_sigma(sigma)
    dtype = sigma.dtype
    weights, means, covariances = (
        np.asarray(array, dtype) for array in (weights, means, covariances)
    )
    if weights.ndim != 1 or means.ndim < 2 or len(means) != len(weights):
        raise EventShapeError(
            f"weights and means must have shapes (k,) and (k, *event); got {weights.shape} "
            f"and {means.shape}."
        )
    if not (np.all(weights > 0) and abs(weights.sum() - 1) < 1e-4):
        raise InvalidArgumentError(
            f"weights must be positive and sum to 1; got sum {weights.sum():.6g}, "
            f"minimum {weights.min():.3g}."
        )
    event_shape = means.shape[1:]
    flat = means.reshape(len(means), -1)
    eigenvalues, eigenvectors = _spectra(covariances, *flat.shape)
    turn = np.swapaxes(eigenvectors, 1, 2)  # one matrix for all: a single product a query
    return GaussianMixtureEnergy(
        log_weights=jnp.log(jnp.asarray(weights / weights.sum())),
        means=jnp.asarray(flat),
        eigenvalues=jnp.asarray(eigenvalues, dtype),
        rows=jnp.asarray(turn.reshape(-1, flat.shape[1]), dtype),
        turned_means=jnp.asarray(np.einsum("ked,kd->ke", turn, flat), dtype),
        sigma=sigma,
        event_shape=event_shape,
    )


def _spectra(covariances: np.ndarray, k: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of covariances given in full, as diagonals or as numbers."""
    if covariances.shape in ((k,), (k, d)):
        eigenvalues = np.broadcast_to(covariances.reshape(k, -1), (k, d))
        eigenvectors = np.broadcast_to(np.eye(d), (k, d, d))
    elif covariances.shape == (k, d, d):
        if not np.allclose(covariances, covariances.swapaxes(1, 2), atol=1e-6):
            raise InvalidArgumentError("covariances must be symmetric.")
        eigenvalues, eigenvectors = np.linalg.eigh(covariances.astype(np.float64))
    else:
        raise EventShapeError(
            f"covariances must have shape ({k}, {d}, {d}), ({k}, {d}) or ({k},) for these means; "
            f"got {covariances.shape}."
        )
    floor = -1e-6 * max(1.0, float(np.max(eigenvalues)))
    if not np.all(eigenvalues >= floor):
        raise InvalidArgumentError(
            "covariances must be positive semi-definite and finite; smallest eigenvalue is "
            f"{np.min(eigenvalues):.3g}."
        )
    return np.maximum(eigenvalues, 0.0), eigenvectors
