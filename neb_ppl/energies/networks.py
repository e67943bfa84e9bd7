"""Networks U(u, sigma), one event to one event: specifications, and the Flax modules they build.

A specification is a frozen dataclass of plain numbers. It is what a saved file holds, by its
registered name, and what tells one compiled program from another.
"""

import dataclasses
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event, Scalar

__all__ = ["MLP", "NETWORKS", "Network", "default_network"]


class Network(Protocol):
    """Specification of a network: hashable, and able to build its module."""

    name: ClassVar[str]

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module ``(u, sigma) -> U`` for one event, all in the network's units."""
        ...


@dataclasses.dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with a skip from input to output, for events of any shape.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    conditional : bool
        Whether the network also reads sigma, for noise-conditional energies.
    """

    hidden: tuple[int, ...] = (512, 512)
    conditional: bool = False
    name: ClassVar[str] = "mlp"

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> "MLPModule":
        """The module for events of `event_shape`."""
        if not self.hidden or min(self.hidden) < 1:
            raise InvalidArgumentError(f"hidden must be positive widths; got {self.hidden}.")
        return MLPModule(self, event_shape, rngs)


class MLPModule(nnx.Module):
    def __init__(self, spec: MLP, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        size = int(np.prod(event_shape))
        widths = (size + spec.conditional, *spec.hidden)
        self.conditional = spec.conditional
        self.layers = nnx.List(
            [nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:], strict=False)]
        )
        self.out = nnx.Linear(widths[-1], size, rngs=rngs)

    def __call__(self, u: Event, sigma: Scalar) -> Event:
        gain = 1 / jnp.sqrt(1 + sigma**2)
        h = gain * u.ravel()
        if self.conditional:
            h = jnp.append(h, jnp.log(sigma))
        for layer in self.layers:
            h = jax.nn.silu(layer(h))
        return u * gain**2 + sigma * gain * self.out(h).reshape(u.shape)


NETWORKS: dict[str, type] = {spec.name: spec for spec in (MLP,)}


def default_network(event_shape: tuple[int, ...], conditional: bool = False) -> Network:
    """The network that a user who names none gets, by the shape of the events."""
    if not event_shape or min(event_shape) < 1:
        raise EventShapeError(f"event_shape must be positive sizes; got {event_shape}.")
    return MLP(conditional=conditional)
