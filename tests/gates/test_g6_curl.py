"""G6: the score of an energy has a symmetric Jacobian, that of an explicit network has not.

Asymmetry ``|J - J^T| / |J + J^T|`` (Frobenius), at most 1e-5 in float32 and 1e-12 in float64, some
twenty times the rounding measured; a score with a hundredth of a rotation must read 1e-3 or more.
`neb_ppl.diagnostics.asymmetry` estimates it by probes, and the work around loops agrees.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.diagnostics import asymmetry as probed
from neb_ppl.diagnostics import circulation
from neb_ppl.diagnostics.symmetry import _parts
from neb_ppl.errors import InvalidArgumentError

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


def of_parts(estimate):
    """A mutant of `asymmetry`: another mean of the same squares at each place."""
    return lambda key, model, y: estimate(*map(np.asarray, _parts(key, model, y, num_probes=8)))


ESTIMATES = {
    "asymmetry": lambda key, model, y: probed(key, model, y).ratio,
    "root of the mean ratio": of_parts(lambda odd, even: np.sqrt(np.mean(odd / even))),
    "mean of the root ratios": of_parts(lambda odd, even: np.mean(np.sqrt(odd / even))),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_probes_agree_with_the_whole_jacobian(name):
    """256 places of an untrained explicit network, where the whole Jacobian is the truth.

    The places are the same, so that probes alone are chance: abs z < 5 over 64 draws of them.
    """
    model = neb.score_network(jax.random.key(1), (6,), 0.3, network=neb.MLP(64))
    y = jax.random.normal(jax.random.key(2), (256, 6))
    jacobians = jax.vmap(jax.jacfwd(model.score))(y)
    odd, even = jacobians - jacobians.mT, jacobians + jacobians.mT
    exact = float(jnp.linalg.norm(odd) / jnp.linalg.norm(even))
    keys = jax.random.split(jax.random.key(3), 64)
    found = np.array([ESTIMATES[name](key, model, y) for key in keys])
    z = (found.mean() - exact) / (found.std(ddof=1) / len(found) ** 0.5)
    assert exact > 1e-3 and (abs(z) < 5) == (name == "asymmetry")


def test_probes_of_an_energy_see_rounding():
    y = jax.random.normal(jax.random.key(2), (256, 6))
    energy = neb.deen(jax.random.key(1), (6,), 0.3)
    assert probed(jax.random.key(3), energy, y).ratio < 1e-5


@pytest.mark.parametrize(
    "score, ratio",
    [
        (lambda y: -y + 5 * jnp.array([-y[1], y[0]]), 5.0),
        (lambda y: jnp.array([-y[1], y[0]]), np.inf),
        (jnp.ones_like, 0.0),
    ],
)
def test_the_ratio_has_no_bound(score, ratio):
    """Infinite for a rotation, 0 for a constant, without a NaN or a warning."""
    y = jax.random.normal(jax.random.key(0), (5, 2))
    found = probed(jax.random.key(1), neb.from_score(score, 0.5, event_shape=(2,)), y)
    assert found.ratio == ratio and found.standard_error == (np.inf if np.isinf(ratio) else 0)


def test_work_around_a_loop_is_twice_the_area_times_the_rotation():
    """Stokes: of ``-y + share * turn y`` it is ``2 pi radius^2 share``, wherever the centre is."""
    y = jax.random.normal(jax.random.key(0), (5, 2))
    found = circulation(jax.random.key(1), turned(0.3), y, 0.5)
    assert abs(found.work) == pytest.approx(2 * jnp.pi * 0.25 * 0.3, rel=1e-4)
    assert found.error.max() < 1e-5
    rounding = circulation(jax.random.key(1), mixture(6, 0.3), jnp.zeros((5, 6)), 0.3)
    assert abs(rounding.work).max() < 1e-4


def test_work_of_an_energy_by_too_few_points_is_below_its_error():
    """Through two narrow modes 64 points find nats of work, and say so; 1,024 find none."""
    modes = neb.gaussian_mixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.01, 0.01], 0.1)
    few, many = (
        circulation(jax.random.key(1), modes, jnp.zeros((3, 2)), 1.0, num_points=count)
        for count in (64, 1_024)
    )
    assert abs(few.work).max() > 1 and (abs(few.work) < few.error).all()
    assert abs(many.work).max() < 1e-4 and many.error.max() < 1e-4


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"num_points": 1}, "num_points must be even and at least 8; got 1"),
        ({"num_points": 9}, "num_points must be even and at least 8; got 9"),
        *(
            ({"radius": bad}, "radius must be a positive, finite number; got")
            for bad in (0.0, np.inf, np.nan, "a", None, [1.0, 2.0])
        ),
    ],
)
def test_loops_are_refused(settings, words):
    with pytest.raises(InvalidArgumentError, match=words):
        circulation(jax.random.key(1), turned(0.3), jnp.zeros((1, 2)), **{"radius": 0.5} | settings)
