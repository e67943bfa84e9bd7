"""A learned score that is nobody's gradient: the Bayes estimator is the network itself."""

import jax.numpy as jnp

from neb_ppl._checks import check_key, check_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedScore, check_event, check_sigma
from neb_ppl.energies.modules import Weights, build_module, initial_weights
from neb_ppl.energies.networks import Network, check_network, default_network
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.types import Array, Event, PRNGKey, Scalar

__all__ = ["NeuralScore", "score_network"]


@value
class NeuralScore(SmoothedScore):
    r"""An explicit score, :math:`s(y) = (U(u) - u) / \varsigma^2` in the network's units.

    Its Jacobian is not symmetric, so that it is the gradient of no energy: there is no accept or
    reject, no stochastic jump, no posterior energy. Build it with `score_network`.

    Attributes
    ----------
    weights, scale
        As of a `NeuralEnergy`.
    network : Network
        Specification of U; compile-time.
    """

    weights: Weights
    sigma: Scalar
    scale: DataScale
    network: Network = static()
    event_shape: tuple[int, ...] = static()

    def score(self, y: Event) -> Event:
        """Cost: one forward pass of U."""
        check_event(self, y)
        u, sigma = self.scale.to_network(y), self.sigma / self.scale.scale
        estimate = build_module(self.network, self.event_shape, self.weights)(u, sigma)
        return (estimate - u) * self.scale.scale / self.sigma**2


def score_network(
    rng_key: PRNGKey,
    event_shape: tuple[int, ...],
    sigma: float | Array,
    *,
    network: Network | None = None,
) -> NeuralScore:
    """An untrained explicit score, for `neb_ppl.fit`: what denoising diffusion models learn.

    Half the cost of an energy's score, and no energy: see `neb_ppl.diagnostics.asymmetry`.

    Parameters
    ----------
    rng_key : key
    event_shape : tuple of int
    sigma : float
        In data units.
    network : MLP or UNet, optional

    References
    ----------
    Saremi, "On approximating grad f with neural networks" (2019).
    """
    sigma, event_shape = check_sigma(sigma), check_shape(event_shape)
    check_key(rng_key)
    network = network or default_network(event_shape)
    check_network(network, event_shape)
    weights = initial_weights(rng_key, network, event_shape)
    return NeuralScore(weights, jnp.asarray(sigma), data_scale(), network, event_shape)
