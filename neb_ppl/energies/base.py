"""What a smoothed density can do: give its score, and, if it is an energy, its value too."""

import abc
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event, Int, PRNGKey, Scalar

__all__ = ["CleanDraw", "ConditionedEnergy", "SmoothedEnergy", "SmoothedScore"]


class SmoothedScore(abc.ABC):
    """A smoothed density known by its score alone.

    Enough for the Bayes estimator, ULA and kinetic Langevin. Values are pytrees: ``sigma`` and
    all weights are leaves. Every method takes **one** event; batch with `jax.vmap`.

    Attributes
    ----------
    sigma : scalar array
        Standard deviation of the smoothing noise, in data units.
    event_shape : tuple of int, or None
        Shape of one event; None when it is not known (functions of others).
    is_exact : bool
        Whether it is a smoothed density in closed form, so that nothing was learned.
    """

    is_exact: ClassVar[bool] = False
    sigma: Scalar
    event_shape: tuple[int, ...] | None

    @abc.abstractmethod
    def score(self, y: Event) -> Event:
        r"""Score :math:`\nabla_y \log p_\sigma(y)` of the smoothed density, shape ``(*event,)``."""

    def __repr__(self) -> str:
        leaves = jax.tree.leaves(self)
        size = sum(jnp.size(leaf) for leaf in leaves)
        sigma = self.sigma
        shown = sigma if isinstance(sigma, Tracer) else f"{float(sigma):.4g}"
        return (
            f"{type(self).__name__}(event_shape={self.event_shape}, sigma={shown}, "
            f"{size:,} numbers)"
        )


class SmoothedEnergy(SmoothedScore):
    r"""A smoothed density known by its energy :math:`\phi(y) = -\log p_\sigma(y) + \text{const}`.

    A callable ``y -> scalar``: NumPyro's ``potential_fn`` as it is, BlackJAX's ``logdensity_fn``
    with a minus sign.
    """

    @abc.abstractmethod
    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""

    @final
    def score(self, y: Event) -> Event:
        r"""Score :math:`-\nabla\phi(y)`. Cost: one gradient of the energy."""
        return -jax.grad(self)(y)


class CleanDraw(NamedTuple):
    """A draw of x given y, and how far the energy is from a true smoothed density.

    Attributes
    ----------
    x : array, shape ``(*event,)``
    num_clamped : int array
        As in `neb_ppl.estimators.JumpNoise`.
    min_eigenvalue : scalar array
    """

    x: Event
    num_clamped: Int[Array, ""]
    min_eigenvalue: Scalar

    @classmethod
    def surely(cls, x: Event) -> "CleanDraw":
        """One that is no draw at all: x follows from y."""
        return cls(x, jnp.zeros((), jnp.int32), jnp.ones((), x.dtype))


class ConditionedEnergy(SmoothedEnergy):
    r"""An energy of y given data, together with the way from y to x that belongs to it.

    Its score is that of y given the data, and :math:`y + \sigma^2\,score` is in general **not** the
    clean variable: every jump asks the energy itself, so that a walk's target and its jump cannot
    be mixed.
    """

    @abc.abstractmethod
    def clean_mean(self, y: Event) -> Event:
        """Mean of the clean variable given y and the data."""

    @abc.abstractmethod
    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """A draw of the clean variable given y and the data."""


def check_sigma(sigma: float | Array, name: str = "sigma") -> Array:
    """Return `sigma` as a positive, finite scalar array, or say what is wrong with it."""
    if np.shape(sigma) != ():
        raise InvalidArgumentError(
            f"{name} must be one number, the same for every dimension; got shape "
            f"{np.shape(sigma)}. Scale the data instead if dimensions need different noise."
        )
    dtype = sigma.dtype if isinstance(sigma, Array) else np.asarray(sigma).dtype
    if not jnp.issubdtype(dtype, np.integer) and not jnp.issubdtype(dtype, np.floating):
        raise InvalidArgumentError(f"{name} must be a number in data units; got {sigma!r}.")
    # NumPy: under jit, JAX's own functions trace even what is known.
    if not isinstance(sigma, Tracer) and not (np.isfinite(sigma) and np.asarray(sigma) > 0):
        kind = "standard deviation in data units" if name == "sigma" else "number"
        raise InvalidArgumentError(f"{name} must be a positive, finite {kind}; got {sigma}.")
    return jnp.asarray(sigma, dtype=jnp.result_type(float))


def check_event(model: SmoothedScore, y: Array, name: str = "y") -> None:
    """Refuse a `y` that is not one event of `model`."""
    if isinstance(y, list | tuple):
        raise EventShapeError(f"{name} must be an array; got a {type(y).__name__}.")
    expected, seen = model.event_shape, jnp.shape(y)
    if expected is None or seen == expected:
        return
    hint = "Reshape it, or build the energy with this event shape."
    if len(seen) > len(expected) and seen[len(seen) - len(expected) :] == expected:
        hint = "Energies take one event without batch axes: batch with jax.vmap."
    raise EventShapeError(f"{name} has shape {seen}; expected one event {expected}. {hint}")
