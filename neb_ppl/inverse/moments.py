r"""Gaussian closures of :math:`p(o \mid y)`: `moment` and `isotropic`, with their Kalman jumps."""

from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from neb_ppl._pytree import value
from neb_ppl.energies.base import SmoothedEnergy, check_event
from neb_ppl.estimators import bayes_estimator, covariance_product, jump_noise
from neb_ppl.inverse.linear import Whitened
from neb_ppl.inverse.observations import GaussianObservation
from neb_ppl.inverse.operators import LinearOperator
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy
from neb_ppl.types import Array, Event, Float, Int, PRNGKey, Scalar

__all__ = ["IsotropicPosterior", "MomentPosterior"]


class Closure(NamedTuple):
    """Everything about one y that value, force and jump need.

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
    factor : array, shape ``(m, m)``
        Cholesky factor of ``S = R + A C A^T``.
    """

    phi: Scalar
    gradient: Float[Array, " d"]
    estimate: Float[Array, " d"]
    residual: Float[Array, " m"]
    jacobian: Float[Array, "m d"]
    cross: Float[Array, "m d"]
    factor: Float[Array, "m m"]

    def solve(self, r: Array) -> Array:
        """``S^{-1} r``."""
        return jax.scipy.linalg.cho_solve((self.factor, True), r)


@value
class MomentPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log N(o;\ A \hat x(y),\ S(y)),\ S = R + A C(y) A^T`.

    C is the covariance of x given y. A map that is not linear is linearised at
    :math:`\hat x`. The gradient that JAX sees is a **force**, that of the energy with S held fixed:
    the full one needs third derivatives. Kernels of leapfrogs that accept or reject by the energy
    (MALA, HMC, NUTS, GHMC) stay exact, since any kick by a field of y alone keeps volume and can be
    reversed. Unadjusted walks would settle elsewhere, and are refused.
    """

    closure: ClassVar[str] = "moment"
    force_is_gradient: ClassVar[bool] = False
    prior: SmoothedEnergy
    observation: GaussianObservation
    matrix: Float[Array, "m d"] | None
    constant: Scalar

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event, the log determinant included."""
        check_event(self, y)
        return _moment_energy(self, y)

    def clean_mean(self, y: Event) -> Event:
        r"""Kalman's :math:`\hat x + C A^T S^{-1} (o - A \hat x)`."""
        close = self.close(y)
        gain = close.cross.T @ close.solve(close.residual)
        return (close.estimate + gain).reshape(y.shape)

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """Of covariance ``C - C A^T S^{-1} A C``: a draw given y, corrected by simulated data."""
        key_prior, key_data = jax.random.split(rng_key)
        noise, num_clamped, lowest = jump_noise(key_prior, self.prior, y)
        close = self.close(y)
        zero = jnp.zeros(self.observation.value.shape, y.dtype)
        error = jnp.ravel(self.observation.draw(key_data, zero))
        seen = close.jacobian @ jnp.ravel(noise) + error
        return noise - (close.cross.T @ close.solve(seen)).reshape(y.shape), num_clamped, lowest

    def close(self, y: Event) -> Closure:
        """The closure at y: one gradient, m Hessian products, m^3 / 3."""
        phi, gradient, product = covariance_product(self.prior, y)
        estimate = y - self.sigma**2 * gradient
        if self.matrix is None:
            jacobian = jax.jacrev(lambda x: jnp.ravel(self.observation.operator(x)))(estimate)
            jacobian = jacobian.reshape(-1, y.size)
        else:
            jacobian = self.matrix
        cross = jax.vmap(lambda row: jnp.ravel(product(row.reshape(y.shape))))(jacobian)
        spread = jacobian @ cross.T
        factor = jnp.linalg.cholesky(0.5 * (spread + spread.T) + self._noise())
        residual = self.observation.value - self.observation.operator(estimate)
        ravel = jnp.ravel
        return Closure(
            phi, ravel(gradient), ravel(estimate), ravel(residual), jacobian, cross, factor
        )

    def value_and_force(self, y: Event) -> tuple[Scalar, Event]:
        """Energy, and its gradient with S held fixed."""
        close = self.close(y)
        weighed = close.solve(close.residual)
        log_determinant = 2 * jnp.sum(jnp.log(jnp.diag(close.factor)))
        misfit = jnp.vdot(close.residual, weighed)
        constant = close.residual.size * jnp.log(2 * jnp.pi)
        phi = close.phi + 0.5 * (misfit + log_determinant + constant) + self.constant
        force = close.gradient - close.cross.T @ weighed / self.sigma**2
        return phi, force.reshape(y.shape)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        m = self.observation.value.size
        return Explanation(
            "moment",
            "p_sigma(y) N(o; A xhat(y), R + A C(y) A^T), log determinant included",
            "Kalman's of x given y and o, stochastic",
            "for Gaussian priors",
            "order sigma^6 (one for each power of the third cumulant of x given y)",
            float(self.sigma),
            float(self.bound),
            f"one gradient and {m} Hessian products a step, a {m} x {m} Cholesky factor",
        )

    def _noise(self) -> Float[Array, "m m"]:
        scale = jnp.broadcast_to(self.observation.noise_scale, self.observation.value.shape)
        if self.observation.factor is not None:
            return self.observation.factor @ self.observation.factor.T
        return jnp.diag(jnp.ravel(scale) ** 2)


@jax.custom_jvp
def _moment_energy(posterior: MomentPosterior, y: Event) -> Scalar:
    return posterior.value_and_force(y)[0]


@partial(_moment_energy.defjvp, symbolic_zeros=True)
def _force(primals: tuple, tangents: tuple) -> tuple:
    posterior, y = primals
    refuse_latents(tangents[0], "moment")
    phi, force = posterior.value_and_force(y)
    return phi, jnp.vdot(force, jnp.asarray(tangents[1]))


def refuse_latents(tangents: object, closure: str) -> None:
    """A force is a derivative in y alone."""
    leaves = jax.tree.leaves(
        tangents, is_leaf=lambda leaf: isinstance(leaf, jax.custom_derivatives.SymbolicZero)
    )
    if not all(isinstance(leaf, jax.custom_derivatives.SymbolicZero) for leaf in leaves):
        raise TypeError(
            f"the {closure} closure can be differentiated in y alone: its own numbers (noise "
            "scale, operator, sigma) cannot be latent. Use closure='split' or 'isotropic'."
        )


@value
class IsotropicPosterior(PosteriorEnergy):
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
    def bound(self) -> Scalar:
        """As for `split`."""
        return self.white.bound()

    @property
    def is_normalised(self) -> bool:
        """Not where the determinant of A A^T is unknown."""
        return self.white.gram.has_determinant

    @property
    def remaining(self) -> Scalar:
        """``r^2``, what is left of the variance of x once y is known."""
        return self.sigma**2 * self.prior_variance / (self.sigma**2 + self.prior_variance)

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        estimate = bayes_estimator(self.prior, y)
        return self.prior(y) + self.white.energy(self.remaining, self.operator(estimate))

    @property
    def operator(self) -> LinearOperator:
        """A, in whitened coordinates."""
        return self.white.operator

    def clean_mean(self, y: Event) -> Event:
        r"""Kalman's with covariance :math:`r^2 I`."""
        estimate = bayes_estimator(self.prior, y)
        return estimate + self._gain(self.white.value - self.operator(estimate))

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """Isotropic noise, corrected by simulated data."""
        key_x, key_data = jax.random.split(rng_key)
        noise = jnp.sqrt(self.remaining) * jax.random.normal(key_x, y.shape, y.dtype)
        error = jax.random.normal(key_data, self.white.value.shape, y.dtype)
        seen = self.operator(noise) + jnp.sqrt(self.white.c0) * error
        none = jnp.zeros((), jnp.int32), jnp.ones((), y.dtype)
        return noise - self._gain(seen), *none

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
