"""Walk, then jump: one saved draw at a time, as a BlackJAX algorithm."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore
from neb_ppl.estimators import Jump, bayes_estimator, clean_draw, mean_jump, stochastic_jump
from neb_ppl.types import Array, PRNGKey, PyTree
from neb_ppl.walks.base import Walk, WalkTarget

__all__ = ["WalkJumpInfo", "matched_jump", "walk_jump"]


class WalkJumpInfo(NamedTuple):
    """What one saved draw tells.

    Attributes
    ----------
    x : array, shape ``(*event,)``, or None
        The jump from the new position; never fed back into the walk.
    stats : dict of scalar arrays
        ``lp`` (minus the energy at the position), then the kernel's statistics over the steps:
        ``acceptance_rate`` (mean), ``diverging`` (any), ``nonfinite`` (count), and
        ``num_clamped`` for a stochastic jump.
    """

    x: PyTree
    stats: dict[str, Array]


def walk_jump(
    model: WalkTarget,
    walk: Walk,
    *,
    steps_per_jump: int | Array = 1,
    jump: Jump | None = None,
) -> SamplingAlgorithm:
    """The algorithm ``init(y, rng_key)``, ``step(rng_key, state) -> (state, WalkJumpInfo)``.

    Parameters
    ----------
    model : SmoothedScore or potential
        What to walk on; it also gives the jump that belongs to it.
    walk : Walk
    steps_per_jump : int
        Walk steps between saved draws. May be traced: another number compiles nothing.
    jump : Jump, optional
        Default: the model's own (`matched_jump`).

    Notes
    -----
    Cost of a step: `steps_per_jump` walk steps. A mean jump is free where the kernel holds the
    gradient at its position (all but ABOBA and `Preconditioned`), one gradient elsewhere.
    """
    algorithm = walk(model)
    jump = matched_jump(model) if jump is None else jump

    def step(rng_key: PRNGKey, state: Any) -> tuple[Any, WalkJumpInfo]:
        key_walk, key_jump = jax.random.split(rng_key)

        def one(i: Array, carry: tuple) -> tuple:
            state, totals = carry
            state, info = algorithm.step(jax.random.fold_in(key_walk, i), state)
            return state, jax.tree.map(jnp.add, totals, _as_floats(walk.stats(info)))

        shapes = jax.eval_shape(lambda: _as_floats(walk.stats(algorithm.step(key_walk, state)[1])))
        totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        state, totals = jax.lax.fori_loop(0, steps_per_jump, one, (state, totals))
        stats = _summarise(totals, steps_per_jump)
        stats["lp"], score = _known(model, state)
        x, extra = _jump(jump, key_jump, model, state.position, score)
        return state, WalkJumpInfo(x, stats | extra)

    return SamplingAlgorithm(algorithm.init, step)


def matched_jump(model: WalkTarget) -> Jump | None:
    """The jump that belongs to `model`: its own ``jump``, or else the Bayes estimator."""
    return getattr(model, "jump", mean_jump if isinstance(model, SmoothedScore) else None)


def _as_floats(stats: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.asarray(stat, jnp.result_type(float)) for name, stat in stats.items()}


def _summarise(totals: dict[str, Array], num_steps: int | Array) -> dict[str, Array]:
    """Means of rates, any of divergences, counts of the rest."""
    stats = dict(totals)
    if "acceptance_rate" in stats:
        stats["acceptance_rate"] = stats["acceptance_rate"] / num_steps
    stats["diverging"] = stats["diverging"] > 0
    if "nonfinite" in stats:
        stats["nonfinite"] = stats["nonfinite"].astype(jnp.int32)
    return stats


def _known(model: WalkTarget, state: Any) -> tuple[Array, PyTree]:
    """Log density and score at the state's position, from the kernel where it keeps them.

    The score is None where it is neither kept nor free: a jump that wants it evaluates it.
    """
    if getattr(state, "logdensity", None) is not None:
        return state.logdensity, getattr(state, "logdensity_grad", None)
    if isinstance(model, SmoothedScore) and not isinstance(model, SmoothedEnergy):
        return jnp.full((), jnp.nan, state.position.dtype), model.score(state.position)
    phi, gradient = jax.value_and_grad(model)(state.position)  # pyright: ignore[reportArgumentType]
    return -phi, jax.tree.map(jnp.negative, gradient)


def _jump(
    jump: Jump | None, rng_key: PRNGKey, model: Any, y: PyTree, score: PyTree
) -> tuple[PyTree, dict[str, Array]]:
    if jump is None:
        return None, {}
    if jump is mean_jump:
        return bayes_estimator(model, y, score=score), {}
    if jump is stochastic_jump and isinstance(model, SmoothedEnergy):
        drawn = clean_draw(rng_key, model, y, score=score)
        return drawn.x, {"num_clamped": drawn.num_clamped.astype(jnp.int32)}
    return jump(rng_key, model, y), {}
