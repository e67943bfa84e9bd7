"""The host's side of a walk: warm up, draw in chunks, show progress, hand back what is needed."""

import dataclasses
import time
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_untraced
from neb_ppl.energies.base import ConditionedEnergy, SmoothedScore
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import Jump
from neb_ppl.progress import chunks, interruptible, progress
from neb_ppl.sampling import engine, faults
from neb_ppl.sampling.result import SampleResult, WalkState
from neb_ppl.sampling.walk_jump import matched_jump
from neb_ppl.types import PRNGKey, PyTree
from neb_ppl.walks.adaptation import Adaptation, finish, start_adaptation
from neb_ppl.walks.base import Walk, WalkTarget
from neb_ppl.walks.blackjax import MALA
from neb_ppl.walks.preconditioned import Preconditioned, Scale, unit_scale

__all__ = ["sample"]

DEFAULT_WARMUP = 500


def sample(
    rng_key: PRNGKey | None,
    model: WalkTarget,
    walk: Walk | None,
    initial: PyTree | WalkState,
    *,
    num_samples: int,
    num_warmup: int | None = None,
    steps_per_jump: int | None = None,
    jump: Jump | None = None,
    adapt_scale: Scale | None = None,
    progress_bar: bool = True,
) -> SampleResult:
    """Walk on a smoothed density with several chains, and jump from every saved draw.

    Parameters
    ----------
    rng_key : key or None
        None only when going on: the state's own key is used.
    model : SmoothedScore, or potential
        An energy, a bare score (unadjusted walks), or any ``position -> scalar`` potential, which
        has no jump.
    walk : Walk or None
        None only when going on. A tuning value you give is kept; a step size you leave out is
        adapted in warm-up where the kernel accepts or rejects, and set from sigma elsewhere.
    initial : array, shape ``(num_chains, *event)``, or WalkState
        Start positions (`start_at_data`, `start_at_noise`, or your own), or ``result.state``. From
        a state with the same key the draws continue one long run bit for bit; with a new key they
        continue the chain with fresh noise.
    num_samples : int
        Saved draws of each chain.
    num_warmup : int, optional
        Walk steps before the first draw. Default 500 where a step size is to be adapted, else 0.
    steps_per_jump : int
        Walk steps between saved draws. Default 1, or the state's.
    jump : Jump, optional
        Default: the state's, or the one that belongs to the model, `mean_jump` for an energy. Means
        are not draws: use `stochastic_jump` where intervals for x are wanted.
    adapt_scale : "diagonal", "dense" or "auto", optional
        Learn standard deviations, or the covariance, of y in warm-up, and walk in coordinates of
        unit scale (`Preconditioned`); step sizes are then in those. "auto" is dense for few
        dimensions. For densities whose scales are unknown, such as posteriors of models: a
        smoothed density has sigma. Before an unadjusted walk it is learned with MALA.
    progress_bar : bool
        Draws are the same with and without.

    Returns
    -------
    SampleResult

    Raises
    ------
    InvalidArgumentError, EventShapeError, StartError, NotAnEnergyError
        Bad counts, a start of the wrong shape or that is not finite, a bare score under MALA.
    WalkError
        Acceptance near 0, every chain diverged, or over 10 % of energies not finite.

    Notes
    -----
    Ctrl-C ends the walk after the current chunk (about a quarter of a second) and returns the draws
    until then with ``is_complete=False``. Cost: ``num_chains * (num_warmup + num_samples *
    steps_per_jump)`` kernel steps; memory: the draws, and one chunk of at most 64 MiB.
    """
    check_untraced("sample", rng_key, model, walk, initial)
    check_counts(num_samples=num_samples)
    if steps_per_jump is not None:
        check_counts(steps_per_jump=steps_per_jump)
    faults.check_model(model)
    model = as_pytree(model)
    started = time.perf_counter()
    if isinstance(initial, WalkState):
        state = _go_on(rng_key, model, walk, initial, num_warmup, adapt_scale)
        num_warmup = 0
    else:
        state, num_warmup = _start(
            rng_key, model, walk, initial, num_warmup, adapt_scale, progress_bar
        )
    if steps_per_jump is not None:
        state = dataclasses.replace(state, steps_per_jump=jnp.asarray(steps_per_jump, jnp.int32))
    if jump is not None:
        faults.check_jump(jump)
        state = dataclasses.replace(state, jump=jump)
    draws, state, is_complete = _draw(model, state, num_samples, progress_bar)
    steps_per_jump = int(state.steps_per_jump)
    info = draws.stats
    drawn = info["lp"].shape[1]
    info["step_size"] = np.full(info["lp"].shape, float(state.walk.step_size), info["lp"].dtype)
    faults.check_draws(model, state.walk, info, steps_per_jump)
    settings = describe(model, state.walk, state.jump) | {
        "num_chains": int(info["lp"].shape[0]),
        "num_samples": drawn,
        "num_warmup": num_warmup,
        "steps_per_jump": steps_per_jump,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return SampleResult(draws.y, draws.x, info, state, settings, is_complete)


def _start(
    rng_key: PRNGKey | None,
    model: Any,
    walk: Walk | None,
    initial: PyTree,
    num_warmup: int | None,
    adapt_scale: Scale | None,
    progress_bar: bool,
) -> tuple[WalkState, int]:
    """Kernel states at the start positions, warmed up."""
    if rng_key is None or walk is None:
        raise InvalidArgumentError(
            "rng_key and walk may be None only when initial is the state of an earlier result."
        )
    check_key(rng_key)
    faults.check_walk(walk)
    position = faults.check_start(model, initial)
    faults.check_scale(adapt_scale, walk)
    num_chains = jax.tree.leaves(position)[0].shape[0]
    size = sum(leaf.size for leaf in jax.tree.leaves(position)) // num_chains
    tuned: Walk = walk
    if adapt_scale:
        tuned = Preconditioned(walk, unit_scale(adapt_scale, size, num_chains))
    adapt = walk.step_size is None and walk.target_acceptance is not None
    faults.check_warmup(num_warmup)
    if num_warmup is None:
        num_warmup = DEFAULT_WARMUP if adapt or adapt_scale else 0
    tuned(model)  # refuses a walk and a model that do not fit, before anything compiles
    tuned = tuned.resolve(getattr(model, "sigma", None), size)
    key_init, key_warmup, key_draws = jax.random.split(rng_key, 3)
    scout, borrowed = tuned, bool(adapt_scale and num_warmup and not walk.is_adjusted)
    if borrowed:
        scout = Preconditioned(MALA(), tuned.scale).resolve(None, size)  # pyright: ignore
    states = engine.initialise(model, scout, position, key_init)
    if num_warmup:
        adaptation = start_adaptation(
            scout, num_chains, num_warmup, step_size=adapt or borrowed, scale=bool(adapt_scale)
        )
        scout, states = _warm_up(model, adaptation, states, key_warmup, num_warmup, progress_bar)
    if borrowed:
        tuned = dataclasses.replace(tuned, scale=scout.scale)  # pyright: ignore
        states = engine.initialise(model, tuned, states.position, key_init)
    else:
        tuned = scout
    start, one = jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32)
    return WalkState(states, tuned, key_draws, start, one, matched_jump(model)), num_warmup


def _warm_up(
    model: Any,
    adaptation: Adaptation,
    states: Any,
    rng_key: PRNGKey,
    num_warmup: int,
    progress_bar: bool,
) -> tuple[Walk, Any]:
    carry = engine.WarmUp(states, adaptation, jnp.zeros((), jnp.result_type(float)))
    with progress(num_warmup, "warm-up", show=progress_bar, unit="step") as bar:
        for first, count in chunks(num_warmup, limit=num_warmup):
            carry = engine.warm_up(model, carry, rng_key, jnp.asarray(first), jnp.asarray(count))
            acceptance = float(carry.acceptance) / (first + count)
            bar.update(count)
    walk = finish(carry.adaptation)
    sigma = float(model.sigma) if hasattr(model, "sigma") else None
    faults.check_acceptance(walk, sigma, acceptance, num_warmup)
    return walk, carry.states


def _go_on(
    rng_key: PRNGKey | None,
    model: Any,
    walk: Walk | None,
    state: WalkState,
    num_warmup: int | None,
    adapt_scale: Scale | None,
) -> WalkState:
    """The state to go on from, once it is sure that nothing asked for is ignored."""
    if adapt_scale is not None:
        raise InvalidArgumentError(
            f"adapt_scale must be None when going on from a state; got {adapt_scale!r}. The state "
            "keeps the scale that it has."
        )
    if num_warmup:
        raise InvalidArgumentError(
            f"num_warmup must be 0 or None when going on from a state; got {num_warmup}. To warm "
            "up again, pass initial=state.position."
        )
    if walk is not None and not _same_tuning(walk, state.walk):
        raise InvalidArgumentError(
            f"the state was made by {state.walk}; got {walk}. Pass walk=None to go on with it, or "
            "initial=state.position to start another walk there."
        )
    faults.check_same_model(model, state.kernel)
    if rng_key is None:
        return state
    check_key(rng_key)
    _, _, key_draws = jax.random.split(rng_key, 3)
    return dataclasses.replace(state, rng_key=key_draws)


def _same_tuning(asked: Walk, used: Walk) -> bool:
    if isinstance(used, Preconditioned):
        if isinstance(asked, Preconditioned):
            same = np.shape(asked.scale) == np.shape(used.scale)
            return same and np.allclose(asked.scale, used.scale) and _same_tuning(asked.walk, used)
        used = used.walk
    if type(asked) is not type(used):
        return False
    for field in dataclasses.fields(used):  # pyright: ignore[reportArgumentType]
        wanted, have = getattr(asked, field.name), getattr(used, field.name)
        if field.metadata.get("static"):
            if wanted != have:
                return False
        elif wanted is not None and not np.allclose(wanted, have, rtol=1e-6, atol=0):
            return False
    return True


def _draw(
    model: Any,
    state: WalkState,
    num_samples: int,
    progress_bar: bool,
) -> tuple[engine.Draws, WalkState, bool]:
    """Chunk after chunk into arrays on the host."""
    buffer = engine.buffer_size(model, state.position, state.jump)
    sigma = float(model.sigma) if hasattr(model, "sigma") else None
    steps_per_jump = int(state.steps_per_jump)
    kept, drawn, accepted = None, 0, 0.0
    with (
        progress(num_samples, "draws", show=progress_bar, unit="draw") as bar,
        interruptible() as interrupt,
    ):
        for first, count in chunks(num_samples, limit=buffer):
            kernel, chunk = engine.draw_chunk(
                model,
                state.walk,
                state.kernel,
                state.rng_key,
                state.num_drawn,
                jnp.asarray(count),
                state.steps_per_jump,
                jump=state.jump,
                buffer=buffer,
            )
            chunk = jax.tree.map(lambda rows, n=count: np.asarray(rows)[:n], chunk)
            kept = _keep(kept, chunk, first, num_samples)
            state = dataclasses.replace(state, kernel=kernel, num_drawn=state.num_drawn + count)
            drawn = first + count
            bar.update(count)
            if "acceptance_rate" in chunk.stats:
                accepted += float(chunk.stats["acceptance_rate"].mean()) * count
                steps = drawn * steps_per_jump
                faults.check_acceptance(state.walk, sigma, accepted / drawn, steps)
            if interrupt.requested:
                break
    draws = jax.tree.map(lambda rows: rows[:, :drawn], kept)
    return draws, state, drawn == num_samples  # pyright: ignore[reportReturnType]


def _keep(
    kept: engine.Draws | None, chunk: engine.Draws, first: int, num_samples: int
) -> engine.Draws:
    """Write a chunk into the (chains, draws, ...) arrays of the result."""
    if kept is None:
        kept = jax.tree.map(
            lambda rows: np.empty((rows.shape[1], num_samples, *rows.shape[2:]), rows.dtype), chunk
        )

    def write(whole: np.ndarray, rows: np.ndarray) -> None:
        whole[:, first : first + len(rows)] = rows.swapaxes(0, 1)

    jax.tree.map(write, kept, chunk)
    return kept  # pyright: ignore[reportReturnType]


def as_pytree(model: Any) -> Any:
    """A function as a pytree, so that it can be an argument of compiled code."""
    if jax.tree_util.all_leaves([model]):
        return jax.tree_util.Partial(model) if callable(model) else model
    return model


def describe(model: Any, walk: Walk, jump: Jump | None) -> dict[str, Any]:
    """What an analyst wants to know of the draws a year from now."""
    known = {}
    of_data = isinstance(model, SmoothedScore) and not isinstance(model, ConditionedEnergy)
    if of_data and not model.is_exact:
        energies = getattr(model, "data_energy", None)
        seen = energies is not None and bool(jnp.isfinite(energies).all())
        known = {"data_energy": np.asarray(energies).tolist() if seen else None}
    return {
        "model": type(model).__name__,
        "sigma": float(model.sigma) if isinstance(model, SmoothedScore) else None,
        "walk": walk.name,
        "tuning": {
            k: v if isinstance(v, str | int) else float(v) for k, v in walk.tuning().items()
        },
        "is_adjusted": walk.is_adjusted,
        "is_scaled": isinstance(walk, Preconditioned),
        "target_acceptance": walk.target_acceptance,
        "jump": getattr(jump, "__name__", None) if jump else None,
        "jax_version": jax.__version__,
        "blackjax_version": version("blackjax"),
    } | known
