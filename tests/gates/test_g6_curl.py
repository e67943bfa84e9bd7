"""G6: the score of an energy has a symmetric Jacobian.

Asymmetry ``|J - J^T| / |J + J^T|`` (Frobenius), at most 1e-5 in float32 and 1e-12 in float64, some
twenty times the rounding measured; a score with a hundredth of a rotation must read 1e-3 or more.
"""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from gates.oracles import mixture

import neb_ppl as neb

LIMITS = {"float32": 1e-5, "float64": 1e-12}


def asymmetry(score, y) -> float:
    jacobian = jax.jacfwd(score)(y)
    return float(jnp.linalg.norm(jacobian - jacobian.T) / jnp.linalg.norm(jacobian + jacobian.T))


def models():
    x = mixture(6, 0.3).sample_clean(jax.random.key(0), (50,))
    return {
        "mixture": mixture(6, 0.3),
        "kernel density": neb.kernel_density(x, 0.3),
        "network": neb.deen(jax.random.key(1), (6,), 0.3),
    }


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", ["mixture", "kernel density", "network"])
def test_an_energy_has_no_curl(name, dtype):
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        model = models()[name]
        y = jax.random.normal(jax.random.key(2), (6,))
        assert asymmetry(model.score, y) <= LIMITS[dtype]


def test_one_percent_of_rotation_is_seen():
    energy = mixture(6, 0.3)
    turn = jnp.roll(jnp.eye(6), 1, axis=0) - jnp.roll(jnp.eye(6), -1, axis=0)
    y = jax.random.normal(jax.random.key(2), (6,))
    size = jnp.linalg.norm(jax.jacfwd(energy.score)(y)) / jnp.linalg.norm(turn)
    mutant = lambda y: energy.score(y) + 0.01 * size * turn @ y  # noqa: E731
    assert asymmetry(mutant, y) >= 1e-3
