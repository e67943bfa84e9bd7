"""What a call of `fit` is refused for, or warned of, before anything compiles."""

import warnings
from typing import Any

import numpy as np

from neb_ppl._checks import check_counts, check_key, check_positive
from neb_ppl.errors import DataRangeWarning, InvalidArgumentError

__all__ = ["check_arguments", "check_scale", "check_trainable"]

SMALL_SIGMA = 0.005
LARGE_SIGMA = 5.0


def check_trainable(rng_key: Any, model: Any) -> None:
    """A key, and a model with weights."""
    check_key(rng_key)
    if not (hasattr(model, "weights") or getattr(model, "params", None) is not None):
        raise InvalidArgumentError(
            f"model is a {type(model).__name__} and has no weights to train; expected "
            "neb_ppl.deen(...), noise_conditional(...), or a function with params=. The order is "
            "fit(rng_key, model, x)."
        )


def check_scale(model: Any, events: np.ndarray) -> None:
    """Refuse data whose offset leaves no digits for the noise; warn of noise that hardly shows."""
    levels = model.sigma_range if hasattr(model, "sigma_range") else (model.sigma, model.sigma)
    low, high = map(float, levels)
    largest, deviation = float(np.abs(events).max()), float(events.std(dtype=np.float64))
    step = float(np.spacing(np.asarray(largest, events.dtype)))
    if step > 0.1 * low:
        raise InvalidArgumentError(
            f"x holds values up to {largest:.3g}, where {events.dtype} has steps of {step:.2g}: "
            f"too coarse for sigma={low:.3g}. Subtract a centre in float64 first, such as "
            "x - x.mean(axis=0), or rescale x and sigma."
        )
    if 0 < high < SMALL_SIGMA * deviation:
        name = "sigma" if high == low else "the highest sigma"
        warnings.warn(
            f"{name}={high:.3g} is {high / deviation:.2%} of the data's standard deviation "
            f"{deviation:.3g}: the noise hardly joins one event to the next, and walks will not "
            "mix. sigma is in data units: see neb_ppl.suggest_sigma.",
            DataRangeWarning,
            stacklevel=3,
        )
    if high > low > LARGE_SIGMA * deviation > 0:
        warnings.warn(
            f"the lowest sigma={low:.3g} is {low / deviation:.3g} times the data's standard "
            f"deviation {deviation:.3g}: nothing of them is left at any level. Are sigma_range and "
            "x in the same units?",
            DataRangeWarning,
            stacklevel=3,
        )


def check_arguments(
    num_steps: int, batch_size: int, learning_rate: float, ema_decay: float, fraction: float
) -> None:
    """Counts, rates and fractions."""
    check_counts(num_steps=num_steps, batch_size=batch_size)
    check_positive(learning_rate=learning_rate)
    for name, share in {"ema_decay": ema_decay, "validation_fraction": fraction}.items():
        if not isinstance(share, int | float | np.number) or not 0 <= share < 1:
            raise InvalidArgumentError(f"{name} must lie in [0, 1); got {share!r}.")
