"""Where chains start: data plus noise, or pure noise. Any array of positions works as well."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.core import Tracer

from neb_ppl.data.checks import check_data
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.estimators import smooth
from neb_ppl.types import Array, ArrayLike, PRNGKey
from neb_ppl.walks.base import walk_on
from neb_ppl.walks.langevin import KineticLangevin

__all__ = ["start_at_data", "start_at_noise", "walk_from", "walk_from_noise"]


def start_at_data(rng_key: PRNGKey, model: SmoothedScore, x: ArrayLike, num_chains: int) -> Array:
    """Random data points with the model's noise: draws of y itself, shape ``(chains, *event)``.

    Parameters
    ----------
    rng_key : key
    model : SmoothedScore
        Gives sigma, and the event shape that x must have.
    x : array, shape ``(n, *event)``
        Clean data; drawn from without replacement where there are enough of them.
    num_chains : int

    Raises
    ------
    EventShapeError, NonFiniteDataError, InvalidArgumentError
        Bad data, no chains.
    """
    _check_chains(num_chains)
    if not isinstance(x, Tracer):
        x = check_data(x, model.event_shape)
    x = jnp.asarray(x)
    key_points, key_noise = jax.random.split(rng_key)
    replace = num_chains > len(x)
    index = jax.random.choice(key_points, len(x), (num_chains,), replace=replace)
    return smooth(key_noise, x[index], model.sigma)


def start_at_noise(
    rng_key: PRNGKey,
    model: SmoothedScore,
    num_chains: int,
    *,
    event_shape: tuple[int, ...] | None = None,
) -> Array:
    """Pure noise, shape ``(chains, *event)``: nothing of the data but their centre and spread.

    Gaussian around the mean of the training data, of variance ``spread**2 + sigma**2``; a model
    without a data scale starts around 0 with standard deviation sigma.

    Parameters
    ----------
    rng_key : key
    model : SmoothedScore
    num_chains : int
    event_shape : tuple of int, optional
        Where the model does not know it.

    Raises
    ------
    EventShapeError, InvalidArgumentError
        A model without an event shape, no chains.
    """
    _check_chains(num_chains)
    event_shape = model.event_shape if event_shape is None else event_shape
    if event_shape is None:
        raise EventShapeError(
            f"{type(model).__name__} has no event_shape: pass event_shape=, here or where you "
            "build it, or give an array of start positions."
        )
    scale = getattr(model, "scale", None)
    shift, spread = (0.0, 0.0) if scale is None else (scale.shift, scale.scale)
    noise = jax.random.normal(rng_key, (num_chains, *event_shape), model.sigma.dtype)
    return shift + jnp.sqrt(spread**2 + model.sigma**2) * noise


@partial(jax.jit, static_argnames=("num_chains", "event_shape"))
def walk_from_noise(
    rng_key: PRNGKey,
    model: SmoothedScore,
    num_chains: int,
    num_steps: int | Array,
    *,
    event_shape: tuple[int, ...] | None = None,
) -> Array:
    """Ends of independent walks from noise, shape ``(chains, *event)``: nearly draws of y.

    `num_steps` of `KineticLangevin` at its defaults, one gradient each, in one compiled program.
    """
    key_start, key_walk = jax.random.split(rng_key)
    start = start_at_noise(key_start, model, num_chains, event_shape=event_shape)
    return walk_from(key_walk, model, start, num_steps)


@jax.jit
def walk_from(
    rng_key: PRNGKey, model: SmoothedScore, start: Array, num_steps: int | Array
) -> Array:
    """Ends of independent walks from positions ``(chains, *event)``, as in `walk_from_noise`."""
    start = start.astype(jnp.result_type(float))
    algorithm = KineticLangevin().resolve(model.sigma, 1).algorithm(model)
    keys = jax.random.split(rng_key, len(start))
    return jax.vmap(lambda key, y: walk_on(algorithm, key, y, num_steps))(keys, start)


def _check_chains(num_chains: int) -> None:
    if num_chains < 1:
        raise InvalidArgumentError(f"num_chains must be at least 1; got {num_chains}.")
