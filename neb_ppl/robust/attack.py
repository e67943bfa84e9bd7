"""Changes of an event that move a smoothed classifier's vote, looked for by gradients."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key
from neb_ppl._noise import standard_normal
from neb_ppl.errors import InvalidArgumentError, NebPPLError
from neb_ppl.progress import progress
from neb_ppl.robust.checks import check_call, check_labels, check_radii
from neb_ppl.robust.classifier import SmoothedClassifier
from neb_ppl.types import Array, ArrayLike, Event, Int, PRNGKey, Scalar

__all__ = ["attack", "soft_loss"]

REACH = 2.5


def soft_loss(
    smoothed: SmoothedClassifier, x: Event, label: Int[Array, ""], noise: Array
) -> Scalar:
    r"""``-log`` of the mean probability of `label` over noisy copies, ``x + sigma * noise[k]``.

    Source: Salman et al., "Provably robust deep learning via adversarially trained smoothed
    classifiers" (2019).
    """
    noisy = x + smoothed.sigma * noise
    log_probabilities = jax.nn.log_softmax(jax.vmap(smoothed.scores)(noisy))[:, label]
    return jnp.log(len(noise)) - jax.nn.logsumexp(log_probabilities)


def climb(
    smoothed: SmoothedClassifier,
    x: Event,
    label: Int[Array, ""],
    noise: Array,
    radius: float | Scalar,
    num_steps: int,
) -> Event:
    """x moved by at most `radius` to where `soft_loss` is large: projected gradient ascent."""
    gradient = jax.grad(lambda change: soft_loss(smoothed, x + change, label, noise))

    def step(_: Any, change: Event) -> Event:
        slope = gradient(change)
        size = jnp.sqrt(jnp.sum(slope**2))
        change = change + REACH * radius / num_steps * slope / jnp.where(size > 0, size, 1.0)
        length = jnp.sqrt(jnp.sum(change**2))
        return change * jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))

    return x + jax.lax.fori_loop(0, num_steps, step, jnp.zeros_like(x))


def attack(
    rng_key: PRNGKey,
    smoothed: SmoothedClassifier,
    x: ArrayLike,
    labels: ArrayLike,
    radii: float | ArrayLike,
    *,
    num_steps: int = 20,
    num_draws: int = 32,
    progress_bar: bool = True,
) -> np.ndarray:
    """Events within `radii` of x, moved so that the smoothed classifier calls them `labels` less.

    Projected gradient ascent (PGD) in the l2 norm on `soft_loss`, through the jump. It may miss
    events nearby that move the vote: only a certificate excludes them.

    Parameters
    ----------
    rng_key : key
    smoothed : SmoothedClassifier
    x : array, shape ``(n, *event)``
    labels : int array, shape ``(n,)``
        From 0 on: events where a certificate abstains are to be left out.
    radii : float, or array of shape ``(n,)``
        In data units.
    num_steps : int
    num_draws : int
        Noisy copies that a gradient is averaged over; the same ones at every step. Each costs a
        Hessian product of the energy a step.
    progress_bar : bool

    Returns
    -------
    array, shape ``(n, *event)``

    Raises
    ------
    InvalidArgumentError, EventShapeError, NonFiniteDataError
        A classifier without a gradient, as one called by `jax.pure_callback`, among them.

    Warns
    -----
    DataRangeWarning
        x far outside the range that the energy was trained on.
    """
    check_key(rng_key)
    check_counts(num_steps=num_steps, num_draws=num_draws)
    if not isinstance(smoothed, SmoothedClassifier):
        raise InvalidArgumentError(
            "smoothed must be a SmoothedClassifier, of smoothed_classifier or fit_classifier; got "
            f"a {type(smoothed).__name__}."
        )
    x, classes = check_call(smoothed, x)
    labels = check_labels(labels, len(x), classes).astype(np.int32)
    radii = check_radii("radii", radii, (), (len(x),)).astype(x.dtype)
    _check_gradient(smoothed, x[0])
    keys = jax.random.split(rng_key, len(x))
    moved = []
    with progress(len(x), "attack", show=progress_bar, unit="event") as bar:
        for event in zip(keys, x, labels, np.broadcast_to(radii, len(x)), strict=True):
            moved.append(np.asarray(_attack(smoothed, *event, num_steps, num_draws)))
            bar.update(1)
    return np.stack(moved)


def _check_gradient(smoothed: SmoothedClassifier, x: Event) -> None:
    try:
        jax.eval_shape(jax.grad(lambda x: soft_loss(smoothed, x, jnp.int32(0), x[None])), x)
    except NebPPLError:
        raise
    except Exception as error:  # whatever a user's function raises
        raise InvalidArgumentError(
            "attack climbs by the gradient of the classifier, which could not be differentiated, "
            f"as those called by jax.pure_callback: {type(error).__name__}: {error}"
        ) from error


@partial(jax.jit, static_argnames=("num_steps", "num_draws"))
def _attack(
    smoothed: SmoothedClassifier,
    rng_key: PRNGKey,
    x: Event,
    label: Int[Array, ""],
    radius: Scalar,
    num_steps: int,
    num_draws: int,
) -> Event:
    noise = standard_normal(rng_key, (num_draws, *x.shape), x.dtype)
    return climb(smoothed, x, label, noise, radius, num_steps)
