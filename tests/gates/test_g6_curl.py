"""G6: the score of an energy has a symmetric Jacobian, that of an explicit network has not.

Asymmetry ``|J - J^T| / |J + J^T|`` (Frobenius), at most 1e-5 in float32 and 1e-12 in float64, some
twenty times the rounding measured; a score with a hundredth of a rotation must read 1e-3 or more.
`neb_ppl.diagnostics.asymmetry` estimates it by probes, and the work around loops agrees.
"""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.diagnostics import asymmetry as probed
from neb_ppl.diagnostics import circulation

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
        "variational": neb.uvb(jax.random.key(1), (6,), 0.3, network=neb.VAE(2, hidden=8)),
        "convex": neb.convex(jax.random.key(1), (6,), 0.3, hidden=8),
    }


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", ["mixture", "kernel density", "network", "variational", "convex"])
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


def turned(share):
    """A linear score of known parts: ``-y`` and a rotation of this share of it, in 2 dimensions."""
    turn = share * jnp.array([[0.0, -1.0], [1.0, 0.0]])
    return neb.from_score(lambda y: -y + turn @ y, 0.5, event_shape=(2,))


def test_probes_read_the_exact_ratio():
    """J + J^T = -2 I and J - J^T = 2 turn: their ratio is the share, whatever the probes."""
    y = jax.random.normal(jax.random.key(0), (5, 2))
    for share in (0.0, 0.01, 0.5):
        found = probed(jax.random.key(1), turned(share), y)
        assert found.ratio == pytest.approx(share, abs=1e-6)


def test_probes_agree_with_the_whole_jacobian():
    """256 places of an untrained explicit network, abs z < 5; the whole Jacobian at each."""
    model = neb.score_network(jax.random.key(1), (6,), 0.3)
    y = jax.random.normal(jax.random.key(2), (256, 6))
    jacobians = jax.vmap(jax.jacfwd(model.score))(y)
    odd, even = jacobians - jacobians.mT, jacobians + jacobians.mT
    exact = float(jnp.linalg.norm(odd) / jnp.linalg.norm(even))
    found = probed(jax.random.key(3), model, y)
    assert exact > 1e-3 and abs(found.ratio - exact) < 5 * found.standard_error
    energy = neb.deen(jax.random.key(1), (6,), 0.3)
    assert probed(jax.random.key(3), energy, y).ratio < 1e-5


def test_work_around_a_loop_is_twice_the_area_times_the_rotation():
    """Stokes: of ``-y + share * turn y`` it is ``2 pi radius^2 share``, wherever the centre is."""
    y = jax.random.normal(jax.random.key(0), (5, 2))
    work = circulation(jax.random.key(1), turned(0.3), y, 0.5)
    assert abs(work) == pytest.approx(2 * jnp.pi * 0.25 * 0.3, rel=1e-4)
    rounding = circulation(jax.random.key(1), mixture(6, 0.3), jnp.zeros((5, 6)), 0.3)
    assert abs(rounding).max() < 1e-4
