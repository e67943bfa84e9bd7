"""The public list: complete, documented, and light to import."""

import subprocess
import sys

import pytest

import neb_ppl


@pytest.mark.parametrize("name", neb_ppl.__all__)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(neb_ppl, name).__doc__.strip()


def test_the_list_is_sorted_and_without_duplicates():
    assert len(set(neb_ppl.__all__)) == len(neb_ppl.__all__)


def test_importing_is_light_and_leaves_jax_as_it_was():
    code = """
import sys, jax
before = {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_debug_nans")}
import neb_ppl
heavy = {"numpyro", "arviz", "matplotlib", "sklearn", "typer"} & set(sys.modules)
assert not heavy, heavy
assert all(getattr(jax.config, name) == value for name, value in before.items())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sampler'"):
        _ = neb_ppl.sampler
