"""Refinement by persistent contrastive divergence: energies of where walks go, against data's."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.networks import UNet, default_network
from neb_ppl.energies.neural import check_one_level
from neb_ppl.errors import NotAnEnergyError
from neb_ppl.estimators import smooth
from neb_ppl.training.loop import fit
from neb_ppl.training.losses import denoising_loss
from neb_ppl.training.state import History
from neb_ppl.types import Array, ArrayLike, PRNGKey, Scalar
from neb_ppl.walks.base import Walk, walk_on
from neb_ppl.walks.langevin import KineticLangevin
from neb_ppl.walks.starts import start_at_data, start_at_noise

__all__ = ["ContrastiveLoss", "default_refinement", "refine"]

MAX_REFERENCE = 1_000
REFINE_STEPS = 400


@value
class ContrastiveLoss:
    r"""Denoising risk, plus how far the energies of data lie above those of persistent chains.

    .. math:: \frac{R(\theta)}{R(\theta_0)} + \frac{w}{d} \Bigl(
              \mathbb{E}_{x + \sigma\xi}\, \phi_\theta - \mathbb{E}_{chains}\, \phi_\theta \Bigr)

    If the chains had the law :math:`p_\theta`, the gradient of the second term would be that of
    :math:`-\frac{w}{d} \log p_\theta` on smoothed data: maximum likelihood. They have the law of
    `walk` at its step, with restarts, so that it acts on the places where that walk goes.

    Attributes
    ----------
    weight : float
        :math:`w`; 0 leaves the denoising risk.
    restart : float
        Probability that a chain starts anew before a step, at data or at pure noise with equal
        chances, so that the roads into the data stay walked.
    steps : int
        Walk steps of every chain between updates. Places that walks reach after thousands of steps
        are raised only by chains that go as far.
    num_chains : int
        The weights of modes are compared by how many chains sit in each.
    walk : Walk

    References
    ----------
    Tieleman (2008); Younes (1999).
    """

    keeps_best: ClassVar[bool] = False
    learns_from_y: ClassVar[bool] = False
    weight: Any = 5.0
    restart: Any = 0.003
    steps: Any = 20
    num_chains: int = static(default=64)
    walk: Walk = KineticLangevin()

    def init(self, rng_key: PRNGKey, model: Any, x: Array) -> tuple[Array, Scalar]:
        """Chains, half at data and half at noise; and the denoising risk to compare with."""
        key_chains, key_risk = jax.random.split(rng_key)
        risk = denoising_loss(model, key_risk, x[:MAX_REFERENCE])
        return self._starts(key_chains, model, x), risk

    def advance(
        self, rng_key: PRNGKey, model: Any, x: Array, state: tuple[Array, Scalar]
    ) -> tuple[Array, Scalar]:
        """Some chains start anew; all walk."""
        chains, risk = state
        key_who, key_start, key_walk = jax.random.split(rng_key, 3)
        anew = jax.random.bernoulli(key_who, self.restart, (self.num_chains,))
        anew = anew.reshape(-1, *[1] * (chains.ndim - 1))
        chains = jnp.where(anew, self._starts(key_start, model, x), chains)
        algorithm, keys = self.walk(model), jax.random.split(key_walk, self.num_chains)
        return jax.vmap(lambda key, y: walk_on(algorithm, key, y, self.steps))(keys, chains), risk

    def __call__(
        self, rng_key: PRNGKey, model: Any, x: Array, state: tuple[Array, Scalar]
    ) -> tuple[Scalar, dict[str, Scalar]]:
        """The loss; and ``risk`` and ``gap``, its two parts before they are weighed."""
        chains, reference = state
        y = smooth(rng_key, x, model.sigma)
        energies, gradients = jax.vmap(jax.value_and_grad(model))(y)
        risk = jnp.mean((x - y + model.sigma**2 * gradients) ** 2)
        gap = jnp.mean(energies) - jnp.mean(jax.vmap(model)(chains))
        size = chains[0].size
        return risk / reference + self.weight * gap / size, {"risk": risk, "gap": gap}

    def risk(self, model: Any, rng_key: PRNGKey, x: Array) -> Scalar:
        """The denoising risk, which does not see what is mended here."""
        return denoising_loss(model, rng_key, x)

    def _starts(self, rng_key: PRNGKey, model: Any, x: Array) -> Array:
        key_data, key_noise, key_which = jax.random.split(rng_key, 3)
        data = start_at_data(key_data, model, x, self.num_chains)
        noise = start_at_noise(key_noise, model, self.num_chains)
        which = jax.random.bernoulli(key_which, 0.5, (self.num_chains, *[1] * (data.ndim - 1)))
        return jnp.where(which, data, noise)


def refine(
    rng_key: PRNGKey,
    energy: SmoothedEnergy,
    x: ArrayLike,
    *,
    num_steps: int = REFINE_STEPS,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    loss: ContrastiveLoss | None = None,
    **options: Any,
) -> tuple[Any, History]:
    """Go on learning where the walk goes: `fit` with `ContrastiveLoss`, after `fit`.

    The denoising risk sees an energy along the data only. Elsewhere a learned energy may lie
    lower: walks find such places after hundreds of steps and stay. This raises them where the
    loss's own walk goes, by default BAOAB at half a sigma, and brings the weights of modes nearer
    to the data's, not right. Wells too stiff for that step are not visited and stay: for walks
    with smaller steps give ``loss=ContrastiveLoss(walk=MALA(step_size))``.

    Judge it by `neb_ppl.diagnostics.diagnose` of walks from data and from noise, longer than the
    refinement's own; ``history.stats["gap"]``, data's energies above the chains', shows that
    chains escape (large and positive) but not that they are right when it is about 0.

    Parameters
    ----------
    rng_key : key
    energy : NeuralEnergy, or a foreign energy with ``params``
        Trained by `fit`; one level of a noise-conditional energy is ``energy.at(sigma)``.
    x : array, shape ``(n, *event)``
        The clean data that it was trained on.
    num_steps, batch_size, learning_rate
        As in `fit`.
    loss : ContrastiveLoss, optional
        Default: 64 chains, and 32 on images that get a U-Net, whose gradients are dear.
    options
        Further arguments of `fit`.

    Returns
    -------
    energy, history
        The averaged weights of the last steps, and the record.

    Raises
    ------
    NotAnEnergyError
        A bare score: there is no energy to compare.
    InvalidArgumentError
        A noise-conditional energy, or the bad arguments of `fit`.

    Notes
    -----
    Cost of a step: that of `fit`, and ``num_chains * steps`` gradients.
    """
    check_one_level(energy, "refine")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"refine compares energies, and {type(energy).__name__} has none: learn an energy "
            "(neb_ppl.deen) instead of a score."
        )
    return fit(
        rng_key,
        energy,
        x,
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        loss=loss or default_loss(energy),
        **options,
    )


def default_loss(energy: SmoothedEnergy) -> ContrastiveLoss:
    """Half the chains where a gradient is that of a U-Net."""
    shape = energy.event_shape
    is_image = shape is not None and isinstance(default_network(shape), UNet)
    return ContrastiveLoss(num_chains=32 if is_image else 64)


def default_refinement(event_shape: tuple[int, ...]) -> int:
    """Steps of refinement that walks need by default: 400 on images that get a U-Net, else none.

    A U-Net denoises an empty image as well as any other and gives it a lower energy than data's.
    """
    return REFINE_STEPS if isinstance(default_network(event_shape), UNet) else 0
