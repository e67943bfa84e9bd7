"""What every entry point asks of keys, counts, shares, shapes and numbers."""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.types import Array

__all__ = [
    "as_finite",
    "as_floats",
    "as_numbers",
    "as_sample_shape",
    "check_counts",
    "check_key",
    "check_positive",
    "check_shape",
    "check_share",
    "check_untraced",
    "least_draws",
]


def check_key(rng_key: object) -> None:
    """A key of either kind, and not a seed."""
    if not isinstance(rng_key, jax.Array):
        raise InvalidArgumentError(
            f"rng_key must be a key, such as jax.random.key(0); got {rng_key!r}."
        )


def check_untraced(name: str, *arguments: Any) -> None:
    """Refuse jit, vmap and grad around what drives compiled programs of its own."""
    # Under jit a new array is traced, though every argument be known.
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((jnp.zeros(()), arguments))):
        raise InvalidArgumentError(
            f"{name} was called inside jax.jit, vmap or grad; expected a call outside: it drives "
            "compiled programs of its own and looks at numbers between them. Call it in a loop of "
            "Python: more keys, and data of the same shapes, compile nothing anew."
        )


def check_counts(**counts: int) -> None:
    """Each count must be a positive whole number."""
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise InvalidArgumentError(
                f"{name} must be a whole number of at least 1; got {count!r}."
            )


def check_positive(**numbers: float | Array) -> None:
    """Each must be one positive, finite number."""
    for name, number in numbers.items():
        known = isinstance(number, int | float | np.number | np.ndarray | jax.Array)
        if not known or np.ndim(number) or not 0 < number < math.inf:
            seen = number.item() if isinstance(number, np.generic) else number
            raise InvalidArgumentError(f"{name} must be a positive, finite number; got {seen!r}.")


def check_share(name: str, share: float) -> None:
    """A number strictly between 0 and 1."""
    if not isinstance(share, int | float | np.number) or not 0 < share < 1:
        seen = share.item() if isinstance(share, np.generic) else share
        raise InvalidArgumentError(f"{name} must be a number between 0 and 1; got {seen!r}.")


def check_shape(event_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """Lengths of an event's axes, of which there is at least one."""
    shape = tuple(event_shape) if isinstance(event_shape, Iterable) else (event_shape,)
    if shape == ():
        raise EventShapeError(
            "event_shape must have an axis; got (). For numbers use (1,), and data of shape "
            "(n, 1): x[:, None]."
        )
    if not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise EventShapeError(f"event_shape must be positive sizes; got {event_shape!r}.")
    return tuple(int(size) for size in shape)


def as_sample_shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a sample; a number is that of a row of draws."""
    return tuple(shape) if isinstance(shape, Iterable) else (shape,)


def as_floats(name: str, numbers: Any, dtype: Any = None) -> Array:
    """An array of floats in JAX's default precision, or another."""
    if isinstance(numbers, Tracer):
        return numbers if dtype is None else numbers.astype(dtype)
    return jnp.asarray(as_numbers(name, numbers), dtype or jnp.result_type(float))


def as_finite(name: str, numbers: Any) -> Array:
    """The same, and none of them NaN or infinite."""
    array = as_floats(name, numbers)
    if not isinstance(array, Tracer) and not np.isfinite(array).all():
        raise NonFiniteDataError(
            f"{name} must hold finite numbers; got {int((~np.isfinite(array)).sum())} of "
            f"{array.size} that are NaN or infinite."
        )
    return array


def as_numbers(name: str, numbers: Any) -> np.ndarray:
    """The same in NumPy, which under jit does not trace what is known."""
    if isinstance(numbers, Tracer):
        raise InvalidArgumentError(
            f"{name} is traced by jax.jit, vmap or grad; expected known numbers: make them "
            "outside, and use them inside."
        )
    if numbers is None:
        raise InvalidArgumentError(f"{name} must be numbers, as one array; got None.")
    try:
        array = np.asarray(numbers)
        if not np.iscomplexobj(array):
            return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = type(numbers).__name__.lstrip("_")
        raise InvalidArgumentError(
            f"{name} must be numbers, as one array; got {kind}: {error}."
        ) from None
    raise InvalidArgumentError(f"{name} must be real numbers; got complex ones.")


def least_draws(level: float) -> int:
    """Draws that a central interval of this level takes: rank (n + 1) p must lie among them."""
    return math.ceil((1 + level) / (1 - level) - 1e-9)
