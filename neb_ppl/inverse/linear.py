r"""Gaussian noise and a linear operator: pairs that cost one gradient a step.

With :math:`y = x + \sigma\,\xi` the data are :math:`o = A y + e'`. What the covariance of e' is
said to be makes the pair: :math:`R - \sigma^2 A A^T` is exact (`split`), R is not.
"""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp

from neb_ppl._precise import matmul
from neb_ppl._pytree import value
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.inverse.gram import DiagonalGram, Gram
from neb_ppl.inverse.observations import GaussianObservation
from neb_ppl.inverse.operators import LinearOperator, from_matrix, weighted
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy
from neb_ppl.inverse.recalibrated import RecalibratedEnergy
from neb_ppl.types import Array, Event, Scalar

__all__ = ["SplitPosterior", "Whitened", "WhitenedPosterior", "claim_of_split", "whiten"]


def claim_of_split(prior: SmoothedEnergy) -> tuple[str, str]:
    """How far it is exact, and its bias."""
    law = "y in law, x in mean and covariance (x given y taken as Gaussian)"
    if isinstance(prior, RecalibratedEnergy):
        law = "y in law, x in mean; its covariance given y is recalibrated"
    if prior.is_exact:
        return f"for this prior, always: {law}", "none"
    return (
        f"for the prior as it is: {law}, where that is the density of data plus noise",
        "none but the prior's",
    )


class Whitened(NamedTuple):
    """A linear-Gaussian observation in coordinates where its noise covariance is ``c0 I``.

    Attributes
    ----------
    operator, value
    c0 : scalar array, or of the output's shape where `gram` is diagonal
    gram : Gram
        ``A A^T``.
    constant : scalar array
        What the change of coordinates adds to the energy.
    """

    operator: LinearOperator
    value: Array
    c0: Array
    gram: Gram
    constant: Scalar

    def energy(self, c1: Any, seen: Array) -> Scalar:
        r"""Minus log density of :math:`N(o; seen, c_0 I + c_1 A A^T)`."""
        r = self.value - seen
        quadratic = self.gram.quadratic(self.c0, c1, r)
        normaliser = self.gram.log_determinant(self.c0, c1) + r.size * jnp.log(2 * jnp.pi)
        return 0.5 * (quadratic + normaliser) + self.constant

    def bound(self) -> Scalar:
        """The sigma below which ``R - sigma^2 A A^T`` is positive definite."""
        if isinstance(self.gram, DiagonalGram):
            return jnp.sqrt(jnp.min(self.c0 / self.gram.eigenvalues))
        return jnp.sqrt(self.c0 / self.gram.norm())


def whiten(observation: GaussianObservation) -> Whitened:
    """Correlated noise always, unequal noise where A A^T is not diagonal."""
    operator, o, scale = observation.operator, observation.value, observation.noise_scale
    zero = jnp.zeros((), o.dtype)
    if observation.factor is not None:
        inverse = jnp.linalg.inv(observation.factor)
        operator = from_matrix(matmul(inverse, operator.matrix()), operator.in_shape)
        constant = jnp.sum(jnp.log(jnp.diag(observation.factor)))
        o, one = matmul(inverse, jnp.ravel(o)), jnp.ones((), o.dtype)
        return Whitened(operator, o, one, operator.gram(), constant)
    gram = operator.gram()
    if scale.ndim == 0 or isinstance(gram, DiagonalGram):
        return Whitened(operator, o, scale**2, gram, zero)
    operator = weighted(1 / scale, operator)
    constant = jnp.sum(jnp.log(scale))
    return Whitened(operator, o / scale, jnp.ones((), o.dtype), operator.gram(), constant)


class WhitenedPosterior(PosteriorEnergy):
    """A posterior of linear-Gaussian data, in coordinates where their noise is white."""

    white: Whitened

    @property
    def bound(self) -> Scalar:
        """``tau / ||A||`` for noise of one scale."""
        return self.white.bound()

    @property
    def is_normalised(self) -> bool:
        """Not where the determinant of A A^T is unknown."""
        return self.white.gram.has_determinant


@value
class SplitPosterior(WhitenedPosterior):
    r"""Energy :math:`\phi(y) - \log N(o;\ A y,\ R - \sigma^2 A A^T)`; the jump is the prior's."""

    closure: ClassVar[str] = "split"
    prior: SmoothedEnergy
    observation: GaussianObservation
    white: Whitened

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-log N(o; A y, R - sigma^2 A A^T)``, normalised where `is_normalised`."""
        return self.white.energy(-(self.sigma**2), self.white.operator(y))

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        return Explanation(
            "split",
            "p_sigma(y) N(o; A y, R - sigma^2 A A^T)",
            "the prior's own, stochastic",
            *claim_of_split(self.prior),
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step; a draw of x: d Hessian products up to 128 "
            "dimensions, 20 beyond",
        )
