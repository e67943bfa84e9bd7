"""The way from the prior at much noise to a posterior at little, as one energy with a position."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neb_ppl._pytree import value
from neb_ppl.energies import GaussianMixtureEnergy, KernelDensityEnergy, NoiseConditionalEnergy
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.estimators import bayes_estimator
from neb_ppl.inverse.gram import largest_eigenvalue
from neb_ppl.inverse.linear import Whitened, WhitenedPosterior, whiten
from neb_ppl.inverse.observations import GaussianObservation
from neb_ppl.inverse.pairs import PosteriorEnergy
from neb_ppl.types import Event, Scalar

__all__ = ["Bridge", "bridge", "has_levels"]

MOST_EXCESS = 256.0
LEAST_POWER = 1e-3
TURN = 0.25


@value
class Bridge:
    r"""Energy at position u of the way.

    From u = -1 to 0 a prior at much noise comes to know the data, in proportion.
    For linear-Gaussian data the likelihood is :math:`N(o;\ A y,\ R + e(u)\,\sigma(u)^2 A A^T)`:
    up to u = .25 the excess e falls from 256 to 1, up to u = 1 sigma falls geometrically to that of
    the posterior. For other data it is :math:`p(o \mid x = \hat x(y))^{t(u)}`, t rising to 1.
    From u = 1 to 2 it turns into the posterior's energy, in proportion.

    Attributes
    ----------
    family : SmoothedEnergy or NoiseConditionalEnergy
        With ``.at(sigma)``, or of one level, at which everything then happens.
    posterior : PosteriorEnergy
    white : Whitened or None
    top : scalar array
        The largest noise level.
    u : scalar array
    """

    family: Any
    posterior: PosteriorEnergy
    white: Whitened | None
    top: Scalar
    u: Scalar

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        return self._turned(
            lambda: self.prior()(y) + self._early_likelihood(y), lambda: self.posterior(y)
        )

    @property
    def sigma(self) -> Scalar:
        """Noise level at u."""
        fallen = jnp.clip((self.u - TURN) / (1 - TURN), 0.0, 1.0)
        return self.top * (self.posterior.sigma / self.top) ** fallen

    def prior(self) -> SmoothedEnergy:
        """The prior at the noise level of u."""
        return self.at_level(self.sigma)

    def at_level(self, sigma: Scalar) -> SmoothedEnergy:
        """The prior at that noise level, or at its only one."""
        return self.family.at(sigma) if has_levels(self.family) else self.family

    def likelihood_energy(self, y: Event) -> Scalar:
        """What the data add to the prior's energy."""
        return self._turned(
            lambda: self._early_likelihood(y), lambda: self.posterior.likelihood_energy(y)
        )

    def _turned(self, early: Callable[[], Scalar], final: Callable[[], Scalar]) -> Scalar:
        """From one to the other between u = 1 and 2, in proportion."""
        late = jnp.clip(self.u - 1, 0.0, 1.0)
        # At the end the early energy may be infinite where the posterior's is not.
        stage = (late > 0).astype(int) + (late == 1)
        return jax.lax.switch(stage, [early, lambda: (1 - late) * early() + late * final(), final])

    def _early_likelihood(self, y: Event) -> Scalar:
        if self.white is not None:
            excess = MOST_EXCESS ** jnp.clip(1 - self.u / TURN, 0.0, 1.0)
            energy = self.white.energy(excess * self.sigma**2, self.white.operator(y))
        else:
            power = jnp.minimum((self.posterior.sigma / self.sigma) ** 2, self._power())
            estimate = bayes_estimator(self.prior(), y)
            energy = -power * self.posterior.observation.log_likelihood(estimate)
        begun = jnp.clip(1 + self.u, 0.0, 1.0)
        return jnp.where(begun > 0, begun * energy, 0.0)

    def _power(self) -> Scalar:
        return LEAST_POWER ** jnp.clip(1 - self.u, 0.0, 1.0)


def bridge(family: Any, posterior: PosteriorEnergy) -> Bridge:
    """The beginning of the way, u = 0."""
    observation = posterior.observation
    white = None
    if isinstance(posterior, WhitenedPosterior):
        white = posterior.white
    elif isinstance(observation, GaussianObservation) and observation.is_linear:
        white = whiten(observation)
    top = jnp.maximum(_top(family, posterior), posterior.sigma)
    dtype = jnp.result_type(float)
    return Bridge(family, posterior, white, top.astype(dtype), jnp.zeros((), dtype))


def has_levels(energy: Any) -> bool:
    """Whether it is known at every noise level, or at a range of them."""
    return isinstance(energy, GaussianMixtureEnergy | KernelDensityEnergy | NoiseConditionalEnergy)


def _top(family: Any, posterior: PosteriorEnergy) -> Scalar:
    """Noise at which there is one mode: the top of a range, or the data's widest spread."""
    if isinstance(family, NoiseConditionalEnergy):
        return family.sigma_range[1]
    if isinstance(family, GaussianMixtureEnergy):
        size = family.means.shape[1]
        spread = family.covariance() - family.sigma**2 * jnp.eye(size)
        return jnp.sqrt(jnp.linalg.eigvalsh(spread)[-1])
    if isinstance(family, KernelDensityEnergy):
        weights = jnp.exp(family.log_weights)[..., None]
        spread = largest_eigenvalue(
            lambda v: jnp.sum(weights * family.chunks * (family.chunks @ v)[..., None], (0, 1)),
            jnp.ones_like(family.centre),
        )
        return jnp.sqrt(spread)
    return posterior.sigma
