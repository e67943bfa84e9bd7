"""Training on disk: the state in one verified file, which the same call of `fit` goes on from."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._verified import as_jax, differences, read_verified, write_verified
from neb_ppl.errors import CheckpointError
from neb_ppl.training.state import TrainState
from neb_ppl.types import Array, PyTree

__all__ = ["fingerprint", "load_state", "save_state"]

KIND = "TrainState"


def save_state(path: Path, state: TrainState, facts: dict[str, Any]) -> None:
    """Write the state, and facts about the call that made it, over an older file."""
    arrays = {name: np.asarray(_plain(leaf)) for name, leaf in _named(state).items()}
    write_verified(path, arrays, {"kind": KIND, "facts": facts})


def load_state(path: Path, like: TrainState, facts: dict[str, Any]) -> TrainState:
    """Read a state with the structure of `like`, made by a call with the same facts.

    Raises
    ------
    CheckpointError
        A damaged or foreign file, other facts, or arrays of another structure: each is listed.
    """
    manifest, arrays = read_verified(path)
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{path} holds no training state but a {manifest.get('kind')!r}.")
    wanted = {name: _plain(leaf) for name, leaf in _named(like).items()}
    shapes = [{name: _kind(leaf) for name, leaf in each.items()} for each in (wanted, arrays)]
    lines = differences(facts, manifest.get("facts", {})) + differences(*shapes)
    if lines:
        raise CheckpointError(
            f"{path} was made by another call of fit. Use another file, or remove it to start "
            "anew:\n" + "\n".join(lines)
        )
    leaves, treedef = jax.tree.flatten(like)
    read = [as_jax(name, arrays[name], allow_narrowing=False) for name in wanted]
    return jax.tree.unflatten(treedef, [_as(a, b) for a, b in zip(leaves, read, strict=True)])


def fingerprint(x: np.ndarray) -> str:
    """What tells one data set from another."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16]


def _named(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _plain(leaf: Array) -> Array:
    """Keys as their words."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf


def _kind(leaf: Array | np.ndarray) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _as(like: Array, words: Array) -> Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(like))
    return words
