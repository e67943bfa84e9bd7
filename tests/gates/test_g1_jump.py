"""G1: the jump is the exact posterior mean.

Threshold: 1e-5 in float32 and 1e-12 in float64, about ten times the rounding that was measured
(1.4e-6 and 6e-15 at d = 784). Nothing random is left, so the failure rate is 0.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb

LIMITS = {"float32": 1e-5, "float64": 1e-12}


def precision(dtype):
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


def largest_error(energy, jump) -> float:
    """Largest distance of a jump from the closed-form mean, over 50 draws of y."""
    y = energy.sample(jax.random.key(1), (50,))
    exact = jax.vmap(energy.posterior_mean)(y)
    return float(jnp.max(jnp.abs(jax.vmap(lambda event: jump(energy, event))(y) - exact)))


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("d", [2, 64, 784])
def test_jump_is_the_posterior_mean(d, dtype):
    with precision(dtype):
        assert largest_error(mixture(d, 0.3), neb.bayes_estimator) <= LIMITS[dtype]


MUTANTS = {
    "sigma for sigma^2": lambda e, y: y + e.sigma * e.score(y),
    "sign": lambda e, y: y - e.sigma**2 * e.score(y),
    "two for one": lambda e, y: y + 2 * e.sigma**2 * e.score(y),
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("d", [2, 64])
def test_mutants_fail(mutant, d):
    assert largest_error(mixture(d, 0.3), MUTANTS[mutant]) > 1e3 * LIMITS["float32"]


@pytest.mark.parametrize("dtype", LIMITS)
def test_covariance_is_the_posterior_covariance(dtype):
    with precision(dtype):
        energy = mixture(16, 0.3)
        for y in energy.sample(jax.random.key(1), (5,)):
            error = neb.posterior_covariance(energy, y) - energy.posterior_covariance(y)
            assert float(jnp.max(jnp.abs(error))) <= LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("chunk_size", [7, 64, 1000])
def test_kernel_density_jump_is_the_softmax_mean(dtype, chunk_size):
    with precision(dtype):
        x = mixture(64, 0.3).sample_clean(jax.random.key(0), (300,)) + 5.0
        energy = neb.kernel_density(x, 0.3, chunk_size=chunk_size)
        for y in energy.sample(jax.random.key(1), (20,)):
            logits = -np.sum((np.asarray(y) - np.asarray(x, np.float64)) ** 2, axis=1) / 0.18
            weights = np.exp(logits - logits.max())
            exact = weights @ np.asarray(x, np.float64) / weights.sum()
            error = np.abs(np.asarray(neb.bayes_estimator(energy, y)) - exact).max()
            assert error <= 2 * LIMITS[dtype]


@pytest.mark.parametrize("call", [lambda energy, y: energy(y), neb.bayes_estimator])
def test_a_kernel_density_outside_jit_compiles_once(call, compilations):
    energy = neb.kernel_density(np.ones((30, 2)), 0.3, chunk_size=7)
    call(energy, jnp.zeros(2))
    with compilations() as count:
        call(energy, jnp.ones(2))
    assert count == []


@pytest.mark.parametrize("chunk_size", [30, 100])
def test_kernel_density_covariances_of_many_queries(chunk_size):
    """64 Hessians in one compiled program: sigma^2 (I - sigma^2 H) is the covariance of softmax.

    A compiler got 59 of them wrong. Threshold: entries of about .01, rounded to 1e-6.
    """
    x = neb.data.digits("train").x[:100].reshape(100, 64)
    energy = neb.kernel_density(x, 0.3, chunk_size=chunk_size)
    queries = energy.sample(jax.random.key(1), (64,))
    hessians = jax.jit(lambda energy, y: jax.vmap(jax.hessian(energy))(y))(energy, queries)
    for y, hessian in zip(np.asarray(queries, np.float64), np.asarray(hessians), strict=True):
        logits = -np.sum((y - x.astype(np.float64)) ** 2, axis=1) / 0.18
        weights = np.exp(logits - logits.max())
        exact = np.cov(x.T, aweights=weights / weights.sum(), bias=True)
        assert np.abs(0.09 * (np.eye(64) - 0.09 * hessian) - exact).max() <= 1e-5
