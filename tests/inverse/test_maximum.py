"""Maxima: of a Gaussian posterior in closed form, and where they cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.inverse import from_matrix, gaussian, maximum, posterior_energy

D, SIGMA = 4, 0.3
MATRIX = np.random.default_rng(3).normal(size=(2, D))
MATRIX /= np.linalg.norm(MATRIX, 2)
OBSERVATION = gaussian(from_matrix(MATRIX), [0.3, -0.5], 0.4)


def test_the_maximum_of_a_gaussian():
    """Of `direct`: (P + s^2)^-1 y = A' R^-1 (o - A y), solved by hand, to the tolerance."""
    spread = np.diag([0.1, 0.5, 1.0, 2.0])
    prior = neb.gaussian_mixture([1.0], np.zeros((1, D)), spread[None], SIGMA)
    found = maximum(posterior_energy(prior, OBSERVATION, "direct"), jnp.ones(D))
    precision = np.linalg.inv(spread + SIGMA**2 * np.eye(D)) + MATRIX.T @ MATRIX / 0.16
    exact = np.linalg.solve(precision, MATRIX.T @ np.array([0.3, -0.5]) / 0.16)
    assert found.converged and found.num_steps < 50
    np.testing.assert_allclose(found.y, exact, atol=1e-3)
    np.testing.assert_array_equal(found.x, found.y)


def test_it_is_a_fixed_point_of_plug_and_play():
    """y - xhat(y) = sigma^2 grad log p(o | y) for a prior that is not Gaussian; batched."""
    prior = mixture(D, SIGMA)
    posterior = posterior_energy(prior, OBSERVATION, "direct")
    starts = prior.sample(jax.random.key(0), (5,))
    found = jax.vmap(lambda y: maximum(posterior, y))(starts)
    assert found.converged.all()
    for y in found.y:
        pull = SIGMA**2 * jax.grad(OBSERVATION.log_likelihood)(y)
        np.testing.assert_allclose(y - neb.bayes_estimator(prior, y), pull, atol=2e-4)


@pytest.mark.parametrize("d", [2, 200])  # 200: Lanczos
def test_a_saddle_is_no_maximum(d):
    """Halfway between modes at -1 and 1 that the data cannot tell apart, and beside it.

    There -log p(y) has the second derivative 1 / v - 1 / v^2, with variances v around the modes.
    """
    modes = np.zeros((2, d))
    modes[:, 0] = -1, 1
    prior = neb.gaussian_mixture([0.5, 0.5], modes, [0.04, 0.04], SIGMA)
    hidden = np.zeros((1, d))
    hidden[0, 1] = 1.0
    posterior = posterior_energy(prior, gaussian(from_matrix(hidden), [0.2], 1.0))
    found = maximum(posterior, jnp.zeros(d))
    variance = 0.04 + SIGMA**2
    curvature = SIGMA**2 * (1 / variance - 1 / variance**2)
    np.testing.assert_allclose(found.curvature, curvature, rtol=1e-3)
    assert found.is_saddle and not found.converged and "ended at a saddle" in str(found)
    beside = maximum(posterior, jnp.zeros(d).at[0].set(0.1))
    assert beside.converged and not beside.is_saddle and beside.curvature > 0


def test_sharp_data_make_no_saddle():
    """Of a Gaussian prior, in float32: what rounds off the largest eigenvalue is no saddle."""
    d = 20
    prior = neb.gaussian_mixture([1.0], np.zeros((1, d)), [0.04], SIGMA)
    rows = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0][:5]
    sharp = gaussian(from_matrix(rows), np.zeros(5), 1e-4)
    found = maximum(posterior_energy(prior, sharp, "direct"), jnp.zeros(d))
    assert found.converged and not found.is_saddle


def test_refused():
    prior = mixture(D, SIGMA)
    with pytest.raises(InvalidArgumentError, match="not its gradient"):
        maximum(posterior_energy(prior, OBSERVATION, "moment"), jnp.ones(D))
    with pytest.raises(EventShapeError, match="initial has shape"):
        maximum(posterior_energy(prior, OBSERVATION), jnp.ones(3))
    with pytest.raises(NonFiniteDataError, match="initial must hold finite"):
        maximum(posterior_energy(prior, OBSERVATION), jnp.full(D, jnp.nan))
    with pytest.raises(InvalidArgumentError, match="The order is maximum"):
        maximum(jnp.ones(D), posterior_energy(prior, OBSERVATION))
    with pytest.raises(InvalidArgumentError, match="posterior already"):
        posterior_energy(posterior_energy(prior, OBSERVATION), OBSERVATION)
