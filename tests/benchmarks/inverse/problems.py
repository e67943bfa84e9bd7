"""Linear inverse problems with known posteriors: digits (tiers A, B) and MCGDiff's (tier D).

``python -m tests.benchmarks.inverse.problems`` fits the prior of the digits again.
"""

import dataclasses
import zlib
from collections.abc import Callable
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import neb_ppl as neb
from tests.benchmarks.inverse.mixture import Mixture

__all__ = ["OPERATORS", "TIERS", "Problem", "digits_prior", "groups", "names"]

TIERS = ("A", "B", "D")
COMPONENTS = 20
REGULARISATION = 1e-3
SIDE = 8
VALIDATION, TEST = 4, {"A": 8, "B": 8, "D": 20}
PRIOR = Path(__file__).with_name("prior.npz")


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """One observation ``matrix x + N(0, scale^2 I)`` of one x drawn from the prior.

    Attributes
    ----------
    tier, name, seed
        Together they say which problem it is.
    matrix : array, shape (m, d)
    scale : float
        Standard deviation of the noise.
    truth : array, shape (d,)
    observation : array, shape (m,)
    prior : Mixture
        The law that x was drawn from.
    event_shape : tuple of int
        An image, or (d,).
    unit : float
        Length by which noise levels of samplers are scaled: 1 for images in [0, 1].
    learned : NoiseConditionalEnergy or None
        What samplers may use in place of the prior (tier B).
    """

    tier: str
    name: str
    seed: int
    matrix: np.ndarray
    scale: float
    truth: np.ndarray
    observation: np.ndarray
    prior: Mixture
    event_shape: tuple[int, ...]
    unit: float = 1.0
    learned: Any = None

    @cached_property
    def posterior(self) -> Mixture:
        """The exact posterior."""
        return self._conditioned[0]

    @property
    def log_evidence(self) -> float:
        """log p(observation)."""
        return self._conditioned[1]

    @cached_property
    def _conditioned(self) -> tuple[Mixture, float]:
        return self.prior.given(self.matrix, self.scale, self.observation)

    def exact(self, n: int, seed: int = 0) -> np.ndarray:
        """Independent draws of the exact posterior, shape (n, d)."""
        return self.posterior.draw(np.random.default_rng([17, seed]), n)

    def energy(self, sigma: float):
        """The smoothed prior that a sampler of neb_ppl may use: exact (A, D) or learned (B)."""
        if self.learned is not None:
            return self.learned.at(sigma)
        weights = self.prior.weights / self.prior.weights.sum()
        means = self.prior.means.reshape(-1, *self.event_shape)
        return neb.gaussian_mixture(weights, means, self.prior.covariances, sigma)


def names(tier: str) -> list[str]:
    """Problems of a tier."""
    if tier == "D":
        return [f"d{d} m{m}" for d, m in product((8, 80), (1, 2, 4))]
    return list(OPERATORS)


def groups(tier: str, name: str, stage: str, learned: Any = None) -> list[list[Problem]]:
    """Problems of one stage, ``"validation"`` or ``"test"``; a group shares its operator."""
    first, count = (0, VALIDATION) if stage == "validation" else (100, TEST[tier])
    seeds = range(first, first + count)
    if tier == "D":
        return [[_mcgdiff(name, seed)] for seed in seeds]
    return [[_digit(tier, name, seed, learned) for seed in seeds]]


def _rng(*parts: object) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in parts])


def _inpaint() -> np.ndarray:
    """Half of the pixels, the same half for all."""
    return np.eye(SIDE**2)[np.sort(_rng("mask").permutation(SIDE**2)[: SIDE**2 // 2])]


def _pool() -> np.ndarray:
    """Means of 2 x 2 squares."""
    half = np.kron(np.eye(SIDE // 2), np.full((1, 2), 0.5))
    return np.kron(half, half)


def _blur() -> np.ndarray:
    """Means of 3 x 3 squares, wrapped around."""
    row = sum(np.roll(np.eye(SIDE), shift, axis=1) for shift in (-1, 0, 1)) / 3
    return np.kron(row, row)


OPERATORS: dict[str, tuple[Callable[[], np.ndarray], float]] = {
    "inpaint": (_inpaint, 0.1),
    "pool": (_pool, 0.05),
    "blur": (_blur, 0.1),
    "denoise": (lambda: np.eye(SIDE**2), 0.2),
}


def _digit(tier: str, name: str, seed: int, learned: Any) -> Problem:
    operator, scale = OPERATORS[name]
    prior, matrix = digits_prior(), operator()
    rng = _rng(name, seed)
    truth = prior.draw(rng, 1)[0]
    observation = matrix @ truth + scale * rng.standard_normal(len(matrix))
    event_shape = (SIDE, SIDE)
    return Problem(
        tier, name, seed, matrix, scale, truth, observation, prior, event_shape, learned=learned
    )


def _mcgdiff(name: str, seed: int) -> Problem:
    """25 unit Gaussians on a lattice, and a random operator (Cardoso et al., 2023).

    Means are ``8 (i, j, i, j, ...)``, weights squared normals; the operator has singular vectors
    of a normal matrix and uniform singular values; the noise is uniform below the largest.
    """
    d, m = (int(part[1:]) for part in name.split())
    rng = _rng(name, seed)
    means = np.array([np.tile((i, j), d // 2) for i, j in product(range(-2, 3), repeat=2)]) * 8.0
    weights = rng.standard_normal(len(means)) ** 2
    covariances = np.broadcast_to(np.eye(d), (len(means), d, d))
    prior = Mixture(np.log(weights / weights.sum()), means, covariances)
    u, _, vt = np.linalg.svd(rng.standard_normal((m, d)), full_matrices=False)
    singular = np.sort(rng.uniform(size=m))[::-1]
    matrix, scale = u * singular @ vt, float(singular[0] * rng.uniform())
    truth = prior.draw(rng, 1)[0]
    observation = matrix @ truth + scale * rng.standard_normal(m)
    return Problem("D", name, seed, matrix, scale, truth, observation, prior, (d,), unit=5.0)


@cache
def digits_prior() -> Mixture:
    """The mixture of 20 Gaussians of 8 x 8 digits that is stored beside this file."""
    stored = np.load(PRIOR)
    weights = stored["weights"].astype(np.float64)
    return Mixture(
        np.log(weights / weights.sum()),
        stored["means"].astype(np.float64),
        _unpacked(stored["triangles"].astype(np.float64)),
    )


def _unpacked(triangles: np.ndarray) -> np.ndarray:
    """Symmetric matrices from their lower triangles."""
    d = SIDE**2
    rows, columns = np.tril_indices(d)
    full = np.zeros((len(triangles), d, d))
    full[:, rows, columns] = full[:, columns, rows] = triangles
    return full


def fit_digits_prior() -> None:
    """Fit the mixture to scikit-learn's digits in [0, 1] and store it."""
    from sklearn.datasets import load_digits
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(COMPONENTS, reg_covar=REGULARISATION, random_state=0)
    fitted.fit(load_digits().data / 16)
    rows, columns = np.tril_indices(SIDE**2)
    np.savez_compressed(
        PRIOR,
        weights=fitted.weights_.astype(np.float32),
        means=fitted.means_.astype(np.float32),
        triangles=fitted.covariances_[:, rows, columns].astype(np.float32),
    )


if __name__ == "__main__":
    fit_digits_prior()
