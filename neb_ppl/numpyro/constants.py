"""What is part of a compiled model: constants by their content, so that stale ones are not used."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import jaxprs_in_params

__all__ = ["Constant", "constants_digest", "is_array"]


class Constant:
    """A value that is part of the program: equal to others of the same type and content."""

    def __init__(self, content: Any):
        self.content = content.copy() if isinstance(content, np.ndarray) else content
        self.identity = (type(content).__name__, _digest(content) if is_array(content) else content)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and other.identity == self.identity


def constants_digest(program: Any) -> str:
    """Digest of a traced program: operations, what they work on, arrays, literals and settings.

    Two traces of one function differ in it where the function read other things from outside.
    Cost: the bytes of its constants, hashed.
    """
    sha = hashlib.sha256()

    def read(jaxpr: Any) -> None:
        order = {var: i for i, var in enumerate([*jaxpr.constvars, *jaxpr.invars])}
        for equation in jaxpr.eqns:
            sha.update(equation.primitive.name.encode())
            for operand in equation.invars:
                known = hasattr(operand, "val")
                sha.update((_digest(operand.val) if known else str(order[operand])).encode())
            for name, setting in sorted(equation.params.items()):
                if _is_plain(setting):
                    sha.update(f"{name}={setting}".encode())
            for inner in jaxprs_in_params(equation.params):
                read(inner)
            order |= {var: len(order) + i for i, var in enumerate(equation.outvars)}

    for constant in program.consts:
        sha.update(_digest(constant).encode())
    read(program.jaxpr)
    return sha.hexdigest()


def is_array(leaf: Any) -> bool:
    """What may be traced: whole numbers may not, since they are sizes as often as not."""
    return isinstance(leaf, jax.Array | np.ndarray | np.floating)


def _digest(array: Any) -> str:
    """Of type, shape and content; of a traced array, whose content is not known, of the first."""
    if isinstance(array, Tracer):
        return str(jax.typeof(array))
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = np.asarray(array)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def _is_plain(setting: Any) -> bool:
    if isinstance(setting, tuple):
        return all(_is_plain(item) for item in setting)
    return setting is None or isinstance(setting, int | float | str)
