"""The one posterior that is known: a Gaussian mixture under linear-Gaussian data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.energies import GaussianMixtureEnergy, gaussian_mixture
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.inverse.observations import GaussianObservation, Observation

__all__ = ["ExactPosterior", "exact_posterior"]

NEGLIGIBLE = 1e-12


class ExactPosterior(NamedTuple):
    """The posterior of x given o, and how likely o was.

    Attributes
    ----------
    density : GaussianMixtureEnergy
        Clean density p(x | o), at the prior's sigma: ``sample_clean``, ``mean``, and as an energy
        the smoothed posterior p(y | o).
    log_evidence : float
        ``log p(o)``.
    """

    density: GaussianMixtureEnergy
    log_evidence: float


def exact_posterior(prior: GaussianMixtureEnergy, observation: Observation) -> ExactPosterior:
    r"""Posterior of a Gaussian mixture given :math:`o = A x + e`: again a Gaussian mixture.

    .. math:: S_k = A P_k A^T + R,\quad K_k = P_k A^T S_k^{-1},\quad
        \mu_k' = \mu_k + K_k (o - A \mu_k),\quad P_k' = (I - K_k A) P_k,\quad
        w_k' \propto w_k\, N(o;\ A \mu_k,\ S_k)

    In float64 on the host: k times (m^3 + m d^2). Components of weight below 1e-12 are left out.

    Parameters
    ----------
    prior : GaussianMixtureEnergy
        Of clean components P_k; its sigma plays no part but in the result's.
    observation : GaussianObservation
        With a LinearOperator.

    Raises
    ------
    InvalidArgumentError
        Another prior or observation.
    """
    if not isinstance(prior, GaussianMixtureEnergy):
        raise InvalidArgumentError(
            f"prior must be a Gaussian mixture; got {type(prior).__name__}. The order is "
            "exact_posterior(prior, observation)."
        )
    if not (isinstance(observation, GaussianObservation) and observation.is_linear):
        raise InvalidArgumentError(
            f"observation must be linear with Gaussian noise; got {observation!r}."
        )
    a = np.asarray(_matrix(observation), np.float64)
    o = np.asarray(observation.value, np.float64).ravel()
    noise = np.asarray(observation.noise_covariance(), np.float64)
    values, vectors, means = (
        np.asarray(leaf, np.float64)
        for leaf in (prior.eigenvalues, prior.eigenvectors, prior.means)
    )
    covariances = np.einsum("kde,ke,kfe->kdf", vectors, values, vectors)
    cross = covariances @ a.T
    spread = a @ cross + noise
    residual = o - means @ a.T
    solved = np.linalg.solve(spread, residual[..., None])[..., 0]
    gains = np.linalg.solve(spread, cross.swapaxes(1, 2)).swapaxes(1, 2)
    new_means = means + np.einsum("kdm,km->kd", gains, residual)
    new_covariances = covariances - gains @ cross.swapaxes(1, 2)
    log_determinants = np.linalg.slogdet(2 * np.pi * spread)[1]
    log_joint = np.asarray(prior.log_weights, np.float64) - 0.5 * (
        np.sum(residual * solved, axis=1) + log_determinants
    )
    log_evidence = float(np.logaddexp.reduce(log_joint))
    weights = np.exp(log_joint - log_evidence)
    kept = weights > NEGLIGIBLE
    density = gaussian_mixture(
        weights[kept] / weights[kept].sum(),
        new_means[kept].reshape(-1, *prior.event_shape),
        0.5 * (new_covariances + new_covariances.swapaxes(1, 2))[kept],
        prior.sigma,
    )
    return ExactPosterior(density, log_evidence)


def _matrix(observation: GaussianObservation) -> np.ndarray:
    """A, column by column: the adjoint plays no part."""
    operator = observation.operator
    basis = jnp.eye(operator.in_size).reshape(-1, *operator.in_shape)
    return np.asarray(jax.vmap(operator)(basis)).reshape(operator.in_size, -1).T
