"""An energy whose jumps spread as far as held-out data say they should."""

from typing import Any

import jax.numpy as jnp

from neb_ppl._checks import as_floats
from neb_ppl._pytree import value
from neb_ppl.energies.base import CleanDraw, ConditionedEnergy, SmoothedEnergy
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import bayes_estimator, jump_noise
from neb_ppl.types import Array, ArrayLike, Event, PRNGKey, Scalar

__all__ = ["RecalibratedEnergy", "recalibrated"]


@value
class RecalibratedEnergy(ConditionedEnergy):
    """An energy whose jumps spread more, or less, than its curvature says; see `recalibrated`."""

    energy: SmoothedEnergy
    factor: Array

    @property
    def sigma(self) -> Scalar:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the energy."""
        return self.energy.sigma

    @property
    def event_shape(self) -> tuple[int, ...] | None:  # pyright: ignore
        """That of the energy."""
        return self.energy.event_shape

    @property
    def scale(self) -> Any:
        """That of the energy."""
        return getattr(self.energy, "scale", None)

    def __call__(self, y: Event) -> Scalar:
        """The energy, as it was."""
        return self.energy(y)

    def clean_mean(self, y: Event) -> Event:
        """The Bayes estimator, as it was."""
        return bayes_estimator(self.energy, y)

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """The energy's noise times the factor."""
        added = jump_noise(rng_key, self.energy, y)
        return CleanDraw(self.clean_mean(y) + self.factor * added.noise, *added[1:])


def recalibrated(
    energy: SmoothedEnergy, factor: float | ArrayLike, *, name: str = "factor"
) -> RecalibratedEnergy:
    """The same energy with stochastic jumps that spread `factor` times as far.

    Parameters
    ----------
    energy : SmoothedEnergy
    factor : float, or array of the event's shape
        From `check_second_moment`: its ``.factor`` or ``.per_entry``.
    name : str
        What messages call the factor.
    """
    array = as_floats(name, factor)
    if array.shape not in ((), energy.event_shape):
        raise InvalidArgumentError(
            f"{name} must be a number or have the event's shape {energy.event_shape}; got shape "
            f"{array.shape}."
        )
    if not bool(jnp.all(jnp.isfinite(array) & (array > 0))):
        hint = " Entries without a check are NaN: use more events." if array.ndim else ""
        raise InvalidArgumentError(
            f"{name} must be positive and finite; got values from {float(array.min()):.3g} to "
            f"{float(array.max()):.3g}.{hint}"
        )
    return RecalibratedEnergy(energy, array)
