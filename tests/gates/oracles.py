"""Targets known in closed form, and statistics that carry their own error bars."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import neb_ppl as neb


def mixture(d: int, sigma: float, seed: int = 0, components: int = 3, radius: float = 1.0):
    """A skewed mixture with unequal weights and full covariances in d dimensions."""
    rng = np.random.default_rng(seed)
    means = radius * rng.normal(size=(components, d)) / np.sqrt(d) * np.sqrt(2)
    factors = 0.4 * rng.normal(size=(components, d, d)) / np.sqrt(d)
    covariances = factors @ factors.swapaxes(1, 2)
    weights = np.array([0.6, 0.3, 0.1])[:components]
    return neb.gaussian_mixture(weights / weights.sum(), means, covariances, sigma)


def effective_size(draws: np.ndarray) -> np.ndarray:
    """Effective sample size of each column of draws (chains, draws, columns)."""
    return np.minimum(neb.diagnostics.effective_sample_size(draws), draws.shape[0] * draws.shape[1])


def z_of_means(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """z-scores of the means of the columns, standard errors by effective sample size."""
    error = draws.std(axis=(0, 1)) / np.sqrt(effective_size(draws))
    return (draws.mean(axis=(0, 1)) - truth) / error


def directions(d: int, count: int = 8) -> np.ndarray:
    """Fixed unit vectors, shape (d, count)."""
    vectors = np.random.default_rng(123).normal(size=(d, count))
    return vectors / np.linalg.norm(vectors, axis=0)


def projected_cdf(energy, direction: np.ndarray):
    """Exact CDF of ``direction . Y`` for a Gaussian mixture: a one-dimensional mixture."""
    means = np.asarray(energy.means) @ direction
    rotated = np.einsum("kde,d->ke", np.asarray(energy.eigenvectors), direction)
    variances = np.einsum(
        "ke,ke->k", rotated**2, np.asarray(energy.eigenvalues) + float(energy.sigma) ** 2
    )
    weights = np.exp(np.asarray(energy.log_weights))
    return lambda t: sum(
        w * stats.norm.cdf(t, m, np.sqrt(v))
        for w, m, v in zip(weights, means, variances, strict=True)
    )


def responsibilities(energy, y: np.ndarray) -> np.ndarray:
    """Posterior component weights at draws (..., d); their mean over Y is the mixture weights."""
    flat = jnp.asarray(y.reshape(-1, y.shape[-1]))
    each = jax.vmap(lambda event: jax.nn.softmax(energy._components(event)[0]))(flat)
    return np.asarray(each).reshape(*y.shape[:-1], -1)


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, vectors: np.ndarray) -> float:
    """Mean over directions of the squared 2-Wasserstein distance of projections, equal sizes."""
    gaps = np.sort(a @ vectors, axis=0) - np.sort(b @ vectors, axis=0)
    return float(np.mean(gaps**2))
