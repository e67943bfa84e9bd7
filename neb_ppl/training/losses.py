"""What a learned energy minimises."""

from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from neb_ppl._noise import standard_normal
from neb_ppl._pytree import value
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.neural import NoiseConditionalEnergy
from neb_ppl.energies.variational import VariationalEnergy
from neb_ppl.estimators import bayes_estimator, smooth
from neb_ppl.types import Array, Float, PRNGKey, PyTree, Scalar

__all__ = ["DenoisingLoss", "Loss", "Stateless", "denoising_loss"]


class Loss(Protocol):
    """What `neb_ppl.fit` minimises: a pytree, with a state of its own that it carries along.

    Every step calls ``state = loss.advance(rng_key, model, x, state)``, which is not
    differentiated, then differentiates ``loss(rng_key, model, x, state)`` in the model's weights.
    A loss whose `risk` is not the denoising risk says what it is, and in which unit, by an
    attribute ``measure``, and one that is not in that unit itself tells ``"risk"`` of each batch
    among its numbers.
    """

    keeps_best: ClassVar[bool]
    """Whether the weights of the lowest `risk` are the best, or else the last are."""

    learns_from_y: ClassVar[bool]
    """Whether the data hold the model's noise already, so that they are y and not x."""

    def init(self, rng_key: PRNGKey, model: Any, x: Array) -> PyTree:
        """The state before the first step; x are the training data."""
        ...

    def advance(self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree) -> PyTree:
        """The state of the next step; x is a batch."""
        ...

    def __call__(
        self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The loss of a batch, and numbers for `History.stats`."""
        ...

    def risk(self, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
        """What is measured on held-out data, and chooses the best weights."""
        ...


class Stateless:
    """What a `Loss` that carries nothing along does about its state."""

    keeps_best: ClassVar[bool] = True
    learns_from_y: ClassVar[bool] = False

    def init(self, rng_key: PRNGKey, model: Any, x: Array) -> None:
        """Nothing to carry; where a loss refuses what it does not fit."""

    def advance(self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree) -> PyTree:
        """Nothing to do."""
        return state


@value
class DenoisingLoss(Stateless):
    """`denoising_loss`, as `neb_ppl.fit` wants it."""

    def __call__(
        self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The denoising risk."""
        return denoising_loss(model, rng_key, x), {}

    def risk(self, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
        """The denoising risk."""
        return denoising_loss(model, rng_key, x)


def denoising_loss(
    model: SmoothedScore | NoiseConditionalEnergy,
    rng_key: PRNGKey,
    x: Float[Array, "n *event"],
) -> Scalar:
    r"""Denoising risk of a batch, per dimension, in squared data units.

    .. math:: \frac{1}{n d} \sum_i \lVert x_i - \hat x(x_i + \sigma \xi_i) \rVert^2

    which is :math:`\sigma^4 / d` times denoising score matching. For an energy
    the gradient with respect to the weights goes through :math:`\nabla\phi`. A noise-conditional
    energy draws one :math:`\sigma` an event, log-uniform in its range, and weighs it by
    :math:`\sigma^{-2} + s^{-2}`, s the data's deviation, so that each level counts alike. A
    variational energy has fresh points in every batch.

    Cost: one gradient of the energy an event; three more to differentiate it.

    References
    ----------
    Vincent (2011); Saremi and Hyvaerinen, "Neural Empirical Bayes" (2019).
    """
    if isinstance(model, NoiseConditionalEnergy):
        return _conditional_loss(model, rng_key, x)
    if isinstance(model, VariationalEnergy):
        model = model.renewed(jax.random.fold_in(rng_key, 1))
    y = smooth(rng_key, x, model.sigma)
    estimates = jax.vmap(lambda event: bayes_estimator(model, event))(y)
    return jnp.mean((x - estimates) ** 2)


def _conditional_loss(model: NoiseConditionalEnergy, rng_key: PRNGKey, x: Array) -> Scalar:
    key_sigma, key_noise = jax.random.split(rng_key)
    low, high = jnp.log(model.sigma_range)
    # Stratified over the batch: every batch sees the whole range.
    ranks = (jnp.arange(len(x)) + jax.random.uniform(key_sigma, (len(x),))) / len(x)
    sigma = jnp.exp(low + (high - low) * ranks).astype(x.dtype)

    def event_loss(event: Array, noise: Array, sigma: Scalar) -> Scalar:
        estimate = bayes_estimator(model.at(sigma), event + sigma * noise)
        weight = 1 / sigma**2 + 1 / model.scale.scale**2
        return weight * jnp.mean((event - estimate) ** 2)

    noise = standard_normal(key_noise, x.shape, x.dtype)
    return jnp.mean(jax.vmap(event_loss)(x, noise, sigma))
