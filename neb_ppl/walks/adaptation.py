"""Warm-up: step sizes tuned to a target acceptance, scales learned from where the chains go.

Everything is pooled over the chains that it is given: all of them in `neb_ppl.sample`, one in
NumPyro's MCMC, which maps over chains itself.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.adaptation.window_adaptation import build_schedule
from jax.flatten_util import ravel_pytree

from neb_ppl._pytree import value
from neb_ppl.types import Array, Int
from neb_ppl.walks.base import Walk
from neb_ppl.walks.preconditioned import Preconditioned

__all__ = ["Adaptation", "adapt", "finish", "start_adaptation"]

MAX_WINDOWS = 16
PRIOR_DRAWS, PRIOR_VARIANCE = 5.0, 1e-3
ACCEPTED_ANYWAY = 0.5
MEMORY, STANDS_STILL = 0.95, 0.05


class Moments(NamedTuple):
    """Running mean and centred second moments of y, one number or row a dimension."""

    count: Array
    mean: Array
    squares: Array


@value
class Adaptation:
    """What warm-up has learned so far.

    Attributes
    ----------
    walk : Walk
        With the tuning values to use now.
    step : pytree, or None
        Dual averaging, where the step size is adapted.
    recent : array, shape ``(chains,)``
        Acceptance of each chain over its last twenty steps or so.
    moments : Moments, or None
        Where the scale is.
    slow : array
        First step whose draws count.
    ends : array
        Steps at which a window ends, -1 where there are fewer than the array holds.
    """

    walk: Walk
    step: Any
    recent: Array
    moments: Moments | None
    slow: Int[Array, ""]
    ends: Int[Array, " w"]


def start_adaptation(
    walk: Walk, num_chains: int, num_warmup: int, *, step_size: bool, scale: bool
) -> Adaptation:
    """Before the first step of warm-up.

    Stan's schedule (a fast start, windows that double, a fast end) for the scale; the step size
    follows throughout, by dual averaging, and begins anew at the end of every window.

    Parameters
    ----------
    walk : Walk
        Resolved; wrapped in `Preconditioned` where `scale` is asked for.
    num_chains : int
    num_warmup : int
    step_size : bool
        Whether the step size is adapted to the walk's target acceptance.
    scale : bool
        Whether that of a `Preconditioned` walk is learned: a vector stays one, a matrix too.

    References
    ----------
    Hoffman and Gelman (2014), section 3.2; Stan reference manual, "HMC algorithm parameters".
    """
    slow, ends = _windows(num_warmup if scale else 0)
    moments = None
    if isinstance(walk, Preconditioned) and scale:
        zeros = jnp.zeros_like(walk.scale)
        moments = Moments(zeros.ravel()[0], zeros.reshape(len(zeros), -1)[:, 0], zeros)
    step = _dual_averaging(walk)[0](walk.step_size) if step_size else None
    return Adaptation(
        walk,
        jax.tree.map(_strongly_typed, step),
        jnp.ones(num_chains, jnp.result_type(float)),
        moments,
        jnp.asarray(slow, jnp.int32),
        jnp.asarray(ends, jnp.int32),
    )


def adapt(
    adaptation: Adaptation, i: Array, states: Any, acceptance: Array | None
) -> tuple[Adaptation, Any]:
    """After step i of warm-up: the tuning to use next, and the chains' states for it.

    Parameters
    ----------
    adaptation : Adaptation
    i : int
    states : pytree
        Kernel states, chains along the leading axis.
    acceptance : array, shape ``(chains,)``, or None
        Acceptance of the step. NaN counts as a rejection.
    """
    walk, step, moments = adaptation.walk, adaptation.step, adaptation.moments
    if step is not None:
        assert acceptance is not None
        rates = jnp.where(jnp.isnan(acceptance), 0.0, acceptance)
        recent = MEMORY * adaptation.recent + (1 - MEMORY) * rates
        # A mean would let one chain stand still for ever beside others that move.
        rate = jnp.where(jnp.min(recent) < STANDS_STILL, 0.0, jnp.mean(rates))
        _, update, _ = _dual_averaging(walk)
        step = update(step, rate)
        walk = walk.with_step_size(jnp.exp(step.log_step_size))
        adaptation = dataclasses.replace(adaptation, walk=walk, step=step, recent=recent)
    if moments is None:
        return adaptation, states
    y = jax.vmap(lambda position: ravel_pytree(position)[0])(states.position)
    counts = (i >= adaptation.slow) & (i <= jnp.max(adaptation.ends))
    grown = jax.tree.map(lambda new, old: jnp.where(counts, new, old), _grow(moments, y), moments)
    adaptation = dataclasses.replace(adaptation, moments=grown)
    return jax.lax.cond(
        jnp.any(i == adaptation.ends), _end_window, lambda *same: same, adaptation, states
    )


def finish(adaptation: Adaptation) -> Walk:
    """The walk with its averaged step size."""
    if adaptation.step is None:
        return adaptation.walk
    _, _, final = _dual_averaging(adaptation.walk)
    return adaptation.walk.with_step_size(final(adaptation.step))


def _end_window(adaptation: Adaptation, states: Any) -> tuple[Adaptation, Any]:
    """The scale of the window's draws; the step size begins anew at that scale's default."""
    walk, moments, step = adaptation.walk, adaptation.moments, adaptation.step
    assert isinstance(walk, Preconditioned) and moments is not None
    scale = _scale(moments).astype(walk.scale.dtype)
    states = jax.vmap(walk.rebase, (0, None))(states, scale)
    walk = dataclasses.replace(walk, scale=scale)
    if step is not None:
        begin = walk.defaults(jnp.ones((), scale.dtype), scale.shape[0])["step_size"]
        step = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype), _dual_averaging(walk)[0](begin), step
        )
        walk = walk.with_step_size(jnp.asarray(begin, walk.step_size.dtype))
    adaptation = dataclasses.replace(
        adaptation,
        walk=walk,
        step=step,
        recent=jnp.ones_like(adaptation.recent),
        moments=jax.tree.map(jnp.zeros_like, moments),
    )
    return adaptation, states


def _grow(moments: Moments, y: Array) -> Moments:
    """Chan, Golub and LeVeque's update with a batch of draws."""
    count, mean, squares = moments
    total, here = count + len(y), jnp.mean(y, axis=0)
    gap, centred = here - mean, y - here
    weight = count * len(y) / total
    if squares.ndim == 1:
        squares = squares + jnp.sum(centred**2, axis=0) + weight * gap**2
    else:
        squares = squares + centred.T @ centred + weight * jnp.outer(gap, gap)
    return Moments(total, mean + gap * len(y) / total, squares)


def _scale(moments: Moments) -> Array:
    """Stan's regularised estimate: a little of 1e-3 is mixed in, less with every draw."""
    covariance = moments.squares / jnp.maximum(moments.count - 1, 1)
    share = moments.count / (moments.count + PRIOR_DRAWS)
    if covariance.ndim == 1:
        return jnp.sqrt(share * covariance + (1 - share) * PRIOR_VARIANCE)
    identity = jnp.eye(len(covariance), dtype=covariance.dtype)
    covariance = share * covariance + (1 - share) * PRIOR_VARIANCE * identity
    # Correlations beyond what the floats resolve would make the factor NaN, or too small.
    deviations = jnp.sqrt(jnp.diag(covariance))
    correlation = covariance / jnp.outer(deviations, deviations)
    floor = 100 * jnp.finfo(covariance.dtype).eps
    factor = deviations[:, None] * jnp.linalg.cholesky(correlation + floor * identity)
    return jnp.where(jnp.isfinite(factor).all(), factor, jnp.diag(deviations))


def _windows(num_warmup: int) -> tuple[int, np.ndarray]:
    """First slow step, and the last step of each window."""
    ends = np.full(MAX_WINDOWS, -1)
    if not num_warmup:
        return 0, ends
    with jax.ensure_compile_time_eval():  # BlackJAX's schedule is a JAX array, also under jit
        stages = np.asarray(build_schedule(num_warmup))
    slow = np.flatnonzero(stages[:, 0] == 1)
    last = np.flatnonzero(stages[:, 1])
    ends[: len(last)] = last
    return int(slow[0]) if len(slow) else num_warmup, ends


def _dual_averaging(walk: Walk) -> tuple:
    return dual_averaging_adaptation(walk.target_acceptance or ACCEPTED_ANYWAY)


def _strongly_typed(leaf: Any) -> Array:
    """A weak type would become strong in the loop and compile it anew."""
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, jnp.dtype(leaf.dtype))
