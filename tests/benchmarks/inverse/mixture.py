"""Gaussian mixtures in NumPy, float64: conditioning, drawing, marginals."""

import dataclasses
from functools import cached_property

import numpy as np
from scipy.special import logsumexp, ndtr

__all__ = ["Mixture"]


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """The density ``sum_k w_k N(mu_k, P_k)``.

    Attributes
    ----------
    log_weights : array, shape (k,)
    means : array, shape (k, d)
    covariances : array, shape (k, d, d)
    """

    log_weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    @cached_property
    def weights(self) -> np.ndarray:
        return np.exp(self.log_weights)

    @cached_property
    def mean(self) -> np.ndarray:
        return self.weights @ self.means

    @cached_property
    def sd(self) -> np.ndarray:
        """Marginal standard deviations."""
        variances = np.diagonal(self.covariances, axis1=1, axis2=2)
        return np.sqrt(self.weights @ (variances + (self.means - self.mean) ** 2))

    @cached_property
    def spectra(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of the covariances."""
        values, vectors = np.linalg.eigh(self.covariances)
        return np.maximum(values, 0.0), vectors

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Independent draws, shape (n, d)."""
        values, vectors = self.spectra
        component = rng.choice(len(self.weights), n, p=self.weights / self.weights.sum())
        noise = np.sqrt(values)[component] * rng.standard_normal((n, self.means.shape[1]))
        draws = self.means[component]
        for k in np.unique(component):
            of_k = component == k
            draws[of_k] += noise[of_k] @ vectors[k].T
        return draws

    def given(self, matrix: np.ndarray, scale: float, observation: np.ndarray):
        """The law of X given ``observation = matrix X + N(0, scale^2 I)``, and its log evidence.

        Each component is conditioned by Kalman's formulas, and weighed by its own evidence.
        """
        residuals = observation - self.means @ matrix.T
        pa = self.covariances @ matrix.T
        s = matrix @ pa + scale**2 * np.eye(len(matrix))
        gains = np.linalg.solve(s, pa.swapaxes(1, 2)).swapaxes(1, 2)
        means = self.means + np.einsum("kdm,km->kd", gains, residuals)
        left = np.eye(matrix.shape[1]) - gains @ matrix
        covariances = left @ self.covariances @ left.swapaxes(1, 2)
        covariances += scale**2 * gains @ gains.swapaxes(1, 2)  # Joseph's form stays symmetric
        whitened = np.einsum(
            "km,km->k", residuals, np.linalg.solve(s, residuals[..., None])[..., 0]
        )
        log_joint = self.log_weights - 0.5 * (
            whitened + np.linalg.slogdet(s)[1] + len(matrix) * np.log(2 * np.pi)
        )
        evidence = logsumexp(log_joint)
        return Mixture(log_joint - evidence, means, covariances), float(evidence)

    def marginal_cdf(self, x: np.ndarray) -> np.ndarray:
        """Probability that coordinate i is below x[i], for all i; exact."""
        sd = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        return self.weights @ ndtr((x - self.means) / sd)
