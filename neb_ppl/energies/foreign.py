"""Bring your own energy, score or denoiser: a function, or a Flax or Equinox module."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore, check_event, check_sigma
from neb_ppl.energies.scale import DataScale, data_scale
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event, PyTree, Scalar

__all__ = ["ForeignEnergy", "ForeignScore", "from_denoiser", "from_energy", "from_score"]


@value
class ForeignEnergy(SmoothedEnergy):
    """An energy made of somebody's scalar function; see `from_energy`."""

    params: PyTree
    sigma: Scalar
    scale: DataScale
    function: Callable[[PyTree, Array], Array] = static()
    event_shape: tuple[int, ...] | None = static()

    def __call__(self, y: Event) -> Scalar:
        """Energy of one event."""
        check_event(self, y)
        phi = self.function(self.params, self.scale.to_network(y))
        if jnp.shape(phi) != ():
            raise EventShapeError(
                f"the function given to from_energy returned shape {jnp.shape(phi)} for one event; "
                "expected a scalar (). Sum or squeeze its output."
            )
        return phi


@value
class ForeignScore(SmoothedScore):
    """A score made of somebody's score or denoiser; see `from_score` and `from_denoiser`."""

    params: PyTree
    sigma: Scalar
    scale: DataScale
    function: Callable[[PyTree, Array], Array] = static()
    kind: str = static()
    event_shape: tuple[int, ...] | None = static()

    def score(self, y: Event) -> Event:
        """Score in data units, whatever the units of the function."""
        check_event(self, y)
        out = self.function(self.params, self.scale.to_network(y))
        if jnp.shape(out) != jnp.shape(y):
            raise EventShapeError(
                f"the function given to from_{self.kind} returned shape {jnp.shape(out)} for one "
                f"event of shape {jnp.shape(y)}; expected the same shape, without a batch axis."
            )
        if self.kind == "score":
            return out / self.scale.scale
        return (self.scale.to_data(out) - y) / self.sigma**2


def from_energy(
    function: Callable[..., Any],
    sigma: float | Array,
    *,
    params: PyTree = None,
    shift: float = 0.0,
    scale: float = 1.0,
    event_shape: tuple[int, ...] | None = None,
) -> ForeignEnergy:
    r"""An energy from a function :math:`f` with :math:`\phi(y) = f((y - shift) / scale)`.

    Parameters
    ----------
    function : callable
        One event to a scalar: a plain function, an nnx or Equinox module (its arrays become
        leaves, so new weights do not retrace), or, with `params`, ``function(params, u)`` such as
        a linen module's ``apply``.
    sigma : float
        Noise level the function was made for, in **data** units.
    params : pytree, optional
        Weights. Weights in a closure work, but then new weights compile anew.
    shift, scale : float
        The function's units: it sees ``(y - shift) / scale``. For a network trained on [-1, 1]
        and data in [0, 1]: ``shift=0.5, scale=0.5``.
    event_shape : tuple of int, optional
        Checked at every call when given.

    Raises
    ------
    InvalidArgumentError
        Bad sigma or scale, or something that cannot be called.
    EventShapeError
        When called: output that is not a scalar.
    """
    params, function = _split(function, params, "from_energy")
    return ForeignEnergy(
        params, check_sigma(sigma), data_scale(shift, scale), function, event_shape
    )


def from_score(
    function: Callable[..., Any],
    sigma: float | Array,
    *,
    params: PyTree = None,
    shift: float = 0.0,
    scale: float = 1.0,
    event_shape: tuple[int, ...] | None = None,
) -> ForeignScore:
    r"""A bare score: :math:`\nabla \log p_\sigma(y) = s((y - shift)/scale)/scale`.

    The result can jump and drive ULA and kinetic Langevin; MALA and every other kernel that accepts
    or rejects needs an energy.

    Parameters
    ----------
    function : callable
        The gradient of a log density of **its own** variable: ``s(u)``, or ``s(params, u)``.
    sigma, params, shift, scale, event_shape
        As in `from_energy`, and so are the errors.
    """
    params, function = _split(function, params, "from_score")
    return ForeignScore(
        params, check_sigma(sigma), data_scale(shift, scale), function, "score", event_shape
    )


def from_denoiser(
    function: Callable[..., Any],
    sigma: float | Array,
    *,
    params: PyTree = None,
    shift: float = 0.0,
    scale: float = 1.0,
    event_shape: tuple[int, ...] | None = None,
) -> ForeignScore:
    r"""A bare score from a denoiser :math:`D` trained at noise level sigma.

    .. math:: \nabla \log p_\sigma(y) = (\hat x(y) - y) / \sigma^2, \quad
              \hat x(y) = shift + scale \cdot D((y - shift) / scale)

    Parameters
    ----------
    function : callable
        The denoiser in **its own** variable: ``D(u)``, or ``D(params, u)``.
    sigma, params, shift, scale, event_shape
        As in `from_energy`, and so are the errors.
    """
    params, function = _split(function, params, "from_denoiser")
    return ForeignScore(
        params, check_sigma(sigma), data_scale(shift, scale), function, "denoiser", event_shape
    )


def _split(function: Callable, params: PyTree, who: str) -> tuple[PyTree, Callable]:
    """Weights as a pytree, and a hashable function of them and one event."""
    if not callable(function):
        raise InvalidArgumentError(
            f"{who} takes a function of one event; got {type(function).__name__}."
        )
    if params is not None:
        return params, function
    if isinstance(function, nnx.Module):
        graphdef, state = nnx.split(function)
        return state, _NnxCall(graphdef)
    leaves, treedef = jax.tree.flatten(function)
    if len(leaves) == 1 and leaves[0] is function:
        return None, _PlainCall(function)
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
    arrays = [leaf for leaf, keep in zip(leaves, is_array, strict=True) if keep]
    others = tuple(None if keep else leaf for leaf, keep in zip(leaves, is_array, strict=True))
    return arrays, _TreeCall(treedef, others, tuple(is_array))


class _Call:
    """A callable that is equal to another one made of the same parts."""

    def __init__(self, *parts: Hashable):
        self.parts = parts

    def __hash__(self) -> int:
        return hash((type(self), self.parts))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.parts == other.parts  # pyright: ignore


class _PlainCall(_Call):
    def __call__(self, params: None, u: Array) -> Array:
        return self.parts[0](u)  # pyright: ignore


class _NnxCall(_Call):
    def __call__(self, params: PyTree, u: Array) -> Array:
        return nnx.merge(self.parts[0], params)(u)  # pyright: ignore


class _TreeCall(_Call):
    def __call__(self, params: list[Array], u: Array) -> Array:
        treedef, others, is_array = self.parts
        arrays = iter(params)
        leaves = [next(arrays) if a else o for a, o in zip(is_array, others, strict=True)]  # pyright: ignore
        return jax.tree.unflatten(treedef, leaves)(u)  # pyright: ignore
