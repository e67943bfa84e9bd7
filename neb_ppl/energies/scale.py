"""The scale of the data, carried by the energy that was trained on them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from neb_ppl._pytree import value
from neb_ppl.data.checks import warn_outside_range
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Array, ArrayLike, Scalar

__all__ = ["DataScale", "data_scale", "fit_data_scale", "warn_of_units"]

FAR = 6


@value
class DataScale:
    """Affine map between data units and a network's own units, and the range seen in training.

    Attributes
    ----------
    shift, scale : scalar arrays
        A network sees ``(y - shift) / scale``.
    low, high : scalar arrays
        Smallest and largest value of the training data; NaN before training.
    """

    shift: Scalar
    scale: Scalar
    low: Scalar
    high: Scalar

    def to_network(self, y: Array) -> Array:
        """Data units to the network's units."""
        return (y - self.shift) / self.scale

    def to_data(self, u: Array) -> Array:
        """The network's units to data units."""
        return self.shift + self.scale * u

    @property
    def is_fitted(self) -> bool:
        """Whether training data have been seen."""
        return bool(np.isfinite(self.low))

    def spread(self) -> float:
        """Width of the training range, in data units."""
        return float(self.high - self.low)


def data_scale(shift: float = 0.0, scale: float = 1.0) -> DataScale:
    """An explicit scale: a function sees ``(y - shift) / scale``.

    Raises
    ------
    InvalidArgumentError
        If `scale` is not positive and finite, or `shift` not finite.
    """
    if not (np.isfinite(scale) and scale > 0 and np.isfinite(shift)):
        raise InvalidArgumentError(
            f"scale must be positive and finite and shift finite; got scale={scale}, shift={shift}."
        )
    dtype = jnp.result_type(float)
    unknown = jnp.asarray(jnp.nan, dtype)
    return DataScale(jnp.asarray(shift, dtype), jnp.asarray(scale, dtype), unknown, unknown)


def fit_data_scale(x: ArrayLike, scale: DataScale | None = None) -> DataScale:
    """The scale of data `x`: mean and standard deviation over all entries, and their range.

    One shift and one scale for all dimensions: sigma stays one number, and constant pixels
    need no division. A given `scale` keeps its shift and scale and only learns the range.
    """
    x = np.asarray(x)
    dtype = jnp.result_type(float)
    if scale is None:
        deviation = float(x.std(dtype=np.float64))
        scale = data_scale(float(x.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0)
    low, high = jnp.asarray(x.min(), dtype), jnp.asarray(x.max(), dtype)
    return DataScale(scale.shift, scale.scale, low, high)


def warn_of_units(model: Any, x: ArrayLike, *, name: str = "x", noise: float | None = None) -> None:
    """Warn where x lies in other units than the data that `model` was trained on.

    That is beyond their range by more than 6 deviations of the noise: the model's sigma, or
    another. Quiet for models that keep no range.
    """
    scale = getattr(model, "scale", None)
    if isinstance(scale, DataScale) and scale.is_fitted:
        reach = FAR * float(model.sigma if noise is None else noise)
        warn_outside_range(x, float(scale.low), float(scale.high), name=name, reach=reach)
