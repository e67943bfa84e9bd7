r"""Gaussian noise and a linear operator: pairs that cost one gradient a step.

With :math:`y = x + \sigma\,\xi` the data are :math:`o = A y + e'`. What the covariance of e' is
said to be makes the pair: :math:`R - \sigma^2 A A^T` is exact (`split`), R is not.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event
from neb_ppl.inverse.gram import DiagonalGram, Gram
from neb_ppl.inverse.observations import GaussianObservation
from neb_ppl.inverse.operators import LinearOperator, from_matrix, weighted
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy, no_noise
from neb_ppl.types import Array, Event, Int, PRNGKey, Scalar

__all__ = ["LinearGaussianPosterior", "Whitened", "linear_gaussian", "whiten"]


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
        operator = from_matrix(inverse @ operator.matrix(), operator.in_shape)
        constant = jnp.sum(jnp.log(jnp.diag(observation.factor)))
        o, one = inverse @ jnp.ravel(o), jnp.ones((), o.dtype)
        return Whitened(operator, o, one, operator.gram(), constant)
    gram = operator.gram()
    if scale.ndim == 0 or isinstance(gram, DiagonalGram):
        return Whitened(operator, o, scale**2, gram, zero)
    operator = weighted(1 / scale, operator)
    constant = jnp.sum(jnp.log(scale))
    return Whitened(operator, o / scale, jnp.ones((), o.dtype), operator.gram(), constant)


@value
class LinearGaussianPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log N(o;\ A y,\ R + e\,\sigma^2 A A^T)`.

    The excess e is -1 for `split`, 0 for `inflated` and `direct`, and 1 on the way of an annealed
    start.
    """

    prior: SmoothedEnergy
    observation: GaussianObservation
    white: Whitened
    excess: Scalar
    closure: str = static()  # pyright: ignore[reportIncompatibleVariableOverride]

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event; the likelihood's part is normalised where `is_normalised`."""
        check_event(self, y)
        c1 = self.excess * self.sigma**2
        return self.prior(y) + self.white.energy(c1, self.white.operator(y))

    def with_excess(self, excess: float | Array) -> "LinearGaussianPosterior":
        """The same target with another e; its jump is then no one's posterior."""
        leaf = jnp.asarray(excess, self.excess.dtype)
        return dataclasses.replace(self, excess=leaf)  # pyright: ignore[reportArgumentType]

    @property
    def bound(self) -> Scalar:
        """``tau / ||A||`` for noise of one scale."""
        return self.white.bound()

    @property
    def is_normalised(self) -> bool:
        """Not where the determinant of A A^T is unknown."""
        return self.white.gram.has_determinant

    def clean_mean(self, y: Event) -> Event:
        """The prior's jump; y itself under `direct`."""
        return y if self.closure == "direct" else super().clean_mean(y)

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """The prior's; none under `direct`."""
        return no_noise(y) if self.closure == "direct" else super().clean_noise(rng_key, y)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        target, jump, exactness, bias = _WORDS[self.closure]
        return Explanation(
            self.closure,
            target,
            jump,
            exactness,
            bias,
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step" + _JUMP_COST * (self.closure != "direct"),
        )


def linear_gaussian(
    prior: SmoothedEnergy, observation: GaussianObservation, closure: str, excess: float
) -> LinearGaussianPosterior:
    """The posterior, its A A^T decomposed once."""
    white = whiten(observation)
    excess_leaf = jnp.asarray(excess, white.value.dtype)
    return LinearGaussianPosterior(prior, observation, white, excess_leaf, closure)


SPLIT_IS_EXACT = (
    "for this prior, always: y in law, x in mean and covariance (x given y taken as Gaussian)"
)
_JUMP_COST = "; a draw of x: d Hessian products up to 128 dimensions, 20 beyond"
_WORDS = {
    "split": (
        "p_sigma(y) N(o; A y, R - sigma^2 A A^T)",
        "the prior's own, stochastic",
        SPLIT_IS_EXACT,
        "none",
    ),
    "inflated": (
        "p_sigma(y) N(o; A y, R)",
        "the prior's own, stochastic",
        "for noise of covariance R + sigma^2 A A^T, more than there is",
        "order sigma^2, too wide along what is seen",
    ),
    "direct": (
        "p_sigma(y) N(o; A y, R)",
        "none: y is taken for x",
        "never; it is the posterior of the smoothed variable",
        "order sigma^2, too wide everywhere",
    ),
}
