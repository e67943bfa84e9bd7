"""Draws and truths, any pytrees of arrays, as checked matrices: one column for each number."""

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.types import PyTree

__all__ = ["check_finite", "flatten", "number_names", "paired"]


def flatten(tree: PyTree, lead: int) -> np.ndarray:
    """All numbers of each event side by side, shape ``(*lead axes, numbers)``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(*leaf.shape[:lead], -1) for leaf in leaves], axis=-1)


def number_names(tree: PyTree, lead: int, default: str) -> tuple[str, ...]:
    """Names of the columns of `flatten`: ``gain``, ``y[0]``; a bare array is called `default`."""
    names = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or default
        shape = np.shape(leaf)[lead:]
        indices = [",".join(map(str, index)) for index in np.ndindex(shape)]
        names += [f"{name}[{index}]" for index in indices] if shape else [name]
    return tuple(names)


def paired(draws: PyTree, truth: PyTree, *, simulations: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws and truth as matrices, shapes ``(L, n)`` and ``(n,)``.

    Of several simulations ``(S, L, n)`` and ``(S, n)``.
    """
    if jax.tree.structure(draws) != jax.tree.structure(truth):
        raise EventShapeError(
            f"draws and truth must hold the same arrays; got {jax.tree.structure(draws)} and "
            f"{jax.tree.structure(truth)}."
        )
    axis = int(simulations)
    for drawn, true in zip(jax.tree.leaves(draws), jax.tree.leaves(truth), strict=True):
        shape, expected = np.shape(drawn), np.shape(true)
        if len(expected) < axis or shape[:axis] + shape[axis + 1 :] != expected:
            form = (*expected[:axis], "draws", *expected[axis:])
            raise EventShapeError(
                f"draws must have shape ({', '.join(map(str, form))}), as truth has shape "
                f"{expected}; got {shape}."
            )
    counts = {np.shape(leaf)[axis] for leaf in jax.tree.leaves(draws)}
    if len(counts) != 1:
        raise EventShapeError(f"every array must hold as many draws; got {sorted(counts)}.")
    drawn, true = flatten(draws, axis + 1), flatten(truth, axis)
    if drawn.size == 0:
        raise EventShapeError(f"draws must not be empty; got shape {drawn.shape}.")
    check_finite("draws", drawn)
    check_finite("truth", true)
    return drawn, true


def check_finite(name: str, values: np.ndarray) -> None:
    """Numbers, of them no NaN and no infinity, which are counted."""
    if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool):
        raise InvalidArgumentError(f"{name} must hold numbers; got dtype {values.dtype}.")
    count = values.size - int(np.isfinite(values).sum())
    if count:
        raise NonFiniteDataError(
            f"{name} must be finite; got {count} of {values.size} numbers that are not. Look at "
            "what made them: leaving them out would hide it."
        )
