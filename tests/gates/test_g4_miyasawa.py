"""G4: Miyasawa's identities on exact draws.

Each is a mean of independent terms: abs z < 5, a false alarm in 6e-7 of runs; the risk identity
also within 1 %, about 4 of its standard errors.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb

SIGMA, N, D = 0.6, 40_000, 8


@pytest.fixture(scope="module")
def pairs():
    """Energy, clean x, and y = x + noise."""
    energy = mixture(D, SIGMA)
    x = energy.sample_clean(jax.random.key(0), (N,))
    return energy, x, neb.smooth(jax.random.key(1), x, SIGMA)


def z(terms: np.ndarray) -> np.ndarray:
    """z-scores of the column means against 0."""
    terms = np.asarray(terms, np.float64).reshape(len(terms), -1)
    return terms.mean(axis=0) / (terms.std(axis=0) / np.sqrt(len(terms)))


def estimates(energy, y, factor: float = 1.0):
    return y + factor * SIGMA**2 * jax.vmap(energy.score)(y)


def risk_gap(energy, x, y, factor: float = 1.0) -> np.ndarray:
    """Terms of ``E|X - xhat|^2 - (d sigma^2 - sigma^4 E|score|^2)``."""
    score = jax.vmap(energy.score)(y)
    error = jnp.sum((x - estimates(energy, y, factor)) ** 2, axis=1)
    return np.asarray(error - (D * SIGMA**2 - SIGMA**4 * jnp.sum(score**2, axis=1)))


def test_the_mean_of_the_jumps_is_the_mean_of_x(pairs):
    energy, _, y = pairs
    assert np.abs(z(estimates(energy, y) - energy.mean())).max() < 5


def covariance_gap(energy, x, y, factor: float = 1.0) -> np.ndarray:
    """Terms of ``E[(X - xhat)(X - xhat)^T - Cov(X|Y)]``, with the Hessian's part times `factor`."""
    covariance = jax.vmap(lambda event: neb.posterior_covariance(energy, event))(y)
    prior = SIGMA**2 * jnp.eye(D)[None]
    error = x - estimates(energy, y)
    return np.asarray(error[:, :, None] * error[:, None, :] - prior - factor * (covariance - prior))


def test_the_errors_have_the_posterior_covariance(pairs):
    """Mutants: no Hessian, its sign, sigma for sigma^2 in front of it."""
    energy, x, y = pairs
    few = (energy, x[:10_000], y[:10_000])
    assert np.abs(z(covariance_gap(*few))).max() < 5
    for factor in (0.0, -1.0, 1 / SIGMA):
        assert np.abs(z(covariance_gap(*few, factor))).max() > 5


@pytest.mark.parametrize("factor", [-1.0, 1 / SIGMA])
def test_mutants_fail_the_risk_identity(pairs, factor):
    assert np.abs(z(risk_gap(*pairs, factor))).max() > 5


def test_the_risk_identity(pairs):
    energy, x, y = pairs
    gap = risk_gap(energy, x, y)
    risk = float(jnp.mean(jnp.sum((x - estimates(energy, y)) ** 2, axis=1)))
    assert np.abs(z(gap)).max() < 5
    assert abs(gap.mean()) < 0.01 * risk


def overlap(energy, x, y, factor: float = 1.0) -> np.ndarray:
    """Terms of ``E[(X - xhat) xhat]``, zero for the exact conditional mean."""
    estimate = estimates(energy, y, factor)
    return (x - estimate) * estimate


def test_the_error_is_orthogonal_to_the_estimate(pairs):
    assert np.abs(z(overlap(*pairs))).max() < 5


@pytest.mark.parametrize("factor", [-1.0, 1 / SIGMA, 0.9])
def test_mutants_fail(pairs, factor):
    """Sign, sigma for sigma^2, and a jump that is a tenth too short: orthogonality sees each."""
    assert np.abs(z(overlap(*pairs, factor))).max() > 5


def test_stochastic_jumps_have_the_mean_and_covariance_of_x(pairs):
    """Second moments of x along each axis and each neighbouring pair; plain jumps fall short."""
    energy, _, y = pairs
    keys = jax.random.split(jax.random.key(2), N)
    x = jax.vmap(lambda key, event: neb.stochastic_jump(key, energy, event))(keys, y)
    covariance = np.asarray(energy.covariance()) - SIGMA**2 * np.eye(D)
    second = covariance + np.outer(energy.mean(), energy.mean())

    def gaps(draws):
        draws = np.asarray(draws)
        own = draws**2 - np.diag(second)
        beside = draws * np.roll(draws, 1, axis=1) - np.array([second[i, i - 1] for i in range(D)])
        return np.concatenate([own, beside], axis=1)

    assert np.abs(z(x - energy.mean())).max() < 5
    assert np.abs(z(gaps(x))).max() < 5
    assert np.abs(z(gaps(estimates(energy, y)))).max() > 5
