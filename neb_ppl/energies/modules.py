"""Weights by name, and the Flax module that they make: what lets plain arrays be a network."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from neb_ppl.types import Array, PRNGKey

__all__ = ["Specification", "Weights", "build_module", "initial_weights", "module_structure"]

Weights = Mapping[str, Array]


class Specification(Protocol):
    """Plain numbers, hashable, that build a module for events of a shape."""

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """The module, for one event."""
        ...


@lru_cache(maxsize=64)
def module_structure(network: Specification, event_shape: tuple[int, ...]):
    """Graph, tree structure, and a name for each weight of the module of `network`."""
    module = nnx.eval_shape(lambda: network.build(event_shape, nnx.Rngs(0)))
    graphdef, state = nnx.split(module)
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
        for path, _ in paths
    ]
    shapes = {name: leaf.shape for name, (_, leaf) in zip(names, paths, strict=True)}
    return graphdef, treedef, shapes


def build_module(network: Specification, event_shape: tuple[int, ...], weights: Weights) -> Any:
    """The module with these weights."""
    graphdef, treedef, names = module_structure(network, event_shape)
    return nnx.merge(graphdef, jax.tree.unflatten(treedef, [weights[name] for name in names]))


def initial_weights(
    rng_key: PRNGKey, network: Specification, event_shape: tuple[int, ...]
) -> dict[str, Array]:
    """Weights before training, in JAX's default precision."""
    _, _, names = module_structure(network, event_shape)
    state = nnx.state(network.build(event_shape, nnx.Rngs(rng_key)))
    dtype = jnp.result_type(float)
    leaves = (jnp.asarray(leaf, dtype) for leaf in jax.tree.leaves(state))
    return dict(zip(names, leaves, strict=True))
