r"""Pairs for any likelihood: through the jump, of y itself, or averaged over x given y."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._pytree import static, value
from neb_ppl.energies.base import CleanDraw, SmoothedEnergy
from neb_ppl.estimators import bayes_estimator, covariance_product, covariance_root
from neb_ppl.inverse.forces import ForcedPosterior
from neb_ppl.inverse.observations import Observation
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy
from neb_ppl.types import Array, Event, Float, PRNGKey, Scalar

__all__ = ["MonteCarloPosterior", "PluginPosterior", "SmoothedVariablePosterior"]


@value
class PluginPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log p(o \mid x = \hat x(y))`; the jump is :math:`\hat x(y)`.

    The exact posterior for the law of the jumps, which is narrower than that of x.
    """

    closure: ClassVar[str] = "plugin"
    prior: SmoothedEnergy
    observation: Observation

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-log p(o | x = xhat(y))``."""
        return -self.observation.log_likelihood(bayes_estimator(self.prior, y))

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """The mean."""
        return CleanDraw.surely(self.clean_mean(y))

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        return Explanation(
            "plugin",
            "p_sigma(y) p(o | x = xhat(y))",
            "the Bayes estimator, deterministic",
            "for the law of the jumps as the prior, which lacks E[Cov(X | Y)]",
            "order sigma^2, over-confident",
            float(self.sigma),
            float(self.bound),
            "one gradient and one Hessian product a step",
        )


@value
class SmoothedVariablePosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log p(o \mid x = y)`: `direct` takes y for x, `inflated` jumps."""

    prior: SmoothedEnergy
    observation: Observation
    closure: str = static()  # pyright: ignore[reportIncompatibleVariableOverride]

    def likelihood_energy(self, y: Event) -> Scalar:
        """``-log p(o | x = y)``."""
        return -self.observation.log_likelihood(y)

    def clean_mean(self, y: Event) -> Event:
        """The prior's jump; y itself under `direct`."""
        return y if self.closure == "direct" else super().clean_mean(y)

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """The prior's; y itself under `direct`."""
        return CleanDraw.surely(y) if self.closure == "direct" else super().clean_draw(rng_key, y)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        exactness = {
            "direct": "never; it is the posterior of the smoothed variable",
            "inflated": "never; for linear-Gaussian data it is that of noise R + sigma^2 A A^T",
        }
        return Explanation(
            self.closure,
            "p_sigma(y) p(o | x = y)",
            "the prior's own, stochastic" if self.closure == "inflated" else "none: y is x",
            exactness[self.closure],
            "order sigma^2, too wide",
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step",
        )


@value
class MonteCarloPosterior(ForcedPosterior):
    r"""Energy :math:`\phi(y) - \log \frac1K \sum_k p(o \mid x = \hat x + C^{1/2} z_k)`.

    The z are fixed (common random numbers), so that it is a function of y; the force holds
    :math:`C^{1/2} z_k` fixed. A jump draws its own K points and takes one by its likelihood.
    """

    closure: ClassVar[str] = "monte_carlo"
    mean_is_exact: ClassVar[bool] = False
    prior: SmoothedEnergy
    observation: Observation
    points: Float[Array, "k d"]

    def clean_mean(self, y: Event) -> Event:
        """Mean of the fixed points, weighed by their likelihoods: an estimate."""
        x, log_weights, _, _ = self._candidates(self.points, y)
        return jnp.tensordot(jax.nn.softmax(log_weights), x, axes=1)

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """One of K fresh points, by its likelihood."""
        key_points, key_choice = jax.random.split(rng_key)
        points = jax.random.normal(key_points, self.points.shape, self.points.dtype)
        x, log_weights, num_clamped, lowest = self._candidates(points, y)
        chosen = x[jax.random.categorical(key_choice, log_weights)]
        # No point is possible: NaN says so, where the first of them would pass for a draw.
        possible = jnp.isfinite(log_weights).any()
        return CleanDraw(jnp.where(possible, chosen, jnp.nan), num_clamped, lowest)

    def energies_and_force(self, y: Event) -> tuple[Scalar, Scalar, Event]:
        """The prior's energy, the data's, and the sum's gradient, the cloud's shape held fixed."""
        phi, gradient, product = covariance_product(self.prior, y)
        x, log_weights, _, _ = self._candidates(self.points, y)
        weights = jax.nn.softmax(log_weights)
        pulls = jax.vmap(jax.grad(self.observation.log_likelihood))(x)
        pull = product(jnp.tensordot(weights, pulls, axes=1)) / self.sigma**2
        of_data = jnp.log(len(self.points)) - jax.nn.logsumexp(log_weights)
        return phi, of_data, gradient - pull

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        k = len(self.points)
        return Explanation(
            "monte_carlo",
            f"p_sigma(y) times the mean likelihood of {k} points of N(xhat(y), C(y))",
            f"one of {k} fresh points, by its likelihood",
            "for Gaussian priors and many points",
            f"order sigma^6 of the closure, and 1/sqrt({k}) of the points, which are fixed",
            float(self.sigma),
            float(self.bound),
            "d Hessian products a step up to 128 dimensions, 20 for each point beyond",
        )

    def _candidates(self, points: Array, y: Event) -> tuple[Array, Array, Array, Scalar]:
        """Points around the Bayes estimator and their log likelihoods."""
        noise, num_clamped, lowest = covariance_root(self.prior, y, points)
        x = bayes_estimator(self.prior, y) + noise.reshape(-1, *y.shape)
        return x, jax.vmap(self.observation.log_likelihood)(x), num_clamped, lowest
