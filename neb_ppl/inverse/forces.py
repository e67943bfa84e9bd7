"""Closures with a Hessian in their likelihood: their gradient would need third derivatives."""

import abc
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._pytree import is_constant
from neb_ppl.energies.base import check_event
from neb_ppl.inverse.pairs import PosteriorEnergy
from neb_ppl.types import Event, Scalar

__all__ = ["ForcedPosterior"]


class ForcedPosterior(PosteriorEnergy):
    """A posterior whose gradient, as JAX sees it, is a **force**: the Hessian is held fixed.

    Kernels of leapfrogs that accept or reject by the energy (MALA, HMC, NUTS, GHMC) stay exact,
    since any kick by a field of y alone keeps volume and can be reversed. Unadjusted walks would
    settle elsewhere, and are refused.
    """

    force_is_gradient: ClassVar[bool] = False

    @abc.abstractmethod
    def energies_and_force(self, y: Event) -> tuple[Scalar, Scalar, Event]:
        """The prior's energy, the data's, and the sum's gradient with the Hessian held fixed."""

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        return _energy(self, y)

    def likelihood_energy(self, y: Event) -> Scalar:
        """The data's part. Its JAX gradient is not its part of the force."""
        return self.energies_and_force(y)[1]


@jax.custom_jvp
def _energy(posterior: ForcedPosterior, y: Event) -> Scalar:
    of_prior, of_data, _ = posterior.energies_and_force(y)
    return of_prior + of_data


@partial(_energy.defjvp, symbolic_zeros=True)
def _force(primals: tuple, tangents: tuple) -> tuple:
    posterior, y = primals
    if not is_constant(tangents[0]):
        raise TypeError(
            f"the {posterior.closure} closure can be differentiated in y alone: its own numbers "
            "(noise scale, operator, sigma) cannot be latent. Use closure='split' or 'isotropic'."
        )
    of_prior, of_data, force = posterior.energies_and_force(y)
    return of_prior + of_data, jnp.vdot(force, jnp.asarray(tangents[1]))
