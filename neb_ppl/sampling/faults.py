"""What can go wrong in a walk, and what is said then. Counted and reported, never repaired."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore
from neb_ppl.energies.neural import check_one_level
from neb_ppl.energies.scale import warn_of_units
from neb_ppl.errors import EventShapeError, InvalidArgumentError, StartError, WalkError, WalkWarning
from neb_ppl.types import PyTree
from neb_ppl.walks.base import Walk, value_and_score
from neb_ppl.walks.preconditioned import Preconditioned

__all__ = [
    "check_acceptance",
    "check_draws",
    "check_jump",
    "check_model",
    "check_same_model",
    "check_scale",
    "check_start",
    "check_walk",
    "check_warmup",
]

MIN_ACCEPTANCE = 1e-3
MIN_STEPS = 100
WARN_NONFINITE = 1e-3
STOP_NONFINITE = 0.1


def check_start(model: Any, position: PyTree) -> PyTree:
    """Start positions as float arrays with a chain axis, finite in value, energy and score."""
    dtype = jnp.result_type(float)
    if isinstance(position, list):
        position = np.asarray(position)
    position = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), position)
    leaves = jax.tree.leaves(position)
    shape = getattr(model, "event_shape", None)
    seen = jnp.shape(leaves[0])
    if shape is not None and (len(seen) != len(shape) + 1 or seen[1:] != shape):
        raise EventShapeError(
            f"initial has shape {seen}; expected (num_chains, *event) with event shape {shape}. "
            + ("Add a chain axis: initial[None]." if seen == shape else "")
        )
    if not seen or seen[0] == 0:
        raise InvalidArgumentError(f"initial must hold at least one chain; got shape {seen}.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(position):
        name = "initial" + jax.tree_util.keystr(path)
        _refuse(name, "position", jnp.isfinite(leaf).reshape(seen[0], -1).all(axis=1))
    if isinstance(model, SmoothedScore):
        warn_of_units(model, leaves[0], name="initial")
    value, score = _evaluate(model, position)
    if isinstance(model, SmoothedEnergy) or not isinstance(model, SmoothedScore):
        _refuse("initial", "energy", jnp.isfinite(value))
    for path, leaf in jax.tree_util.tree_leaves_with_path(score):
        name = "initial" + jax.tree_util.keystr(path)
        _refuse(name, "score", jnp.isfinite(leaf).reshape(seen[0], -1).all(axis=1))
    return position


def check_model(model: Any) -> None:
    """Something to walk on: not a walk, and not many noise levels at once."""
    check_one_level(model, "walk on", name="model")
    if isinstance(model, Walk) or not (callable(model) or isinstance(model, SmoothedScore)):
        raise InvalidArgumentError(
            "model must be an energy, a score, or a function position -> potential; got "
            f"{type(model).__name__}. The order is sample(rng_key, model, walk, initial)."
        )


def check_walk(walk: Any) -> None:
    """An instance of a walk."""
    if not isinstance(walk, Walk):
        name = walk.__name__ if isinstance(walk, type) else "MALA"
        raise InvalidArgumentError(f"walk must be a walk such as neb_ppl.{name}(); got {walk!r}.")


def check_warmup(num_warmup: Any) -> None:
    """None, for the default, or a number of steps from 0 on."""
    whole = isinstance(num_warmup, int | np.integer) and not isinstance(num_warmup, bool)
    if num_warmup is not None and not (whole and num_warmup >= 0):
        raise InvalidArgumentError(f"num_warmup must be at least 0; got {num_warmup!r}.")


def check_scale(adapt_scale: Any, walk: Walk) -> None:
    """Nothing, or one of the kinds, and not on top of a scale that was given."""
    if adapt_scale is not None and isinstance(walk, Preconditioned):
        raise InvalidArgumentError(
            "walk has a scale already: pass adapt_scale=None to keep it, or the walk without it."
        )
    if adapt_scale not in (None, "auto", "diagonal", "dense"):
        raise InvalidArgumentError(
            f'adapt_scale must be None, "auto", "diagonal" or "dense"; got {adapt_scale!r}.'
        )


def check_jump(jump: Any) -> None:
    """A function."""
    if not callable(jump):
        raise InvalidArgumentError(
            f"jump must be a function such as neb_ppl.stochastic_jump; got {jump!r}."
        )


def check_same_model(model: Any, kernel: Any) -> None:
    """Refuse a state whose remembered energies or scores are another model's."""
    known = getattr(kernel, "logdensity_grad", None)
    what = "scores"
    if known is None:
        known, what = getattr(kernel, "logdensity", None), "energies"
    if known is None:
        return
    energy, score = _evaluate(model, kernel.position)
    seen = score if what == "scores" else energy
    for old, new in zip(jax.tree.leaves(known), jax.tree.leaves(seen), strict=True):
        scale = float(jnp.abs(new).max())
        if not np.allclose(old, new, rtol=1e-2, atol=1e-3 * scale, equal_nan=True):
            raise InvalidArgumentError(
                f"the state was made on another model: its {what} are not this one's. Pass "
                "initial=state.position to walk on from there."
            )


@jax.jit
def _evaluate(model: Any, position: PyTree) -> tuple[Any, PyTree]:
    return jax.vmap(value_and_score(model))(position)


def _refuse(name: str, what: str, good: jax.Array) -> None:
    bad = np.flatnonzero(~np.asarray(good))
    if len(bad):
        chains = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise StartError(
            f"the {what} at {name} is not finite in {len(bad)} of {len(np.asarray(good))} chains "
            f"({chains}). Start elsewhere, for example at neb_ppl.start_at_data(...)."
        )


def check_acceptance(walk: Walk, sigma: float | None, acceptance: float, num_steps: int) -> None:
    """Stop a walk that hardly ever moves: its draws would look perfectly settled."""
    if num_steps >= MIN_STEPS and acceptance < MIN_ACCEPTANCE:
        raise WalkError(
            f"{walk.name} accepted {acceptance:.2%} of its proposals over {num_steps} "
            f"steps with step_size={float(walk.step_size):.3g} (sigma={sigma}). Leave step_size "
            f"out to adapt it, or try {float(walk.step_size) / 10:.2g}."
        )


def check_draws(model: Any, walk: Walk, info: dict[str, np.ndarray], steps_per_jump: int) -> None:
    """Raise when no chain is left or too many energies were not finite; warn of fewer.

    A model's density may overflow far out, where proposals are rejected as they should be: there
    it is a warning.
    """
    if not info["diverging"].size:
        return
    if "acceptance_rate" not in info and info["diverging"][:, -1].all():
        raise WalkError(
            f"all {len(info['diverging'])} chains of {walk.name} left the finite numbers "
            f"with step_size={float(walk.step_size):.3g}. Use a smaller step, or MALA."
        )
    nonfinite = info.get("nonfinite")
    if nonfinite is None:
        return
    share = nonfinite.sum() / (nonfinite.size * steps_per_jump)
    said = (
        f"{int(nonfinite.sum())} of {nonfinite.size * steps_per_jump} proposals ({share:.2%}) had "
        "an energy that is not finite"
    )
    broken = share > STOP_NONFINITE and nonfinite.size * steps_per_jump >= MIN_STEPS
    if broken and isinstance(model, SmoothedScore):
        raise WalkError(f"{said}. The energy is broken where the walk goes: check it there.")
    if share > (WARN_NONFINITE if isinstance(model, SmoothedScore) else STOP_NONFINITE):
        warnings.warn(f"{said}; they were rejected and counted.", WalkWarning, stacklevel=3)
