"""Noise that is not Gaussian but made of Gaussians: `split` for signs and for heavy tails."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats

from neb_ppl._pytree import value
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.inverse.linear import claim_of_split
from neb_ppl.inverse.observations import BernoulliObservation, StudentTObservation
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy
from neb_ppl.types import Array, Event, Scalar

__all__ = ["ProbitSplitPosterior", "StudentTSplitPosterior"]

NUM_NODES = 64
EDGE = 0.98
LOST = 1e-4
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(NUM_NODES)


@value
class ProbitSplitPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \sum_i \log\Phi(\pm a_i y / \sqrt{\tau^2 - \sigma^2 |a_i|^2})`.

    A probit look is the sign of a Gaussian one; rows of A are orthogonal.
    """

    closure: ClassVar[str] = "split"
    prior: SmoothedEnergy
    observation: BernoulliObservation
    row_norms: Array

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-sum log Phi(+-a.y / sqrt(tau^2 - sigma^2 |a|^2))``; NaN beyond the bound."""
        o = self.observation
        spread = jnp.sqrt(o.noise_scale**2 - self.sigma**2 * self.row_norms)
        u = (2 * o.value - 1) * o.operator(y) / spread
        return -jnp.sum(stats.norm.logcdf(u))

    @property
    def bound(self) -> Scalar:
        """``tau / |a|``."""
        return probit_bound(self.observation, self.row_norms)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        return Explanation(
            "split",
            "p_sigma(y) prod Phi(+-a.y / sqrt(tau^2 - sigma^2 |a|^2))",
            "the prior's own, stochastic",
            *claim_of_split(self.prior),
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step",
        )


@value
class StudentTSplitPosterior(PosteriorEnergy):
    r"""Student-t errors as Gaussians of random precision w, each split:

    .. math:: p(o \mid y) = \int N(o;\ A y,\ \tau^2/w - \sigma^2 A A^T)\, \Gamma(w)\, dw

    Precisions beyond :math:`\tau^2 / (\sigma^2 |a|^2)` cannot be split and are left out: `lost` is
    their probability. Rows of A are orthogonal; 64 Gauss-Legendre nodes in log w.
    """

    closure: ClassVar[str] = "split"
    prior: SmoothedEnergy
    observation: StudentTObservation
    row_norms: Array

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-log p(o | y)``, summed over outputs; NaN beyond the bound."""
        return -jnp.sum(self.log_density(self.observation.operator(y)))

    def log_density(self, seen: Array) -> Array:
        """``log p(o | y)`` of each output, normalised but for `lost`; NaN beyond the bound."""
        o = self.observation
        half, shape = o.df / 2, (o.df + 1) / 2
        # Given its error, and but for the smoothing, w is Gamma(shape) around this middle: all but
        # 1e-9 of it lies between these ends.
        middle = -jnp.log((o.df + ((o.value - seen) / o.noise_scale) ** 2) / (o.df + 1))
        reach = jnp.sqrt(1 / shape), 1 / shape
        cap = jnp.log(EDGE * self._largest_precision())
        top = jnp.minimum(cap, middle + jnp.log1p(12 * reach[0] + 30 * reach[1]))
        low = jnp.minimum(middle, top) - 8 * reach[0] - 30 * reach[1]
        ends = jax.lax.stop_gradient(jnp.stack([low, top], axis=-1))
        t = ends[..., :1] + 0.5 * (ends[..., 1:] - ends[..., :1]) * (1 + _NODES)
        w = jnp.exp(t)
        # Around w = 1, where many degrees of freedom would leave differences of large numbers.
        log_prior = half * (t - jnp.expm1(t)) + _log_constant(half)
        scale = jnp.broadcast_to(o.noise_scale, o.value.shape)[..., None]
        variance = scale**2 / w - self.sigma**2 * self.row_norms[..., None]
        misfit = (o.value - seen)[..., None] ** 2 / variance
        log_normal = -0.5 * (misfit + jnp.log(2 * jnp.pi * variance))
        width = 0.5 * (ends[..., 1:] - ends[..., :1])
        density = special.logsumexp(log_prior + log_normal, axis=-1, b=width * _WEIGHTS)
        return jnp.where(self.lost <= LOST, density, jnp.nan)

    @property
    def lost(self) -> Scalar:
        """Largest probability, over outputs, of precisions that cannot be split."""
        half = self.observation.df / 2
        return special.gammaincc(half, half * EDGE * jnp.min(self._largest_precision()))

    @property
    def bound(self) -> Scalar:
        """Where one part in 10,000 is lost: a fraction of ``tau / |a|`` that depends on df."""
        return student_t_bound(self.observation, self.row_norms)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        return Explanation(
            "split",
            "p_sigma(y) times a mixture of N(o; A y, tau^2/w - sigma^2 A A^T) over precisions w",
            "the prior's own, stochastic",
            f"but for precisions of probability {float(self.lost):.1e}, left out",
            f"{float(self.lost):.1e}",
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step",
        )

    def _largest_precision(self) -> Array:
        scale = jnp.broadcast_to(self.observation.noise_scale, self.observation.value.shape)
        return scale**2 / (self.sigma**2 * self.row_norms)


def _log_constant(half: Array) -> Array:
    r""":math:`h \log h - h - \log\Gamma(h)`, by Stirling's series where h is large."""
    large = jnp.maximum(half, 20.0)
    series = 0.5 * jnp.log(large / (2 * jnp.pi)) - 1 / (12 * large) + 1 / (360 * large**3)
    small = jnp.minimum(half, 20.0)
    direct = small * jnp.log(small) - small - special.gammaln(small)
    return jnp.where(half > 20, series, direct)


def probit_bound(observation: BernoulliObservation, row_norms: Array) -> Scalar:
    """``tau / |a|``."""
    return jnp.min(observation.noise_scale / jnp.sqrt(row_norms))


def student_t_bound(observation: StudentTObservation, row_norms: Array) -> Scalar:
    """The sigma at which precisions of probability `LOST` can no longer be split."""
    reach = precision_quantile(observation.df, LOST)
    return jnp.sqrt(EDGE * jnp.min(observation.noise_scale**2 / row_norms) / reach)


@jax.jit
def precision_quantile(df: Scalar, tail: float) -> Scalar:
    """The w that a Gamma(df/2, rate df/2) exceeds with probability `tail`, by bisection."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = special.gammaincc(df / 2, df / 2 * middle) > tail
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jnp.zeros_like(df), jnp.full_like(df, 1e6)
    return jax.lax.fori_loop(0, 60, halve, ends)[1]
