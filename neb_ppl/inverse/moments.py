r"""Gaussian closures of :math:`p(o \mid y)`: `moment` and `isotropic`, with their Kalman jumps."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from neb_ppl._precise import matmul
from neb_ppl._pytree import value
from neb_ppl.energies.base import CleanDraw, SmoothedEnergy
from neb_ppl.estimators import bayes_estimator, covariance_product, jump_noise
from neb_ppl.inverse.forces import ForcedPosterior
from neb_ppl.inverse.linear import Whitened, WhitenedPosterior
from neb_ppl.inverse.observations import GaussianObservation
from neb_ppl.inverse.operators import LinearOperator
from neb_ppl.inverse.pairs import Explanation
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar

__all__ = ["IsotropicPosterior", "MomentPosterior", "in_noise_units"]


class Closure(NamedTuple):
    """Everything about one y that value, force and jump need, in units of the data's noise.

    Attributes
    ----------
    phi : scalar array
        The prior's energy.
    gradient, estimate : arrays, shape ``(d,)``
        Of the prior's energy; the Bayes estimator.
    residual : array, shape ``(m,)``
        ``o - A xhat``.
    jacobian, cross : arrays, shape ``(m, d)``
        A, and ``A C``.
    spread, eigenvectors : arrays, shapes ``(m,)`` and ``(m, m)``
        Eigenvalues and -vectors of ``A C A^T``. Those below 0, which a learned energy's C may have,
        count as 0.
    """

    phi: Scalar
    gradient: Float[Array, " d"]
    estimate: Float[Array, " d"]
    residual: Float[Array, " m"]
    jacobian: Float[Array, "m d"]
    cross: Float[Array, "m d"]
    spread: Float[Array, " m"]
    eigenvectors: Float[Array, "m m"]

    @property
    def eigenvalues(self) -> Float[Array, " m"]:
        """Of ``S = I + A C A^T``."""
        return 1 + jnp.maximum(self.spread, 0.0)

    def solve(self, r: Array) -> Array:
        """``S^{-1} r``."""
        return self._weighted(1 / self.eigenvalues, r)

    def correct(self, r: Array) -> Float[Array, " d"]:
        """Kalman's gain: ``C A^T S^{-1} r``, without directions whose spread counts as 0."""
        weights = jnp.where(self.spread > 0, 1 / self.eigenvalues, 0.0)
        return matmul(self.cross.T, self._weighted(weights, r))

    def _weighted(self, weights: Array, r: Array) -> Array:
        return matmul(self.eigenvectors, weights * matmul(self.eigenvectors.T, r))


class NoiseUnits(NamedTuple):
    """The data in units of their noise.

    Attributes
    ----------
    value : array, shape ``(m,)``
    matrix : array, shape ``(m, d)``, or None
        The operator; None where it is not linear.
    root : array, shape ``(m, m)``, or None
        Lower factor of the noise covariance, by which a map that is not linear is divided.
    constant : scalar array
        What the change of units adds to the energy.
    """

    value: Float[Array, " m"]
    matrix: Float[Array, "m d"] | None
    root: Float[Array, "m m"] | None
    constant: Scalar


@value
class MomentPosterior(ForcedPosterior):
    r"""Energy :math:`\phi(y) - \log N(o;\ A \hat x(y),\ S(y)),\ S = R + A C(y) A^T`.

    C is the covariance of x given y; the force holds S fixed. A map that is not linear is
    linearised at :math:`\hat x`.
    """

    closure: ClassVar[str] = "moment"
    prior: SmoothedEnergy
    observation: GaussianObservation
    data: NoiseUnits

    def clean_mean(self, y: Event) -> Event:
        r"""Kalman's :math:`\hat x + C A^T S^{-1} (o - A \hat x)`."""
        close = self.close(y)
        return (close.estimate + close.correct(close.residual)).reshape(y.shape)

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """Of covariance ``C - C A^T S^{-1} A C``: a draw given y, corrected by simulated data."""
        key_prior, key_data = jax.random.split(rng_key)
        noise, num_clamped, lowest = jump_noise(key_prior, self.prior, y)
        # The sum waits for the noise: two batched decompositions at the same time can wait for
        # each other for ever on few cores (jaxlib 0.10).
        close = self.close(y + 0 * noise)
        error = jax.random.normal(key_data, close.residual.shape, y.dtype)
        missing = close.residual - matmul(close.jacobian, jnp.ravel(noise)) - error
        x = close.estimate + jnp.ravel(noise) + close.correct(missing)
        return CleanDraw(x.reshape(y.shape), num_clamped, lowest)

    def close(self, y: Event) -> Closure:
        """The closure at y: one gradient, m Hessian products, m^3."""
        phi, gradient, product = covariance_product(self.prior, y)
        estimate = y - self.sigma**2 * gradient
        residual, jacobian = self._look(estimate)
        cross = jax.vmap(lambda row: jnp.ravel(product(row.reshape(y.shape))))(jacobian)
        spread = matmul(jacobian, cross.T)
        eigenvalues, eigenvectors = jnp.linalg.eigh(0.5 * (spread + spread.T))
        return Closure(
            phi,
            jnp.ravel(gradient),
            jnp.ravel(estimate),
            residual,
            jacobian,
            cross,
            eigenvalues,
            eigenvectors,
        )

    def energies_and_force(self, y: Event) -> tuple[Scalar, Scalar, Event]:
        """The prior's energy, the data's, and the sum's gradient with S held fixed."""
        close = self.close(y)
        weighed = close.solve(close.residual)
        misfit = jnp.vdot(close.residual, weighed)
        normaliser = jnp.sum(jnp.log(2 * jnp.pi * close.eigenvalues))
        of_data = 0.5 * (misfit + normaliser) + self.data.constant
        force = close.gradient - matmul(close.cross.T, weighed) / self.sigma**2
        return close.phi, of_data, force.reshape(y.shape)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        m = self.data.value.size
        return Explanation(
            "moment",
            "p_sigma(y) N(o; A xhat(y), R + A C(y) A^T), log determinant included",
            "Kalman's of x given y and o, stochastic",
            "for Gaussian priors",
            "order sigma^6 (one for each power of the third cumulant of x given y)",
            float(self.sigma),
            float(self.bound),
            f"one gradient and {m} Hessian products a step, eigenvalues of an {m} x {m} matrix",
        )

    def _look(self, estimate: Event) -> tuple[Float[Array, " m"], Float[Array, "m d"]]:
        """Residual and Jacobian at the estimate, in units of the noise."""
        data = self.data
        if data.matrix is not None:
            return data.value - matmul(data.matrix, jnp.ravel(estimate)), data.matrix

        root = data.root
        assert root is not None

        def see(x: Event) -> Array:
            seen = jnp.ravel(self.observation.operator(x))
            return jax.scipy.linalg.solve_triangular(root, seen, lower=True)

        return data.value - see(estimate), jax.jacrev(see)(estimate).reshape(-1, estimate.size)


def in_noise_units(observation: GaussianObservation, white: Whitened | None) -> NoiseUnits:
    """Data of at most as many outputs as x has entries; more say the same, but for a constant."""
    if white is None:
        root = jnp.linalg.cholesky(observation.noise_covariance())
        data = jax.scipy.linalg.solve_triangular(root, jnp.ravel(observation.value), lower=True)
        return NoiseUnits(data, None, root, jnp.sum(jnp.log(jnp.diag(root))))
    spread = jnp.sqrt(jnp.broadcast_to(white.c0, white.value.shape)).ravel()
    matrix, data = white.operator.matrix() / spread[:, None], jnp.ravel(white.value) / spread
    constant = jnp.sum(jnp.log(spread)) + white.constant
    if matrix.shape[0] <= matrix.shape[1]:
        return NoiseUnits(data, matrix, None, constant)
    basis, reduced = jnp.linalg.qr(matrix)
    kept = matmul(basis.T, data)
    rest = jnp.sum((data - matmul(basis, kept)) ** 2)
    left_out = (data.size - kept.size) * jnp.log(2 * jnp.pi)
    return NoiseUnits(kept, reduced, None, constant + 0.5 * (rest + left_out))


@value
class IsotropicPosterior(WhitenedPosterior):
    r"""Energy :math:`\phi(y) - \log N(o;\ A \hat x(y),\ R + r^2 A A^T)`, one gradient and one
    Hessian product.

    :math:`r^2 = \sigma^2 v / (\sigma^2 + v)`, v the variance of one entry of x: the covariance
    of x given y, were the prior Gaussian and isotropic.
    """

    closure: ClassVar[str] = "isotropic"
    prior: SmoothedEnergy
    observation: GaussianObservation
    white: Whitened
    prior_variance: Scalar

    @property
    def remaining(self) -> Scalar:
        """``r^2``, what is left of the variance of x once y is known."""
        return self.sigma**2 * self.prior_variance / (self.sigma**2 + self.prior_variance)

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-log N(o; A xhat(y), R + r^2 A A^T)``."""
        estimate = bayes_estimator(self.prior, y)
        return self.white.energy(self.remaining, self.operator(estimate))

    @property
    def operator(self) -> LinearOperator:
        """A, in whitened coordinates."""
        return self.white.operator

    def clean_mean(self, y: Event) -> Event:
        r"""Kalman's with covariance :math:`r^2 I`."""
        estimate = bayes_estimator(self.prior, y)
        return estimate + self._gain(self.white.value - self.operator(estimate))

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """A draw of isotropic covariance, corrected by simulated data."""
        key_x, key_data = jax.random.split(rng_key)
        noise = jnp.sqrt(self.remaining) * jax.random.normal(key_x, y.shape, y.dtype)
        error = jax.random.normal(key_data, self.white.value.shape, y.dtype)
        x = bayes_estimator(self.prior, y) + noise
        seen = self.operator(x) + jnp.sqrt(self.white.c0) * error
        return CleanDraw.surely(x + self._gain(self.white.value - seen))

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        return Explanation(
            "isotropic",
            f"p_sigma(y) N(o; A xhat(y), R + r^2 A A^T), r = {float(self.remaining) ** 0.5:.4g}",
            "Kalman's with covariance r^2 I, stochastic",
            "for Gaussian priors of covariance v I",
            "order sigma^4",
            float(self.sigma),
            float(self.bound),
            "one gradient and one Hessian product a step",
        )

    def _gain(self, r: Array) -> Event:
        solved = self.white.gram.solve(self.white.c0, self.remaining, r)
        return self.remaining * self.operator.adjoint(solved)
