"""The evidence bound as a loss: variational autoencoders whose decoder noise is sigma."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._checks import check_positive
from neb_ppl._pytree import static, value
from neb_ppl.energies.variational import VariationalEnergy, check_decoder_noise
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.training.losses import Stateless
from neb_ppl.types import Array, Float, PRNGKey, PyTree, Scalar

__all__ = ["ELBOLoss", "negative_elbo"]


@value
class ELBOLoss(Stateless):
    r"""`negative_elbo`, as `neb_ppl.fit` wants it: a sigma-VAE.

    Attributes
    ----------
    beta : float
        Weight of the divergence, positive. For Gaussian noise ``sigma2**2 * L(sigma2)`` is
        ``sigma1**2 * L(sigma1, beta)`` with ``beta = sigma2**2 / sigma1**2``: sigma is another
        name for beta. (For Laplace noise the powers are 1 and not 2.)
    noise : "gaussian" or "laplace"
        Of the decoder.

    References
    ----------
    Kingma and Welling (2014); Saremi, "Learning and inference in imaginary noise models" (2020).
    """

    measure: ClassVar[str] = "negative evidence bound, nats"
    beta: Any = 1.0
    noise: str = static(default="gaussian")

    def init(self, rng_key: PRNGKey, model: Any, x: Array) -> None:
        """Nothing to carry."""
        if not isinstance(model, VariationalEnergy):
            raise InvalidArgumentError(
                f"ELBOLoss is for neb_ppl.uvb(...); got {type(model).__name__}, which has no code."
            )
        check_decoder_noise(self.noise)
        check_positive(beta=self.beta)

    def __call__(
        self, rng_key: PRNGKey, model: Any, x: Array, state: PyTree
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The negative bound per dimension, times sigma**2 over the data's variance.

        In these units the misfit does not grow as sigma falls, and one learning rate serves all.
        Beside it ``risk``, the bound in nats.
        """
        bound = self.risk(model, rng_key, x)
        return bound * (model.sigma / model.scale.scale) ** 2 / x[0].size, {"risk": bound}

    def risk(self, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
        """The negative bound, in nats."""
        return negative_elbo(model, rng_key, x, beta=self.beta, noise=self.noise)


def negative_elbo(
    model: VariationalEnergy,
    rng_key: PRNGKey,
    x: Float[Array, "n *event"],
    *,
    beta: float | Scalar = 1.0,
    noise: str = "gaussian",
) -> Scalar:
    r"""Mean over x of misfit plus beta times divergence, in nats, but for the decoder's constant.

    .. math:: L(\sigma, \beta) = E\,\frac{\lVert x - \nu(z) \rVert^2}{2 \sigma^2}
              + \beta\, KL\bigl(q(z \mid x) \,\|\, N(0, I)\bigr)

    The encoder sees x as it is: the noise of sigma is imagined. Fresh points for each event.
    """

    def one(key: PRNGKey, x: Array) -> Scalar:
        misfit, divergence = model.renewed(key).terms(x, noise)
        return misfit + beta * jnp.sum(divergence)

    return jnp.mean(jax.vmap(one)(jax.random.split(rng_key, len(x)), x))
