"""What data must pass before they meet a model. For concrete arrays, not for use under jit."""

import logging
import math
import warnings
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.errors import (
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NonFiniteDataError,
)
from neb_ppl.types import Array

__all__ = ["check_data", "drop_nonfinite", "warn_outside_range"]

Data: TypeAlias = np.ndarray | Array

_logger = logging.getLogger(__name__)


def check_data(
    x: Any,
    event_shape: tuple[int, ...] | None = None,
    *,
    name: str = "x",
    scale: float | None = None,
) -> Data:
    """Data ready for training: finite floats of the expected event shape, or an error.

    Parameters
    ----------
    x : array, shape ``(n, *event_shape)``
    event_shape : tuple of int, optional
        The expected event; any is accepted if left out.
    name : str
        What messages call the argument.
    scale : float, optional
        Declares the units of integer data, and is needed for them: ``x / scale`` is returned, so
        uint8 images in 0..255 with ``scale=255`` come back in [0, 1]. Floats are taken to be in
        data units already and refuse a scale.

    Returns
    -------
    array, shape ``(n, *event_shape)``
        A NumPy array, or a JAX array where `x` is one. Integers and float64 come in JAX's default
        float: float32, unless ``jax_enable_x64`` is on.

    Raises
    ------
    InvalidArgumentError
        If there are no data, the dtype is neither float nor scaled integer, or `scale` is wrong.
    EventShapeError
        If the event shape differs.
    NonFiniteDataError
        If there is NaN or inf, after the conversion to JAX's float; see `drop_nonfinite`.
    """
    x = _as_array(x, name)
    _check_shape(x, event_shape, name)
    x = _as_float(x, name, scale)
    _check_finite(x, name)
    return x


def drop_nonfinite(x: Any, *, name: str = "x") -> tuple[Data, int]:
    """Leave out the events that hold NaN or inf.

    Parameters
    ----------
    x : array, shape ``(n, *event)``
    name : str
        What messages call the argument.

    Returns
    -------
    x : array, shape ``(n - num_dropped, *event)``
    num_dropped : int
        Also logged as a warning where it is not zero.

    Raises
    ------
    NonFiniteDataError
        If nothing would remain.
    """
    x = _as_array(x, name)
    _check_shape(x, None, name)
    keep = np.asarray(_isfinite(x)).reshape(len(x), -1).all(axis=1)
    num_dropped = int(np.sum(~keep))
    if num_dropped == len(x):
        raise NonFiniteDataError(
            f"All {len(x)} events of {name} hold NaN or inf; expected at least one finite event. "
            "Look at where the data come from."
        )
    if num_dropped:
        _logger.warning("dropped %d of %d events of %s: NaN or inf", num_dropped, len(x), name)
        x = x[keep]
    return x, num_dropped


def warn_outside_range(
    x: Any, low: float, high: float, *, name: str = "x", margin: float = 0.5, reach: float = 0.0
) -> None:
    """Warn where data lie far outside the range that an energy was trained on.

    Parameters
    ----------
    x : array
    low, high : float
        Range of the training data, in data units.
    name : str
        What messages call the argument.
    margin : float
        How far outside is far, in units of ``high - low``.
    reach : float
        How much farther noise takes x, in data units.

    Warns
    -----
    DataRangeWarning
        With the range seen, and the scale that would explain it if it is 255.
    """
    seen_low, seen_high = float(np.min(x)), float(np.max(x))
    slack = margin * (high - low) + (1 + 2 * margin) * reach
    if seen_low >= low - slack and seen_high <= high + slack:
        return
    bytes_like = high <= 2 and seen_low >= 0 and 128 <= seen_high <= 255
    hint = "Divide by 255: these look like bytes." if bytes_like else "Is its scale another one?"
    warnings.warn(
        f"{name} lies in [{seen_low:.4g}, {seen_high:.4g}]; the energy was trained on "
        f"[{low:.4g}, {high:.4g}]. {hint}",
        DataRangeWarning,
        stacklevel=2,
    )


def _as_array(x: Any, name: str) -> Data:
    if isinstance(x, jax.Array):
        return x
    if isinstance(x, str) or x is None:
        raise InvalidArgumentError(f"{name} must be an array of events; got {x!r}.")
    if hasattr(x, "x") and hasattr(x, "labels"):
        raise InvalidArgumentError(
            f"{name} is data with labels; expected the events alone: pass its .x."
        )
    if isinstance(x, np.ma.MaskedArray) and x.mask.any():
        raise InvalidArgumentError(
            f"{name} is masked in {int(x.mask.sum())} places; expected complete events. Drop the "
            "masked ones, or fill them in."
        )
    try:
        return np.asarray(x)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{name} is not a rectangular array: {error}. Give events of one shape."
        ) from error


def _check_shape(x: Data, event_shape: tuple[int, ...] | None, name: str) -> None:
    if x.ndim == 0:
        raise EventShapeError(
            f"{name} is a single number; expected shape (n, *event). Add a batch axis."
        )
    expected = None if event_shape is None else tuple(event_shape)
    seen = tuple(x.shape[1:])
    if expected is not None and seen != expected:
        raise EventShapeError(
            f"{name} has shape {x.shape}, so events of shape {seen}; expected {expected}. "
            + _shape_hint(x, expected, name)
        )
    if x.size == 0:
        raise InvalidArgumentError(
            f"{name} is empty (shape {x.shape}); expected at least one event of at least one "
            "number."
        )


def _shape_hint(x: Data, expected: tuple[int, ...], name: str) -> str:
    seen = tuple(x.shape[1:])
    if tuple(x.shape) == expected:
        return f"It is one event: add the batch axis, {name}[None]."
    if sorted(seen) == sorted(expected):
        return "The axes are in another order: use numpy.transpose, not reshape."
    if math.prod(seen) == math.prod(expected):
        return f"The sizes agree: use {name}.reshape({', '.join(map(str, (-1, *expected)))})."
    return "Give data of that shape, or build the model with this event shape."


def _as_float(x: Data, name: str, scale: float | None) -> Data:
    default = jnp.result_type(float)
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise InvalidArgumentError(f"scale must be positive and finite; got {scale}.")
    if jnp.issubdtype(x.dtype, jnp.floating):
        if scale is not None:
            raise InvalidArgumentError(
                f"scale={scale} was given, but {name} holds {x.dtype}, taken to be in data units "
                "already. Leave scale out; if the data are not scaled yet, divide first."
            )
        if not jnp.finfo(x.dtype).bits > jnp.finfo(default).bits:
            return x
        with np.errstate(over="ignore"):
            return x.astype(default)
    if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise InvalidArgumentError(
            f"{name} has dtype {x.dtype}; expected real floats. Convert it to a numeric array, "
            "events of one shape."
        )
    if scale is None and x.dtype == bool:
        raise InvalidArgumentError(
            f"{name} holds booleans; expected floats in data units: {name}.astype(float)."
        )
    if scale is None:
        raise InvalidArgumentError(
            f"{name} has dtype {x.dtype}, with values {x.min()}..{x.max()}; expected floats in "
            f"data units. Divide by what makes them so, such as {name} / 255.0 for bytes "
            "(neb_ppl.data.check_data(..., scale=255); --scale 255 on the command line). Noise is "
            "in data units, too."
        )
    return x.astype(default) / np.asarray(scale, default)


def _check_finite(x: Data, name: str) -> None:
    finite = np.asarray(_isfinite(x))
    if finite.all():
        return
    first = tuple(int(i) for i in np.argwhere(~finite)[0])
    raise NonFiniteDataError(
        f"{name} holds {np.sum(~finite)} values that are NaN or inf as {x.dtype}, the first at "
        f"index {first}; expected none of {x.size}. Repair the data, or use "
        "neb_ppl.data.drop_nonfinite."
    )


def _isfinite(x: Data) -> Data:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.ones(x.shape, bool)
    # NumPy's own function: jnp.isfinite would first narrow float64.
    return np.isfinite(x) if isinstance(x, np.ndarray) else jnp.isfinite(x)
