"""Names for the shapes that occur everywhere. ``*event`` is one event, without a batch axis."""

from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Array", "ArrayLike", "Bool", "Event", "Float", "Int", "PRNGKey", "PyTree", "Scalar"]

PRNGKey: TypeAlias = jax.Array
PyTree: TypeAlias = Any
ArrayLike: TypeAlias = jax.Array | np.ndarray
Scalar: TypeAlias = Float[Array, ""]
Event: TypeAlias = Float[Array, "*event"]
