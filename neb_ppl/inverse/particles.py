"""Particles on the way to a posterior: where they begin, are carried and weighed, and moved."""

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.smc.ess import ess
from blackjax.smc.resampling import systematic

from neb_ppl.errors import ApproximationWarning
from neb_ppl.estimators import bayes_estimator
from neb_ppl.inverse.bridge import Bridge, has_levels
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar
from neb_ppl.walks import HMC
from neb_ppl.walks.starts import start_at_noise, walk_from

__all__ = ["Particles", "at_the_top", "effective", "move", "resample", "standard_error"]

LEAPFROGS = 8
TARGET_ACCEPTANCE = 0.8
FIRST_STEP = 0.3
PRIOR_STEPS = 200
MEMORY_WALKS = 256
FEWEST_FAMILIES = 4
LONGEST_FLOW = 0.15  # one Heun step, in log sigma


class Particles(NamedTuple):
    """Where the particles are, and what the way cost so far.

    They are `sound` while they began as draws of the prior and no place was impossible. `ancestor`
    is each one's place among the first; `surplus`, of each of these, what its family won or lost by
    weights, in particles.
    """

    y: Array
    ancestor: Array
    surplus: Array
    log_evidence: Scalar
    step: Scalar
    sound: Array


def at_the_top(rng_key: PRNGKey, way: Bridge, count: int, *, walks: int = 0) -> Particles:
    """Draws of the prior at the highest level: exact, or ends of `walks`, or more, from noise.

    Fewer walks than `MEMORY_WALKS` do not tell whether modes stand apart, and their ends are not
    sound.
    """
    prior, shape, sound = way.prior(), way.posterior.event_shape, True
    if prior.is_exact:
        y = prior.sample(rng_key, (count,))  # pyright: ignore[reportAttributeAccessIssue]
    else:
        key_start, key_walk = jax.random.split(rng_key)
        known = has_levels(way.family) and getattr(prior, "scale", None) is not None
        walks = max(count, walks if known else 0)
        start = start_at_noise(key_start, prior, walks, event_shape=shape)
        y = walk_from(key_walk, prior, start, PRIOR_STEPS)
        told = known and walks >= MEMORY_WALKS
        sound = told and not _is_remembered(start, y, float(way.sigma))
        y = y[:count]
    none, step = jnp.zeros(count, y.dtype), jnp.asarray(FIRST_STEP, y.dtype)
    return Particles(y, jnp.arange(count), none, none[0], step, jnp.asarray(sound))


def _is_remembered(start: Array, y: Array, sigma: float) -> bool:
    """Whether ends of walks depend on their starts, as they do where modes stand apart.

    By correlations along the eight widest directions of the ends: of independent ones the largest
    is beyond 4.5 / sqrt(n) once in 20,000 times; another .1 is let pass.
    """
    before, after = (np.asarray(z, np.float64).reshape(len(z), -1) for z in (start, y))
    finite = np.isfinite(after).all(1)
    if finite.sum() < 2:
        return False
    before, after = (z[finite] - z[finite].mean(0) for z in (before, after))
    directions = np.linalg.svd(after, full_matrices=False)[2][:8].T
    before, after = before @ directions, after @ directions
    scale = np.sqrt((before**2).sum(0) * (after**2).sum(0))
    found = np.abs((before * after).sum(0) / np.where(scale > 0, scale, 1.0)).max()
    if found > 0.1 + 4.5 / np.sqrt(len(after)):
        warnings.warn(
            f"walks on the prior at its highest noise level, {sigma:.4g}, remember where they "
            f"started (correlation {found:.2f}): its modes stand apart there, and their weights "
            "are arbitrary. Train with a sigma_range that reaches the spread of the data.",
            ApproximationWarning,
            stacklevel=5,
        )
        return True
    return False


def carried(before: Bridge, y: Array) -> Callable[[Bridge, bool], tuple[Array, Array]]:
    """To a later position, in one simple step or in steps of Heun's rule: particles, log weights.

    Particles follow the prior's flow, and stay where they are while its noise does; their weights
    are ratios of the likelihoods.
    """
    old = jax.vmap(before.likelihood_energy)(y)
    start = jax.vmap(partial(bayes_estimator, before.prior()))(y)

    def to(after: Bridge, simple: bool) -> tuple[Array, Array]:
        if simple:
            moved = start + after.sigma / before.sigma * (y - start)
        else:
            moved = jax.vmap(partial(_flow, before, after))(y)
        log_weights = old - jax.vmap(after.likelihood_energy)(moved)
        return moved, jnp.where(jnp.isfinite(log_weights), log_weights, -jnp.inf)

    return to


def _flow(before: Bridge, after: Bridge, y: Event) -> Event:
    r"""Along :math:`dy / d\log\sigma = y - \hat x`, exact where the estimate is constant.

    Heun's rule: with the mean of the estimates at both ends of a step.
    """
    fall = jnp.log(after.sigma / before.sigma)
    steps = jnp.maximum(jnp.ceil(-fall / LONGEST_FLOW - 1e-3).astype(int), fall < 0)
    ratio = jnp.exp(fall / jnp.maximum(steps, 1))

    def step(i: Array, y: Event) -> Event:
        here, there = (before.at_level(before.sigma * ratio**j) for j in (i, i + 1))
        start = bayes_estimator(here, y)
        end = bayes_estimator(there, start + ratio * (y - start))
        middle = (start + end) / 2
        return middle + ratio * (y - middle)

    return jax.lax.fori_loop(0, steps, step, y)


@jax.jit
def effective(before: Bridge, y: Array, ends: Float[Array, " c"]) -> Float[Array, " c"]:
    """Effective particles at each candidate, where the flow is taken there in one simple step."""
    to = carried(before, y)

    def at(u: Scalar) -> Scalar:
        return ess(to(dataclasses.replace(before, u=u), True)[1])  # pyright: ignore

    return jax.lax.map(at, ends.astype(y.dtype))


@jax.jit
def resample(
    before: Bridge, after: Bridge, particles: Particles, rng_key: PRNGKey
) -> tuple[Particles, Scalar]:
    """Particles at the next position, all of one weight, and how many were effective."""
    y, log_weights = carried(before, particles.y)(after, False)
    count, weights = len(log_weights), jax.nn.softmax(log_weights)
    index = systematic(rng_key, weights, count)
    gain = jax.nn.logsumexp(log_weights) - jnp.log(count)
    found = particles._replace(
        y=y[index],
        ancestor=particles.ancestor[index],
        surplus=particles.surplus.at[particles.ancestor].add(count * weights - 1),
        log_evidence=particles.log_evidence + gain,
        sound=particles.sound & jnp.isfinite(log_weights).all(),
    )
    return found, ess(log_weights)  # pyright: ignore[reportReturnType]


@partial(jax.jit, static_argnames="num_moves")
def move(
    way: Bridge, particles: Particles, rng_key: PRNGKey, num_moves: int
) -> tuple[Particles, Scalar]:
    """HMC steps, their length in units of sigma following the acceptance."""

    def one(i: Array, carry: tuple) -> tuple:
        y, step, total = carry
        hmc = HMC(num_integration_steps=LEAPFROGS).with_step_size(step * way.sigma)
        algorithm = hmc.algorithm(way)
        keys = jax.random.split(jax.random.fold_in(rng_key, i), len(y))
        states = jax.vmap(algorithm.init)(y, keys)
        states, info = jax.vmap(algorithm.step)(keys, states)
        rate = jnp.mean(jnp.nan_to_num(info.acceptance_rate))  # pyright: ignore
        step = step * jnp.exp(rate - TARGET_ACCEPTANCE)
        return states.position, step, total + rate  # pyright: ignore

    carry = (particles.y, particles.step, jnp.zeros((), particles.y.dtype))
    y, step, total = jax.lax.fori_loop(0, num_moves, one, carry)
    return particles._replace(y=y, step=step), total / num_moves


def standard_error(particles: Particles) -> float:
    r"""Of the log evidence: :math:`\sqrt{\sum_a s_a^2} / n`, of families with surplus :math:`s_a`.

    A family of :math:`n_a` particles is :math:`n \sum_{i \in a} w_i` by its weights; the surplus is
    the difference, over all levels. What resampling adds to a family, to make a whole number of it,
    is not counted: the evidence does not have that noise, which is all there is where weights are
    near one. Of few families it says nothing: infinite where :math:`n^2 / \sum_a n_a^2`, their
    number were they of one size, is below four, so that finite ones stay below about one half.
    Source, with whole families: Chan and Lai (2013), Lee and Whiteley (2018).
    """
    surplus = np.asarray(particles.surplus, np.float64)
    families = np.bincount(np.asarray(particles.ancestor), minlength=len(surplus))
    if len(surplus) ** 2 < FEWEST_FAMILIES * (families.astype(float) ** 2).sum():
        return np.inf
    return float(np.linalg.norm(surplus) / len(surplus))
