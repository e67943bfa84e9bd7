r"""Pairs for any likelihood: through the jump, of y itself, or averaged over x given y."""

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, check_event
from neb_ppl.estimators import bayes_estimator, covariance_product, covariance_root
from neb_ppl.inverse.moments import refuse_latents
from neb_ppl.inverse.observations import Observation
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy, no_noise
from neb_ppl.types import Array, Event, Float, Int, PRNGKey, Scalar

__all__ = ["MonteCarloPosterior", "PluginPosterior", "SmoothedVariablePosterior"]


@value
class PluginPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log p(o \mid x = \hat x(y))`; the jump is :math:`\hat x(y)`.

    The exact posterior for the law of the jumps, which is narrower than that of x.
    """

    closure: ClassVar[str] = "plugin"
    is_overconfident: ClassVar[bool] = True
    prior: SmoothedEnergy
    observation: Observation

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        return self.prior(y) - self.observation.log_likelihood(bayes_estimator(self.prior, y))

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """None."""
        return no_noise(y)

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

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        return self.prior(y) - self.observation.log_likelihood(y)

    def clean_mean(self, y: Event) -> Event:
        """The prior's jump; y itself under `direct`."""
        return y if self.closure == "direct" else super().clean_mean(y)

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """The prior's; none under `direct`."""
        return no_noise(y) if self.closure == "direct" else super().clean_noise(rng_key, y)

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        direct = self.closure == "direct"
        return Explanation(
            self.closure,
            "p_sigma(y) p(o | x = y)",
            "none: y is taken for x" if direct else "the prior's own, stochastic",
            "never; it is the posterior of the smoothed variable" if direct else "never",
            "order sigma^2, too wide",
            float(self.sigma),
            float(self.bound),
            "one gradient of the prior a step",
        )


@value
class MonteCarloPosterior(PosteriorEnergy):
    r"""Energy :math:`\phi(y) - \log \frac1K \sum_k p(o \mid x = \hat x + C^{1/2} z_k)`.

    The z are fixed (common random numbers), so that it is a function of y. What JAX sees as its
    gradient is a force, with :math:`C^{1/2} z_k` held fixed: see `MomentPosterior`. A jump draws
    its own K points and takes one by its likelihood.
    """

    closure: ClassVar[str] = "monte_carlo"
    force_is_gradient: ClassVar[bool] = False
    prior: SmoothedEnergy
    observation: Observation
    points: Float[Array, "k d"]

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        return _monte_carlo_energy(self, y)

    def clean_mean(self, y: Event) -> Event:
        """Mean of the fixed points, weighed by their likelihoods."""
        x, log_weights, _, _ = self._candidates(self.points, y)
        return jnp.tensordot(jax.nn.softmax(log_weights), x, axes=1)

    def clean_noise(self, rng_key: PRNGKey, y: Event) -> tuple[Event, Int[Array, ""], Scalar]:
        """One of K fresh points, minus the mean."""
        key_points, key_choice = jax.random.split(rng_key)
        points = jax.random.normal(key_points, self.points.shape, self.points.dtype)
        x, log_weights, num_clamped, lowest = self._candidates(points, y)
        chosen = x[jax.random.categorical(key_choice, log_weights)]
        mean = self.clean_mean(y)
        # No point is possible: NaN says so, where the first of them would pass for a draw.
        chosen = jnp.where(jnp.isfinite(log_weights).any(), chosen, jnp.nan)
        return chosen - mean, num_clamped, lowest

    def value_and_force(self, y: Event) -> tuple[Scalar, Event]:
        """Energy, and its gradient with the shape of the cloud held fixed."""
        phi, gradient, product = covariance_product(self.prior, y)
        x, log_weights, _, _ = self._candidates(self.points, y)
        weights = jax.nn.softmax(log_weights)
        pulls = jax.vmap(jax.grad(self.observation.log_likelihood))(x)
        pull = product(jnp.tensordot(weights, pulls, axes=1)) / self.sigma**2
        count = jnp.log(len(self.points))
        return phi - jax.nn.logsumexp(log_weights) + count, gradient - pull

    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""
        k = len(self.points)
        return Explanation(
            "monte_carlo",
            f"p_sigma(y) times the mean likelihood of {k} points of N(xhat(y), C(y))",
            f"one of {k} fresh points, by its likelihood",
            "for Gaussian priors and many points",
            f"order sigma^6 of the closure, and 1/{k} of the points",
            float(self.sigma),
            float(self.bound),
            "d Hessian products a step up to 128 dimensions, 20 for each point beyond",
        )

    def _candidates(self, points: Array, y: Event) -> tuple[Array, Array, Array, Scalar]:
        """Points around the Bayes estimator and their log likelihoods."""
        noise, num_clamped, lowest = covariance_root(self.prior, y, points)
        x = bayes_estimator(self.prior, y) + noise.reshape(-1, *y.shape)
        return x, jax.vmap(self.observation.log_likelihood)(x), num_clamped, lowest


@jax.custom_jvp
def _monte_carlo_energy(posterior: MonteCarloPosterior, y: Event) -> Scalar:
    return posterior.value_and_force(y)[0]


@partial(_monte_carlo_energy.defjvp, symbolic_zeros=True)
def _force(primals: tuple, tangents: tuple) -> tuple:
    posterior, y = primals
    refuse_latents(tangents[0], "monte_carlo")
    phi, force = posterior.value_and_force(y)
    return phi, jnp.vdot(force, jnp.asarray(tangents[1]))
