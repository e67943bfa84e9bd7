"""The exact smoothed density of the empirical distribution: a kernel density estimate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import as_sample_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event, check_sigma
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.types import Array, ArrayLike, Event, Float, PRNGKey, Scalar

__all__ = ["KernelDensityEnergy", "kernel_density"]


@value
class KernelDensityEnergy(SmoothedEnergy):
    r"""Energy of data points smoothed by :math:`N(0, \sigma^2 I)`, normalised.

    .. math:: \phi(y) = -\log \frac{1}{n} \sum_i N(y; x_i, \sigma^2 I)

    Its Bayes estimator is the softmax-weighted mean of the data: the exact minimiser of the
    denoising loss on these points, which memorises them as sigma goes to 0. Build it with
    `kernel_density`. Cost of one energy: a product of an (n, d) matrix with a vector, of its
    gradient: three. Memory beyond the data: ``chunk_size`` numbers a query.
    """

    is_exact = True
    chunks: Float[Array, "c chunk d"]
    log_weights: Float[Array, "c chunk"]
    centre: Float[Array, " d"]
    sigma: Scalar
    event_shape: tuple[int, ...] = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy :math:`-\\log p_\\sigma(y)` of one event, normalising constant included."""
        check_event(self, y)
        centred = jnp.ravel(y) - self.centre
        variance = self.sigma**2
        normaliser = 0.5 * centred.size * jnp.log(2 * jnp.pi * variance)
        log_sum = _log_sum(centred, self.chunks, self.log_weights, self.sigma)
        return 0.5 * jnp.sum(centred**2) / variance - log_sum + normaliser

    def at(self, sigma: float | Array) -> "KernelDensityEnergy":
        """The same data, smoothed by another sigma."""
        return KernelDensityEnergy(
            self.chunks,
            self.log_weights,
            self.centre,
            check_sigma(sigma).astype(self.chunks.dtype),
            self.event_shape,
        )

    def sample(self, rng_key: PRNGKey, shape: int | tuple[int, ...] = ()) -> Array:
        """Exact independent draws of Y, shape ``(*shape, *event)``."""
        key_x, key_noise = jax.random.split(rng_key)
        x = self.sample_clean(key_x, shape)
        return x + self.sigma * jax.random.normal(key_noise, x.shape, x.dtype)

    def sample_clean(self, rng_key: PRNGKey, shape: int | tuple[int, ...] = ()) -> Array:
        """Data points drawn with replacement, shape ``(*shape, *event)``."""
        shape = as_sample_shape(shape)
        index = jax.random.categorical(rng_key, jnp.ravel(self.log_weights), shape=shape)
        chunk_size = self.chunks.shape[1]
        x = self.chunks[index // chunk_size, index % chunk_size] + self.centre
        return x.reshape(*shape, *self.event_shape)


@jax.jit
def _log_sum(y: Array, chunks: Array, log_weights: Array, sigma: Array) -> Array:
    r"""Streamed :math:`\log \sum_i w_i \exp((x_i \cdot y - |x_i|^2/2) / \sigma^2)`.

    The term in ``|y|^2`` is left out: what remains is a product of matrices once the queries are
    vmapped, and a large number cannot cancel inside the softmax. The body is rematerialised, so
    the gradient keeps no chunk alive; without a barrier against common subexpressions, which a
    loop does not need, and with which jax 0.10.2 compiles wrong Hessians of 64 queries on CPUs.
    Compiled by itself, or a call outside jit would compile the loop anew every time.
    """

    @partial(jax.checkpoint, prevent_cse=False)
    def absorb(carry, chunk):
        top, total = carry
        x, log_weight = chunk
        inner = jnp.dot(x, y, precision="highest") - 0.5 * jnp.sum(x**2, axis=1)
        logits = log_weight + inner / sigma**2
        new_top = jnp.maximum(top, jax.lax.stop_gradient(jnp.max(logits)))
        total = total * jnp.exp(top - new_top) + jnp.sum(jnp.exp(logits - new_top))
        return (new_top, total), None

    lowest = jnp.asarray(jnp.finfo(y.dtype).min / 2, y.dtype)
    (top, total), _ = jax.lax.scan(absorb, (lowest, jnp.zeros((), y.dtype)), (chunks, log_weights))
    return top + jnp.log(total)


def kernel_density(
    x: ArrayLike, sigma: float | Array, *, chunk_size: int = 4096
) -> KernelDensityEnergy:
    """The exact energy of data points smoothed by sigma.

    Parameters
    ----------
    x : array, shape (n, *event)
        Clean data, finite.
    sigma : float
        Standard deviation of the smoothing, in data units.
    chunk_size : int
        Data points handled at once; a batch of B queries holds B x chunk_size numbers.

    Raises
    ------
    InvalidArgumentError, EventShapeError, NonFiniteDataError
        Bad sigma or chunk size, no data or no event axis, NaN or infinite data.
    """
    sigma = check_sigma(sigma)
    x = np.asarray(x)
    if x.ndim < 2 or len(x) == 0:
        raise EventShapeError(f"x must have shape (n, *event) with n >= 1; got {x.shape}.")
    if chunk_size < 1:
        raise InvalidArgumentError(f"chunk_size must be at least 1; got {chunk_size}.")
    if not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))
        raise NonFiniteDataError(
            f"x has {len(bad)} values that are NaN or infinite, the first at index "
            f"{tuple(int(i) for i in bad[0])}. Remove those rows first."
        )
    event_shape, flat = x.shape[1:], x.reshape(len(x), -1).astype(sigma.dtype)
    chunk_size = min(chunk_size, len(flat))
    num_chunks = -(-len(flat) // chunk_size)
    centre = flat.mean(axis=0, dtype=np.float64).astype(flat.dtype)
    chunks = np.zeros((num_chunks * chunk_size, flat.shape[1]), flat.dtype)
    np.subtract(flat, centre, out=chunks[: len(flat)])
    log_weights = np.full(len(chunks), -np.inf, flat.dtype)
    log_weights[: len(flat)] = -np.log(len(flat))
    return KernelDensityEnergy(
        chunks=jnp.asarray(chunks.reshape(num_chunks, chunk_size, -1)),
        log_weights=jnp.asarray(log_weights.reshape(num_chunks, chunk_size)),
        centre=jnp.asarray(centre),
        sigma=sigma,
        event_shape=event_shape,
    )
