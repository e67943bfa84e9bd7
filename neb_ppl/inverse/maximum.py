"""The most probable y, and the x that belongs to it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from neb_ppl._checks import as_finite, check_counts
from neb_ppl.descent import curvature_at, descend
from neb_ppl.energies.base import SmoothedEnergy, check_event
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import bayes_estimator
from neb_ppl.types import Array, Bool, Event, Int, Scalar

__all__ = ["Maximum", "maximum"]

TOLERANCE = 1e-4
FALLING, ROUNDING = 1e-3, 10  # below zero, a curvature that is none of a flat valley


class Maximum(NamedTuple):
    """Where the density of y is largest.

    Attributes
    ----------
    x : array, shape ``(*event,)``
        The mean jump from y.
    y : array, shape ``(*event,)``
    energy : scalar array
    gradient_norm : scalar array
        Root mean square over entries, times sigma: without units.
    curvature : scalar array
        Smallest eigenvalue of the Hessian, times sigma squared. Beyond 128 dimensions Lanczos's,
        which is not below it; NaN where second derivatives are not defined.
    num_steps : int array
    converged : bool array
        The gradient is below the tolerance, and this is no saddle.
    is_saddle : bool array
        The gradient is, and a curvature is below 0: where a start halfway between modes ends.
    """

    x: Event
    y: Event
    energy: Scalar
    gradient_norm: Scalar
    curvature: Scalar
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]
    is_saddle: Bool[Array, ""]

    def __str__(self) -> str:
        if jnp.ndim(self.energy):
            return f"{int(jnp.sum(self.converged))} of {self.energy.size} starts converged"
        found = "converged" if self.converged else "stopped before it converged"
        if self.is_saddle:
            found = (
                "ended at a saddle, where the density rises along a direction (start elsewhere),"
            )
        return (
            f"{found} after {int(self.num_steps)} steps: energy {float(self.energy):.6g}, gradient "
            f"{float(self.gradient_norm):.2g} of a noise deviation"
        )


def maximum(
    posterior: SmoothedEnergy, initial: Event, *, max_steps: int = 500, tolerance: float = TOLERANCE
) -> Maximum:
    r"""Minimise the energy of a posterior by L-BFGS, from one start.

    Under ``closure="direct"`` it is the fixed point of RED and of plug-and-play by gradient steps
    (by proximal steps it is another): the gradient is
    :math:`(y - \hat x(y)) / \sigma^2 - \nabla \log p(o \mid y)`. A maximum is one point and
    says nothing of uncertainty: in many dimensions hardly any draw is near it.

    Parameters
    ----------
    posterior : SmoothedEnergy
        Any energy; closures with a force (moment, monte_carlo) have no gradient to follow.
    initial : array, shape ``(*event,)``
        Batch with `jax.vmap`.
    max_steps : int
    tolerance : float
        On `Maximum.gradient_norm`.

    References
    ----------
    Romano, Elad and Milanfar (2017) for RED; Liu and Nocedal (1989) for L-BFGS.
    """
    check_counts(max_steps=max_steps)
    if not isinstance(posterior, SmoothedEnergy):
        raise InvalidArgumentError(
            f"posterior must be an energy; got {type(posterior).__name__}. The order is "
            "maximum(posterior, initial)."
        )
    check_event(posterior, initial, "initial")
    as_finite("initial", initial)
    if not getattr(posterior, "force_is_gradient", True):
        raise InvalidArgumentError(
            f"{type(posterior).__name__} has a force that is not its gradient: use "
            "closure='split', 'isotropic', 'plugin' or 'direct'."
        )
    return _minimise(posterior, jnp.asarray(initial, jnp.result_type(float)), max_steps, tolerance)


@jax.jit
def _minimise(
    posterior: SmoothedEnergy, initial: Event, max_steps: int, tolerance: float
) -> Maximum:
    found = descend(posterior, initial, max_steps, tolerance)
    y, (curvature, largest) = found.y, curvature_at(posterior, found.y)
    rounding = ROUNDING * jnp.finfo(y.dtype).eps * largest
    is_saddle = found.converged & (curvature < -jnp.maximum(FALLING, rounding))
    return Maximum(
        bayes_estimator(posterior, y),
        y,
        posterior(y),
        found.gradient_norm,
        curvature,
        found.num_steps,
        found.converged & ~is_saddle,
        is_saddle,
    )
