"""The training loop: compiled chunks of steps, validation and stopping on the host."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neb_ppl.data.checks import check_data
from neb_ppl.energies import NoiseConditionalEnergy
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.scale import DataScale, fit_data_scale
from neb_ppl.errors import InvalidArgumentError, TrainingDivergedError
from neb_ppl.estimators import smoothed_energies
from neb_ppl.progress import Interrupt, chunks, interruptible, progress
from neb_ppl.training import checks
from neb_ppl.training.losses import DenoisingLoss, Loss
from neb_ppl.training.saved import fingerprint, load_state, save_state
from neb_ppl.training.state import History, TrainState, copy
from neb_ppl.training.sure import check_noise, clean_scale
from neb_ppl.types import Array, ArrayLike, PRNGKey, PyTree, Scalar

__all__ = ["default_optimizer", "fit"]

MAX_VALIDATION = 1_000
MAX_VALIDATION_NUMBERS = 100_000
VALIDATION_NUMBERS = 1 << 15
STEPS_PER_CHUNK = 64
DENOISING = DenoisingLoss()
WEIGHED_RISK = "denoising risk per dimension, weighed by 1/sigma^2 + 1/scale^2"
QUANTILES = jnp.array([0.01, 0.5, 0.99])

Callback = Callable[[int, Any, History], bool | None]


def fit(
    rng_key: PRNGKey,
    model: Any,
    x: ArrayLike,
    *,
    num_steps: int = 2_000,
    batch_size: int = 128,
    learning_rate: float = 4e-3,
    loss: Loss = DENOISING,
    optimizer: optax.GradientTransformation | None = None,
    ema_decay: float = 0.999,
    validation: ArrayLike | None = None,
    validation_fraction: float = 0.1,
    validate_every: int | None = None,
    patience: int | None = None,
    scale: DataScale | None = None,
    callbacks: Iterable[Callback] = (),
    state: TrainState | None = None,
    checkpoint: str | PathLike | None = None,
    progress_bar: bool = True,
) -> tuple[Any, History]:
    """Learn an energy (or score) from clean data, by the denoising loss unless told otherwise.

    From data that hold the model's noise already, ``loss=SURELoss()`` learns the same energy.

    Parameters
    ----------
    rng_key : key
    model : NeuralEnergy, NoiseConditionalEnergy, or a foreign model with ``params``
        Its ``weights`` are trained; sigma and network stay.
    x : array, shape ``(n, *event)``
        Clean data, finite floats in data units; draws of y for a loss that learns from y.
    num_steps : int
        Steps in all; the learning rate decays to 0 over them.
    batch_size : int
    learning_rate : float
        Peak of the default optimiser, see `default_optimizer`.
    loss : Loss, optional
        What to minimise: `DenoisingLoss` by default.
    optimizer : optax.GradientTransformation, optional
        Instead of the default.
    ema_decay : float
        Of the averaged weights that are returned; shorter at the start.
    validation : array, optional
        Held-out data; default a random `validation_fraction` of x, at most 1,000 events or 100,000
        numbers, the same ones whatever the key: a second call with the same x does not train on
        them either. Few numbers are judged under several draws of the noise. Clean where x is.
    validation_fraction : float
        0 trains on everything and returns the last average instead of the best.
    validate_every : int, optional
        Steps between validations; default a twentieth of `num_steps`.
    patience : int, optional
        Stop after this many validations without a lower risk.
    scale : DataScale, optional
        Units of the network; default mean and deviation of the clean data, reckoned from those of
        y where x is y. Ignored by a model trained before.
    callbacks : iterable of ``(step, model, history) -> bool or None``
        Called after each validation; True stops training. ``history.state`` is taken over by the
        next step: copy what you keep.
    state : TrainState, optional
        ``history.state`` of an earlier call with the same arguments: goes on exactly.
    checkpoint : path, optional
        A file to which the state goes after every validation, replaced as a whole. If it is there
        already, training goes on from it, exactly; the arguments must be the same, but for
        `patience` and `callbacks`.
    progress_bar : bool

    Returns
    -------
    model, history
        The model with the best averaged weights, one pytree; and the record. Best by the loss's
        risk on held-out data, which is the denoising risk unless ``history.measure`` says
        otherwise; or the last where the loss says that risk alone does not tell.

    Raises
    ------
    NonFiniteDataError, EventShapeError, InvalidArgumentError
        Bad data or arguments, before anything compiles; data said to be y that vary less than
        their noise.
    TrainingDivergedError
        A loss that is not finite: says the step and the learning rate, and carries the last good
        model as ``.energy``.
    CheckpointError, CheckpointWriteError
        A checkpoint of another call, or damaged, or a folder that cannot be written.

    Notes
    -----
    Batches are drawn without replacement, epoch after epoch, by index on the device. Ctrl-C ends
    training after the current chunk, a quarter of a second, and returns what was learned.
    """
    checks.check_arguments(num_steps, batch_size, learning_rate, ema_decay, validation_fraction)
    checks.check_trainable(rng_key, model)
    events = np.asarray(check_data(x, model.event_shape))
    checks.check_scale(model, events)
    if isinstance(loss, type) or not hasattr(loss, "learns_from_y"):
        raise InvalidArgumentError(
            f"loss must be a value such as neb_ppl.SURELoss(); got {loss!r}."
        )
    if loss.learns_from_y:
        check_noise(model, events)
    key_steps, key_validation = jax.random.split(rng_key)
    events, held_out = _split(events, validation, validation_fraction, model.event_shape)
    if patience is not None and (held_out is None or not loss.keeps_best):
        raise InvalidArgumentError(
            f"patience={patience} needs a held-out risk to judge by: leave it out with "
            "validation_fraction=0, and with losses whose last weights are kept."
        )
    batch_size = min(batch_size, len(events))
    optimizer = optimizer or default_optimizer(learning_rate, num_steps)
    data = jnp.asarray(events)
    if state is None:
        scaled = _with_scale(model, events, scale, loss)
        current = _initial_state(scaled, optimizer, key_steps, loss, data)
    else:
        current = copy(state)
    save = None
    if checkpoint is not None:
        facts = {
            "num_steps": num_steps,
            "batch_size": batch_size,
            "learning_rate": float(learning_rate),
            "ema_decay": float(ema_decay),
            "rng_key": np.asarray(jax.random.key_data(rng_key)).tolist(),
            "data": fingerprint(events),
            "loss": type(loss).__name__,
        }
        current, save = _on_disk(Path(checkpoint), current, facts)
    run = _Run(
        x=data,
        held_out=None if held_out is None else _repeated(held_out),
        seed=np.asarray(jax.random.key_data(current.rng_key)).ravel().tolist(),
        batch_size=batch_size,
        num_steps=num_steps,
        validate_every=validate_every or max(1, num_steps // 20),
        patience=patience,
        optimizer=optimizer,
        loss=loss,
        ema_decay=jnp.asarray(ema_decay, jnp.result_type(float)),
        learning_rate=learning_rate,
        key_validation=key_validation,
        callbacks=tuple(callbacks),
        save=save,
    )
    history = _train(run, current, progress_bar)
    seen = data if run.held_out is None else run.held_out
    return _with_data_energy(best_model(history.state), key_validation, seen, loss), history


@lru_cache(maxsize=32)
def default_optimizer(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
    """Adam (b2 = .99), gradients clipped to norm 1, 5 % linear warm-up, cosine decay to 0."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=max(1, num_steps // 20),
        decay_steps=max(2, num_steps),
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))


def best_model(state: TrainState) -> Any:
    """The model with the weights of the lowest validation risk."""
    return _with_weights(state.model, state.best)


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same throughout one call of `fit`."""

    x: Array
    held_out: Array | None
    seed: list[int]
    batch_size: int
    num_steps: int
    validate_every: int
    patience: int | None
    optimizer: optax.GradientTransformation
    loss: Loss
    ema_decay: Array
    learning_rate: float
    key_validation: PRNGKey
    callbacks: tuple[Callback, ...]
    save: Callable[[TrainState], None] | None


def _train(run: _Run, state: TrainState, progress_bar: bool) -> History:
    started = time.perf_counter()
    known = isinstance(state.model, NoiseConditionalEnergy)
    measure = getattr(run.loss, "measure", WEIGHED_RISK if known else History.measure)
    history = History(state, np.empty(0), stopped="all steps done", measure=measure)
    bar = progress(run.num_steps, "training", show=progress_bar, unit="step")
    bar.update(int(state.step))
    with bar, interruptible() as interrupt:
        while int(history.state.step) < run.num_steps:
            _advance_to_validation(run, history, bar, interrupt)
            if interrupt.requested:
                history.stopped = f"interrupted at step {int(history.state.step)}"
            else:
                history.state = _validate(run, history.state, history)
            if run.save is not None:
                run.save(history.state)
            if history.risk:
                bar.set_postfix(risk=f"{history.risk[-1]:.4g}", refresh=False)
            if interrupt.requested:
                break
            if reason := _stop_reason(run, history.state, history):
                history.stopped = reason
                break
    history.seconds = time.perf_counter() - started
    return history


def _advance_to_validation(run: _Run, history: History, bar: Any, interrupt: Interrupt) -> None:
    step = int(history.state.step)
    until = min(run.num_steps, (step // run.validate_every + 1) * run.validate_every)
    for offset, count in chunks(until - step, limit=STEPS_PER_CHUNK):
        history.state, record = _advance(run, history.state, step + offset, count)
        _write(history, record)
        _check_loss(run, history.state, history, history.loss[-count:], step + offset)
        bar.update(count)
        if interrupt.requested:
            return


def _write(history: History, record: dict[str, np.ndarray]) -> None:
    """Append a chunk's numbers."""
    history.loss = np.append(history.loss, record.pop("loss"))
    for name, line in record.items():
        history.stats[name] = np.append(history.stats.get(name, np.empty(0)), line)


def _advance(
    run: _Run, state: TrainState, first: int, count: int
) -> tuple[TrainState, dict[str, np.ndarray]]:
    rows = batch_indices(run.seed, len(run.x), run.batch_size, first, count)
    padded = np.zeros((STEPS_PER_CHUNK, run.batch_size), np.int32)
    padded[:count] = rows
    state, record = _train_chunk(
        state,
        run.x,
        jnp.asarray(padded),
        jnp.asarray(count),
        run.ema_decay,
        run.loss,
        optimizer=run.optimizer,
    )
    return state, {name: np.asarray(line)[:count] for name, line in record.items()}


@partial(jax.jit, static_argnames=("optimizer",), donate_argnames=("state",))
def _train_chunk(
    state: TrainState,
    x: Array,
    rows: Array,
    count: Array,
    ema_decay: Array,
    loss: Loss,
    *,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, dict[str, Array]]:
    """`count` steps; ``rows[i]`` are the events of step i."""

    def loss_of(weights: PyTree, model: Any, *rest: Any) -> tuple[Array, dict[str, Array]]:
        rng_key, batch, carried = rest
        return loss(rng_key, _with_weights(model, weights), batch, carried)

    def body(i: Array, carry: tuple) -> tuple:
        state, record = carry
        weights, batch = _weights(state.model), x[rows[i]]
        key = jax.random.fold_in(state.rng_key, state.step)
        key_loss, key_advance = jax.random.split(key)
        carried = loss.advance(key_advance, state.model, batch, state.loss)
        (total, stats), gradient = jax.value_and_grad(loss_of, has_aux=True)(
            weights, state.model, key_loss, batch, carried
        )
        update, optimizer_state = optimizer.update(gradient, state.optimizer, weights)
        weights = optax.apply_updates(weights, update)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        average = optax.incremental_update(weights, state.average, 1 - decay)
        state = dataclasses.replace(
            state,
            model=_with_weights(state.model, weights),
            average=average,
            optimizer=optimizer_state,
            step=state.step + 1,
            loss=carried,
        )
        seen = {"loss": total, **stats}
        return state, {name: record[name].at[i].set(seen[name]) for name in record}

    total, stats = jax.eval_shape(
        loss_of, _weights(state.model), state.model, state.rng_key, x[rows[0]], state.loss
    )
    shapes = {"loss": total, **stats}
    record = {name: jnp.zeros(len(rows), leaf.dtype) for name, leaf in shapes.items()}
    return jax.lax.fori_loop(0, count, body, (state, record))


def _validate(run: _Run, state: TrainState, history: History) -> TrainState:
    """Risk of the averaged weights. The best are kept, or the last where risk cannot tell."""
    last = dataclasses.replace(state, best=copy(state.average), best_step=state.step.copy())
    if run.held_out is None:
        return last
    risk = _risk(
        run.loss, _with_weights(state.model, state.average), run.key_validation, run.held_out
    )
    history.steps.append(int(state.step))
    history.risk.append(float(risk))
    if not run.loss.keeps_best:
        return dataclasses.replace(last, best_risk=risk)
    if risk < state.best_risk:
        return dataclasses.replace(
            state, best=copy(state.average), best_risk=risk, best_step=state.step.copy()
        )
    return state


@jax.jit
def _risk(loss: Loss, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
    return loss.risk(model, rng_key, x)


def _on_disk(
    path: Path, state: TrainState, facts: dict[str, Any]
) -> tuple[TrainState, Callable[[TrainState], None]]:
    """The state in the file if there is one, and how to save the next; written once to try it."""
    if path.exists():
        state = load_state(path, state, facts)
    else:
        save_state(path, state, facts)
    return state, lambda state: save_state(path, state, facts)


def _stop_reason(run: _Run, state: TrainState, history: History) -> str:
    since = (int(state.step) - int(state.best_step)) // run.validate_every
    if run.patience is not None and since >= run.patience:
        return f"no lower risk for {since} validations: stopped early at step {int(state.step)}"
    for callback in run.callbacks:
        if callback(int(state.step), _with_weights(state.model, state.average), history):
            return f"stopped by a callback at step {int(state.step)}"
    return ""


def _check_loss(
    run: _Run, state: TrainState, history: History, loss: np.ndarray, first: int
) -> None:
    if np.isfinite(loss).all():
        return
    step = first + int(np.flatnonzero(~np.isfinite(loss))[0])
    raise TrainingDivergedError(
        f"the loss is {loss[~np.isfinite(loss)][0]} at step {step} with learning_rate="
        f"{run.learning_rate:g}. The last good model is in this error's .energy; try "
        f"learning_rate={run.learning_rate / 3:.2g}.",
        energy=best_model(state),
        history=history,
    )


def batch_indices(
    seed: list[int], num_events: int, batch_size: int, first: int, count: int
) -> np.ndarray:
    """Rows of the data for steps ``first .. first + count``, each epoch a fresh permutation.

    A function of the seed and the step alone, so that a continued run sees the same batches.
    """
    per_epoch = num_events // batch_size
    rows = np.empty((count, batch_size), np.int32)
    permutation, epoch = np.empty(0), -1
    for i, step in enumerate(range(first, first + count)):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            permutation = np.random.default_rng([*seed, epoch]).permutation(num_events)
        start = (step % per_epoch) * batch_size
        rows[i] = permutation[start : start + batch_size]
    return rows


def _initial_state(
    model: Any,
    optimizer: optax.GradientTransformation,
    rng_key: PRNGKey,
    loss: Loss,
    x: Array,
) -> TrainState:
    model = copy(model)
    weights = _weights(model)
    dtype = jnp.result_type(float)
    return TrainState(
        model=model,
        average=copy(weights),
        optimizer=optimizer.init(weights),
        best=copy(weights),
        best_risk=jnp.asarray(jnp.inf, dtype),
        best_step=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        rng_key=rng_key,
        loss=loss.init(jax.random.fold_in(rng_key, 2**32 - 1), model, x),
    )


def _with_scale(model: Any, x: np.ndarray, scale: DataScale | None, loss: Loss) -> Any:
    known = getattr(model, "scale", None)
    if known is None or known.is_fitted or not hasattr(model, "weights"):
        return model
    if scale is None and loss.learns_from_y:
        scale = clean_scale(x, float(model.sigma))
    return dataclasses.replace(model, scale=fit_data_scale(x, scale))


def _split(
    x: np.ndarray,
    validation: ArrayLike | None,
    fraction: float,
    event_shape: tuple[int, ...] | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    if validation is not None:
        return x, np.asarray(check_data(validation, event_shape, name="validation"))
    largest = max(MAX_VALIDATION, MAX_VALIDATION_NUMBERS // x[0].size)
    count = min(largest, int(len(x) * fraction))
    if count == 0:
        return x, None
    order = np.random.default_rng(0).permutation(len(x))
    return x[order[count:]], x[order[:count]]


def _with_data_energy(model: Any, rng_key: PRNGKey, x: Array, loss: Loss) -> Any:
    """What energies data + noise have, for those who judge walks."""
    if not hasattr(model, "data_energy"):
        return model
    events = x[:MAX_VALIDATION]
    if loss.learns_from_y:
        energies = _energies(model, events)
    else:
        energies = smoothed_energies(rng_key, model, events)
    return dataclasses.replace(model, data_energy=jnp.quantile(energies, QUANTILES))


@jax.jit
def _energies(model: SmoothedEnergy, y: Array) -> Array:
    return jax.lax.map(model, y, batch_size=100)


def _repeated(x: np.ndarray) -> Array:
    """Events repeated until chance hardly chooses the best weights: each gets its own noise."""
    repeats = max(1, VALIDATION_NUMBERS // x.size)
    return jnp.asarray(np.concatenate([x] * repeats))


def _weights(model: Any) -> PyTree:
    return model.weights if hasattr(model, "weights") else model.params


def _with_weights(model: Any, weights: PyTree) -> Any:
    name = "weights" if hasattr(model, "weights") else "params"
    return dataclasses.replace(model, **{name: weights})
