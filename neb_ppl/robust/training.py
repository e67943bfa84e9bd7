"""Training a classifier on what the jump leaves of noisy events."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neb_ppl._checks import check_counts, check_key
from neb_ppl._noise import standard_normal
from neb_ppl._pytree import static, value
from neb_ppl.data import check_data
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.modules import initial_weights
from neb_ppl.energies.scale import fit_data_scale
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.progress import chunks, interruptible, progress
from neb_ppl.robust.attack import climb, soft_loss
from neb_ppl.robust.classifier import SmoothedClassifier, smoothed_classifier
from neb_ppl.robust.networks import ConvClassifier, LinearClassifier, NeuralClassifier
from neb_ppl.types import Array, ArrayLike, PRNGKey

__all__ = ["fit_classifier"]

STEPS_PER_CHUNK = 100


def fit_classifier(
    rng_key: PRNGKey,
    network: LinearClassifier | ConvClassifier,
    x: ArrayLike,
    labels: ArrayLike,
    energy: SmoothedScore | None = None,
    *,
    sigma: float | None = None,
    radius: float = 0.0,
    attack_steps: int = 2,
    num_copies: int = 1,
    num_steps: int = 2_000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    progress_bar: bool = True,
) -> SmoothedClassifier:
    r"""Train a classifier for `SmoothedClassifier`: on jumps from noisy copies of the data.

    Minimises `soft_loss`, the cross-entropy of the mean probability over `num_copies` noisy copies
    of each event. With a `radius` each event is first moved within it to where that is large
    (adversarial training), which makes larger radii certifiable.

    Parameters
    ----------
    rng_key : key
    network : LinearClassifier or ConvClassifier
    x : array, shape ``(n, *event)``
    labels : int array, shape ``(n,)``
        From 0 on.
    energy, sigma
        As in `smoothed_classifier`.
    radius : float
        Of the attack in training, l2, in data units; 0 for none.
    attack_steps : int
        Gradient steps of it, each a Hessian product of the energy a copy.
    num_copies, num_steps, batch_size : int
    learning_rate : float
        Of Adam, falling to 0 along a cosine.
    progress_bar : bool

    Returns
    -------
    SmoothedClassifier

    References
    ----------
    Cohen, Rosenfeld and Kolter (2019); Salman et al. (2019) for the attack.
    """
    check_key(rng_key)
    check_counts(
        attack_steps=attack_steps, num_copies=num_copies, num_steps=num_steps,
        batch_size=batch_size,
    )  # fmt: skip
    if not (np.isfinite(radius) and radius >= 0):
        raise InvalidArgumentError(f"radius must be 0 or more; got {radius}.")
    x = jnp.asarray(check_data(x, None if energy is None else energy.event_shape))
    labels = _labels(labels, len(x), network.classes)
    key_weights, key_steps = jax.random.split(rng_key)
    weights = initial_weights(key_weights, network, x.shape[1:])
    scale = fit_data_scale(np.asarray(x))
    start = smoothed_classifier(
        NeuralClassifier(weights, scale, network, x.shape[1:]), energy, sigma=sigma
    )
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
    optimizer = optax.adam(schedule)
    batch_size = min(batch_size, len(x))
    how = Recipe(jnp.asarray(radius, x.dtype), attack_steps, num_copies, batch_size)
    state = (weights, optimizer.init(weights))
    with (
        progress(num_steps, "training", show=progress_bar, unit="step") as bar,
        interruptible() as interrupt,
    ):
        for first, count in chunks(num_steps, limit=STEPS_PER_CHUNK):
            state = _train(
                start, state, x, labels, key_steps, first, jnp.asarray(count), how, optimizer
            )
            bar.update(count)
            if interrupt.requested:
                break
    return _with_weights(start, state[0])


@value
class Recipe:
    """What a training step does besides the data."""

    radius: Array
    attack_steps: int = static()
    num_copies: int = static()
    batch_size: int = static()


@partial(jax.jit, static_argnames="optimizer", donate_argnames="state")
def _train(
    start: SmoothedClassifier,
    state: tuple,
    x: Array,
    labels: Array,
    rng_key: PRNGKey,
    first: int,
    count: Array,
    how: Recipe,
    optimizer: optax.GradientTransformation,
) -> tuple:
    """`count` steps from step `first` on."""

    def loss(weights: Any, rows: Array, noise: Array) -> Array:
        smoothed = _with_weights(start, weights)

        def of_event(x: Array, label: Array, noise: Array) -> Array:
            frozen = jax.lax.stop_gradient(smoothed)
            moved = jax.lax.cond(
                how.radius > 0,
                lambda: climb(frozen, x, label, noise, how.radius, how.attack_steps),
                lambda: x,
            )
            return soft_loss(smoothed, jax.lax.stop_gradient(moved), label, noise)

        return jnp.mean(jax.vmap(of_event)(x[rows], labels[rows], noise))

    def step(i: Array, state: tuple) -> tuple:
        weights, moments = state
        key_rows, key_noise = jax.random.split(jax.random.fold_in(rng_key, first + i))
        rows = jax.random.randint(key_rows, (how.batch_size,), 0, len(x))
        noise = standard_normal(key_noise, (how.batch_size, how.num_copies, *x.shape[1:]), x.dtype)
        gradient = jax.grad(loss)(weights, rows, noise)
        updates, moments = optimizer.update(gradient, moments, weights)
        return optax.apply_updates(weights, updates), moments

    return jax.lax.fori_loop(0, count, step, state)


def _with_weights(smoothed: SmoothedClassifier, weights: Any) -> SmoothedClassifier:
    classifier: Any = smoothed.classifier
    return dataclasses.replace(  # pyright: ignore[reportCallIssue]
        smoothed, classifier=dataclasses.replace(classifier, weights=weights)
    )


def _labels(labels: ArrayLike, count: int, classes: int) -> Array:
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise EventShapeError(
            f"labels must be {count} whole numbers, one for each event; got {labels.dtype} of "
            f"shape {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InvalidArgumentError(
            f"labels must lie in 0 .. {classes - 1}; got {labels.min()} to {labels.max()}. Pass "
            "classes= to the network."
        )
    return jnp.asarray(labels, jnp.int32)
