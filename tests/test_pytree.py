"""Structures of our values know their class: a program of one is never run for another."""

from itertools import combinations

import jax
import jax.numpy as jnp
import pytest

import neb_ppl as neb
from neb_ppl._pytree import static, value


@value
class One:
    a: object
    b: str = static(default="x")


@value
class Other:
    a: object
    b: str = static(default="x")


def test_classes_with_the_same_fields_have_other_structures():
    """To JAX's own registration of dataclasses they would be equal."""
    kinds = [neb.ULA(1.0), neb.MALA(1.0), neb.NUTS(1.0), One(1.0), Other(1.0)]
    for a, b in combinations(map(jax.tree.structure, kinds), 2):
        assert a != b
    with pytest.raises(ValueError, match="different types"):
        jax.tree.map(lambda a, b: a, neb.ULA(1.0), neb.MALA(1.0))


def test_one_program_a_class():
    kind = jax.jit(lambda tree: jnp.float32(isinstance(tree, One)))
    assert [float(kind(tree)) for tree in (One(1.0), Other(1.0), One(2.0))] == [1.0, 0.0, 1.0]


def test_fields_keep_their_names_and_static_ones_are_no_leaves():
    paths, structure = jax.tree_util.tree_flatten_with_path(One(jnp.ones(2), b="y"))
    assert [jax.tree_util.keystr(path) for path, _ in paths] == [".a"]
    again = jax.tree.unflatten(structure, [3])
    assert isinstance(again, One) and (again.a, again.b) == (3, "y")
    assert structure == jax.tree.structure(One(0, b="y"))
    assert structure != jax.tree.structure(One(0))
