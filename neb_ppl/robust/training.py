"""Training a classifier on what the jump leaves of noisy events."""

import dataclasses
import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neb_ppl._checks import check_counts, check_key, check_positive
from neb_ppl._noise import standard_normal
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.modules import initial_weights
from neb_ppl.energies.scale import fit_data_scale
from neb_ppl.errors import NebPPLWarning, TrainingDivergedError
from neb_ppl.progress import chunks, interruptible, progress
from neb_ppl.robust.attack import climb, soft_loss
from neb_ppl.robust.checks import (
    check_energy,
    check_events,
    check_labels,
    check_network,
    check_radii,
)
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
        Whole numbers from 0 on.
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

    Raises
    ------
    InvalidArgumentError, EventShapeError, NonFiniteDataError, NotAnEnergyError
    TrainingDivergedError
        A loss that is not finite: says the step and the learning rate.

    Warns
    -----
    NebPPLWarning
        Ctrl-C: training ends after a quarter of a second, and what was learned is returned.
    DataRangeWarning
        x far outside the range that the energy was trained on.

    Notes
    -----
    Where the energy was fitted to the same x, jumps from noisy copies of x may be cleaner than
    those of other events, and the classifier knows the cleaner ones alone. Certificates hold all
    the same; how many there are is to be judged on other events.

    References
    ----------
    Cohen, Rosenfeld and Kolter (2019); Salman et al. (2019) for the attack.
    """
    check_key(rng_key)
    check_counts(
        attack_steps=attack_steps, num_copies=num_copies, num_steps=num_steps,
        batch_size=batch_size,
    )  # fmt: skip
    check_positive(learning_rate=learning_rate)
    check_radii("radius", radius, ())
    check_network(network)
    check_energy(energy, sigma)
    x = jnp.asarray(check_events(x, energy))
    labels = jnp.asarray(check_labels(labels, len(x), network.classes), jnp.int32)
    key_weights, key_steps = jax.random.split(rng_key)
    weights = initial_weights(key_weights, network, x.shape[1:])
    scale = fit_data_scale(np.asarray(x))
    start = smoothed_classifier(
        NeuralClassifier(weights, scale, network, x.shape[1:]), energy, sigma=sigma
    )
    how = Recipe(
        jnp.asarray(radius, x.dtype), attack_steps, num_copies, min(batch_size, len(x)),
        float(learning_rate), num_steps,
    )  # fmt: skip
    return _descend(key_steps, start, x, labels, how, progress_bar)


@value
class Recipe:
    """What a training step does besides the data."""

    radius: Array
    attack_steps: int = static()
    num_copies: int = static()
    batch_size: int = static()
    learning_rate: float = static()
    num_steps: int = static()

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, its rate falling to 0 along a cosine."""
        return optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.num_steps))


def _descend(
    rng_key: PRNGKey,
    start: SmoothedClassifier,
    x: Array,
    labels: Array,
    how: Recipe,
    progress_bar: bool,
) -> SmoothedClassifier:
    """All steps, or those until Ctrl-C."""
    weights = start.classifier.weights  # pyright: ignore[reportFunctionMemberAccess]
    state, done = (weights, how.optimizer().init(weights)), 0
    with (
        progress(how.num_steps, "training", show=progress_bar, unit="step") as bar,
        interruptible() as interrupt,
    ):
        for first, count in chunks(how.num_steps, limit=STEPS_PER_CHUNK):
            state, losses = _train(start, state, x, labels, rng_key, first, jnp.asarray(count), how)
            losses = np.asarray(losses)[:count]
            _check_loss(losses, first, how.learning_rate)
            bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
            bar.update(count)
            done = first + count
            if interrupt.requested:
                break
    if done < how.num_steps:
        warnings.warn(
            f"training was interrupted after {done} of {how.num_steps} steps; the classifier is "
            "what was learned until then.",
            NebPPLWarning,
            stacklevel=3,
        )
    return _with_weights(start, state[0])


@partial(jax.jit, donate_argnames="state")
def _train(
    start: SmoothedClassifier,
    state: tuple,
    x: Array,
    labels: Array,
    rng_key: PRNGKey,
    first: int,
    count: Array,
    how: Recipe,
) -> tuple[tuple, Array]:
    """`count` steps from step `first` on; and the loss before each."""
    optimizer = how.optimizer()

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

    def step(i: Array, carry: tuple) -> tuple:
        (weights, moments), losses = carry
        key_rows, key_noise = jax.random.split(jax.random.fold_in(rng_key, first + i))
        rows = jax.random.randint(key_rows, (how.batch_size,), 0, len(x))
        noise = standard_normal(key_noise, (how.batch_size, how.num_copies, *x.shape[1:]), x.dtype)
        total, gradient = jax.value_and_grad(loss)(weights, rows, noise)
        updates, moments = optimizer.update(gradient, moments, weights)
        return (optax.apply_updates(weights, updates), moments), losses.at[i].set(total)

    return jax.lax.fori_loop(0, count, step, (state, jnp.zeros(STEPS_PER_CHUNK, x.dtype)))


def _with_weights(smoothed: SmoothedClassifier, weights: Any) -> SmoothedClassifier:
    classifier: Any = smoothed.classifier
    return dataclasses.replace(  # pyright: ignore[reportCallIssue]
        smoothed, classifier=dataclasses.replace(classifier, weights=weights)
    )


def _check_loss(losses: np.ndarray, first: int, learning_rate: float) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise TrainingDivergedError(
            f"the loss is {losses[bad[0]]} at step {first + bad[0]} with learning_rate="
            f"{learning_rate:g}; try learning_rate={learning_rate / 3:.2g}."
        )
