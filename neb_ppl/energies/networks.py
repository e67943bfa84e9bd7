"""Networks U(u, sigma), one event to one event: specifications, and the Flax modules they build.

A specification is a frozen dataclass of plain numbers. It is what a saved file holds, by its
registered name, and what tells one compiled program from another. Networks work in units where
the data have mean 0 and deviation 1, and are wrapped so that they start near the best linear
estimator at every sigma.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neb_ppl._checks import check_counts
from neb_ppl.energies.layers import (
    Block,
    Conv3x3,
    Dense,
    DenseBlock,
    NoiseEmbedding,
    depth_to_space,
    space_to_depth,
)
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event, Scalar

__all__ = ["MLP", "NETWORKS", "Network", "UNet", "check_network", "default_network"]

SMALL_IMAGE = 16


class Network(Protocol):
    """Specification of a network: hashable, and able to build its module."""

    name: ClassVar[str]

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module ``(u, sigma) -> U`` for one event, all in the network's units."""
        ...


@dataclasses.dataclass(frozen=True)
class MLP:
    """Residual multilayer perceptron, for events of any shape.

    Attributes
    ----------
    hidden : int
        Width inside each block.
    blocks : int
        Number of residual blocks.
    conditional : bool
        Whether the network also reads sigma, for noise-conditional energies.
    """

    hidden: int = 512
    blocks: int = 3
    conditional: bool = False
    name: ClassVar[str] = "mlp"

    def __post_init__(self):
        check_counts(hidden=self.hidden, blocks=self.blocks)
        _check_switch(conditional=self.conditional)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> "MLPModule":
        """The module for events of `event_shape`."""
        return MLPModule(self, event_shape, rngs)


@dataclasses.dataclass(frozen=True)
class UNet:
    """Two-level residual U-Net of 3 x 3 convolutions with a dense bottleneck, for images.

    Events are ``(h, w)`` or ``(h, w, channels)`` with h and w divisible by 4: the input is folded
    2 x 2 into channels, and the lower level folds once more.

    Attributes
    ----------
    widths : (int, int)
        Channels of the upper and the lower level.
    blocks : int
        Convolutional blocks of each stage.
    bottleneck : (int, int)
        Channels and hidden width of the dense block over the whole lower level.
    conditional : bool
        Whether the network also reads sigma, for noise-conditional energies.
    """

    widths: tuple[int, int] = (32, 64)
    blocks: int = 1
    bottleneck: tuple[int, int] = (16, 512)
    conditional: bool = False
    name: ClassVar[str] = "unet"

    def __post_init__(self):
        check_counts(blocks=self.blocks)
        _check_pairs(widths=self.widths, bottleneck=self.bottleneck)
        _check_switch(conditional=self.conditional)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> "UNetModule":
        """The module for images of `event_shape`."""
        if len(event_shape) not in (2, 3) or event_shape[0] % 4 or event_shape[1] % 4:
            raise EventShapeError(
                "UNet needs events (h, w) or (h, w, channels) with h and w divisible by 4; got "
                f"{event_shape}. Pad the images, or use network=MLP()."
            )
        return UNetModule(self, event_shape, rngs)


class MLPModule(nnx.Module):
    """Residual blocks on the flat event."""

    def __init__(self, spec: MLP, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        size = int(np.prod(event_shape))
        width = max(size, 64)
        self.embedding = NoiseEmbedding(rngs=rngs) if spec.conditional else None
        self.enter = Dense(size, width, rngs=rngs)
        blocks = [
            Block(Dense, width, spec.hidden, spec.conditional, rngs=rngs)
            for _ in range(spec.blocks)
        ]
        self.blocks = nnx.List(blocks)
        self.leave = Dense(width, size, 0.3, rngs=rngs)

    def __call__(self, u: Event, sigma: Scalar) -> Event:
        noise = None if self.embedding is None else self.embedding(sigma)

        def body(z: Array) -> Array:
            h = self.enter(z.ravel())
            for block in self.blocks:
                h = block(h, noise)
            return self.leave(h).reshape(z.shape)

        return _precondition(body, u, sigma)


class UNetModule(nnx.Module):
    """Upper level, lower level with its bottleneck, upper level with a skip."""

    def __init__(self, spec: UNet, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        height, width, *channels = event_shape
        folded = 4 * (channels or [1])[0]
        upper, lower = spec.widths
        self.embedding = NoiseEmbedding(rngs=rngs) if spec.conditional else None

        def stage(features: int) -> nnx.List:
            return nnx.List(
                [
                    Block(Conv3x3, features, features, spec.conditional, rngs=rngs)
                    for _ in range(spec.blocks)
                ]
            )

        self.enter = Dense(folded, upper, rngs=rngs)
        self.first, self.last = stage(upper), stage(upper)
        self.down = Dense(4 * upper, lower, rngs=rngs)
        self.before, self.after = stage(lower), stage(lower)
        space = (height // 4, width // 4)
        self.bottleneck = DenseBlock(space, lower, *spec.bottleneck, spec.conditional, rngs=rngs)
        self.up = Dense(lower, 4 * upper, 0.3, rngs=rngs)
        self.leave = Dense(upper, folded, 0.3, rngs=rngs)

    def __call__(self, u: Event, sigma: Scalar) -> Event:
        noise = None if self.embedding is None else self.embedding(sigma)

        def body(z: Array) -> Array:
            h = self.enter(space_to_depth(z.reshape(*z.shape[:2], -1)))
            for block in self.first:
                h = block(h, noise)
            skip, h = h, self.down(space_to_depth(h))
            for block in (*self.before, self.bottleneck, *self.after):
                h = block(h, noise)
            h = skip + depth_to_space(self.up(h))
            for block in self.last:
                h = block(h, noise)
            return depth_to_space(self.leave(h)).reshape(z.shape)

        return _precondition(body, u, sigma)


NETWORKS: dict[str, type] = {spec.name: spec for spec in (MLP, UNet)}


def default_network(event_shape: tuple[int, ...], conditional: bool = False) -> Network:
    """The network of a user who names none: `UNet` for images of 16 x 16 and more, else `MLP`."""
    is_image = len(event_shape) in (2, 3) and min(event_shape[:2]) >= SMALL_IMAGE
    if is_image and event_shape[0] % 4 == 0 and event_shape[1] % 4 == 0:
        return UNet(conditional=conditional)
    return MLP(conditional=conditional)


def check_network(network: object, event_shape: tuple[int, ...]) -> None:
    """Refuse what is no specification, or builds something else than a map of events to events."""
    if isinstance(network, type) or not hasattr(network, "build"):
        raise InvalidArgumentError(
            f"network must be a specification such as neb_ppl.MLP(); got {network!r}."
        )

    def mapped(u: Event, sigma: Scalar) -> Any:
        module = network.build(event_shape, nnx.Rngs(0))  # pyright: ignore
        return module(u, sigma) if callable(module) else None

    found = jax.eval_shape(mapped, jnp.zeros(event_shape), jnp.ones(()))
    if getattr(found, "shape", None) != event_shape:
        raise InvalidArgumentError(
            f"network must map one event to one event, as neb_ppl.MLP() does; got {network!r}, "
            "which belongs to a model of another kind."
        )


def _precondition(body: Callable[[Array], Array], u: Event, sigma: Scalar) -> Event:
    r"""``U = c^2 u + sigma c body(c u)``, :math:`c = 1/\sqrt{1 + \sigma^2}` (Karras et al. 2022).

    At ``body = 0`` this is the best linear estimator of data with variance 1.
    """
    c = 1 / jnp.sqrt(1 + sigma**2)
    return c**2 * u + sigma * c * body(c * u)


def _check_switch(**switch: bool) -> None:
    for name, setting in switch.items():
        if not isinstance(setting, bool):
            raise InvalidArgumentError(f"{name} must be True or False; got {setting!r}.")


def _check_pairs(**pairs: tuple[int, int]) -> None:
    for name, pair in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidArgumentError(f"{name} must be a tuple of two numbers; got {pair!r}.")
        check_counts(**{f"{name}[{i}]": count for i, count in enumerate(pair)})
