"""Immutable values that JAX can look into: frozen dataclasses registered as pytrees."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

__all__ = ["is_constant", "static", "value"]

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A field that is part of the tree's structure: changing it compiles anew."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static,))
def value(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree; fields are leaves unless `static()`.

    Validate in factory functions, never in ``__post_init__``: that runs at every unflatten,
    with tracers.
    """
    own_repr = "__repr__" in cls.__dict__ or any(
        "__repr__" in base.__dict__ for base in cls.__mro__[1:-1]
    )
    return _registered(dataclasses.dataclass(frozen=True, eq=False, repr=not own_repr)(cls))


def _registered(cls: type[T]) -> type[T]:
    """A pytree whose structure knows its class.

    To ``jax.tree_util.register_dataclass`` structures of different classes are equal where their
    fields agree (seen in JAX 0.10 and 0.12): now and then jit then ran the program of another.
    """
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    fixed = tuple(field.name for field in fields if field.metadata.get("static"))
    leaves = tuple(field.name for field in fields if field.name not in fixed)
    names, keys = (*leaves, *fixed), tuple(map(jax.tree_util.GetAttrKey, leaves))

    def flatten(tree: Any) -> tuple[tuple, tuple]:
        children = tuple([getattr(tree, name) for name in leaves])
        return children, tuple([getattr(tree, name) for name in fixed])

    def flatten_with_keys(tree: Any) -> tuple[tuple, tuple]:
        children, settings = flatten(tree)
        return tuple(zip(keys, children, strict=True)), settings

    def unflatten(settings: tuple, children: Any) -> Any:
        return cls(**dict(zip(names, (*children, *settings), strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def is_constant(tangents: Any) -> bool:
    """Whether none of these tangents (of a `jax.custom_jvp` with symbolic zeros) moves."""
    zero = jax.custom_derivatives.SymbolicZero
    leaves = jax.tree.leaves(tangents, is_leaf=lambda leaf: isinstance(leaf, zero))
    return all(isinstance(leaf, zero) for leaf in leaves)
