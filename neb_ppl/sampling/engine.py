"""The compiled chunks of a walk: chains by vmap, draws by a loop whose length is an argument.

The number of draws in a chunk, the steps between draws, weights and step sizes are all traced:
one compilation serves every chunk of every run with the same shapes.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neb_ppl.estimators import Jump
from neb_ppl.sampling.walk_jump import walk_jump
from neb_ppl.types import Array, PRNGKey, PyTree
from neb_ppl.walks.adaptation import Adaptation, adapt
from neb_ppl.walks.base import Walk

__all__ = ["Draws", "buffer_size", "draw_chunk", "initialise", "warm_up"]

BUFFER_BYTES = 1 << 25
BUFFER_DRAWS = 256


class Draws(NamedTuple):
    """Saved quantities, draws along the first axis, chains along the second."""

    y: PyTree
    x: PyTree
    stats: dict[str, Any]


@jax.jit
def initialise(model: Any, walk: Walk, position: PyTree, rng_key: PRNGKey) -> Any:
    """Kernel states of all chains."""
    keys = chain_keys(rng_key, jax.tree.leaves(position)[0].shape[0])
    return jax.vmap(walk(model).init)(position, keys)


@partial(jax.jit, static_argnames=("jump", "buffer"))
def draw_chunk(
    model: Any,
    walk: Walk,
    states: Any,
    rng_key: PRNGKey,
    first: Array,
    num_draws: Array,
    steps_per_jump: Array,
    *,
    jump: Jump | None,
    buffer: int,
) -> tuple[Any, Draws]:
    """Advance every chain by `num_draws` draws, numbered from `first`; later rows stay zero."""
    algorithm = walk_jump(model, walk, steps_per_jump=steps_per_jump, jump=jump)
    keys = chain_keys(rng_key, jax.tree.leaves(states)[0].shape[0])

    def draw(index: Array, states: Any) -> tuple[Any, Draws]:
        draw_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        states, info = jax.vmap(algorithm.step)(draw_keys, states)
        return states, Draws(states.position, info.x, info.stats)  # pyright: ignore

    def body(i: Array, carry: tuple) -> tuple:
        states, kept = carry
        states, new = draw(first + i, states)
        return states, jax.tree.map(lambda rows, row: rows.at[i].set(row), kept, new)

    _, shapes = jax.eval_shape(draw, first, states)
    kept = jax.tree.map(lambda leaf: jnp.zeros((buffer, *leaf.shape), leaf.dtype), shapes)
    return jax.lax.fori_loop(0, num_draws, body, (states, kept))


class WarmUp(NamedTuple):
    """Carry of the warm-up: chains, what was learned so far, and the total acceptance."""

    states: Any
    adaptation: Adaptation
    acceptance: Array


@jax.jit
def warm_up(model: Any, carry: WarmUp, rng_key: PRNGKey, first: Array, num_steps: Array) -> WarmUp:
    """`num_steps` walk steps, the tuning following all chains together where it may."""
    keys = chain_keys(rng_key, jax.tree.leaves(carry.states)[0].shape[0])

    def body(i: Array, carry: WarmUp) -> WarmUp:
        walk = carry.adaptation.walk
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, first + i)
        states, info = jax.vmap(walk(model).step)(step_keys, carry.states)
        rates = walk.stats(info).get("acceptance_rate")
        adaptation, states = adapt(carry.adaptation, first + i, states, rates)
        rate = 1.0 if rates is None else jnp.mean(rates)
        return WarmUp(states, adaptation, carry.acceptance + rate)

    return jax.lax.fori_loop(0, num_steps, body, carry)


def chain_keys(rng_key: PRNGKey, num_chains: int) -> PRNGKey:
    """One key a chain, the same however many chains run beside it."""
    return jax.vmap(jax.random.fold_in, (None, 0))(rng_key, jnp.arange(num_chains))


def buffer_size(model: Any, position: PyTree, jump: Jump | None) -> int:
    """Draws a chunk may hold: a power of two that depends on the shapes of y and x alone."""
    x: Any = None
    if jump is not None:
        key = jax.random.key(0)
        x = jax.eval_shape(jax.vmap(lambda y: jump(key, model, y)), position)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((position, x)))
    fits = max(1, BUFFER_BYTES // size)
    return min(BUFFER_DRAWS, 1 << (fits.bit_length() - 1))
