"""What every pair of a walk's target and its jump is."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp

from neb_ppl.energies.base import CleanDraw, ConditionedEnergy, SmoothedEnergy, check_event
from neb_ppl.estimators import Jump, bayes_estimator, clean_draw, stochastic_jump
from neb_ppl.inverse.observations import Observation
from neb_ppl.types import Event, PRNGKey, Scalar

__all__ = ["MEANS_OF_X", "ON_SMOOTHED_POSTERIOR", "Explanation", "PosteriorEnergy"]

# Closures whose walk is on p(y | o), the posterior of x with the noise of sigma.
ON_SMOOTHED_POSTERIOR = ("moment", "isotropic", "monte_carlo")
# Closures whose mean jump is the mean of x given y and the data, up to their bias.
MEANS_OF_X = ("split", "moment", "isotropic")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a posterior energy is, in words and numbers.

    Attributes
    ----------
    closure : str
    target : str
        Density of the walk.
    jump : str
        The way to x that belongs to it.
    exactness : str
        When draws are those of x given o.
    bias : str
        Leading order of the error of the log likelihood.
    sigma, bound : float
        The noise level, and below which `split` exists for these data; NaN where the closure does
        not know.
    cost : str
        Of one walk step's gradient, and of a jump.
    """

    closure: str
    target: str
    jump: str
    exactness: str
    bias: str
    sigma: float
    bound: float
    cost: str

    def __str__(self) -> str:
        bound = "" if self.bound != self.bound else f" (split exists below {self.bound:.4g})"
        lines = {
            "closure": self.closure,
            "walk on": self.target,
            "jump by": self.jump,
            "exact": self.exactness,
            "bias": self.bias,
            "sigma": f"{self.sigma:.4g}{bound}",
            "cost": self.cost,
        }
        return "\n".join(f"{name:8} {text}" for name, text in lines.items())


class PosteriorEnergy(ConditionedEnergy):
    r"""Energy of y given data, :math:`-\log p_\sigma(y) - \log p(o \mid y)`, and its jump.

    Made by `neb_ppl.posterior_energy`. It goes wherever an energy goes; `neb_ppl.sample`,
    `mean_jump`, `stochastic_jump` and `bayes_estimator` take the jump from it.

    Attributes
    ----------
    prior : SmoothedEnergy
    observation : Observation
    jump : Jump
        `stochastic_jump`: draws of x, not means.
    mean_is_exact : bool
        Whether mean jumps are the means of stochastic ones, not estimates of these.
    """

    closure: ClassVar[str]
    mean_is_exact: ClassVar[bool] = True
    prior: SmoothedEnergy
    observation: Observation

    @property
    def sigma(self) -> Scalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Noise level of the prior."""
        return self.prior.sigma

    @property
    def event_shape(self) -> tuple[int, ...] | None:  # pyright: ignore
        """Shape of one event of the prior."""
        return self.prior.event_shape

    @property
    def scale(self) -> Any:
        """The prior's data scale, where it has one."""
        return getattr(self.prior, "scale", None)

    @property
    def jump(self) -> Jump:
        """Draws of x given y and the data."""
        return stochastic_jump

    @property
    def bound(self) -> Scalar:
        """Below which sigma `split` exists for these data; NaN where the closure does not know."""
        return jnp.asarray(jnp.nan)

    @property
    def is_normalised(self) -> bool:
        """Whether the likelihood's part has its constant, so that there may be an evidence."""
        return True

    @abc.abstractmethod
    def likelihood_energy(self, y: Event) -> Scalar:
        r"""What the data add to the prior's energy, :math:`-\log p(o \mid y)`."""

    @abc.abstractmethod
    def explain(self) -> Explanation:
        """Target, jump, exactness, bias, bound on sigma, and cost."""

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        return self.prior(y) + self.likelihood_energy(y)

    def clean_mean(self, y: Event) -> Event:
        """That of the prior: given y, x and the data are independent."""
        return bayes_estimator(self.prior, y)

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """That of the prior."""
        return clean_draw(rng_key, self.prior, y)
