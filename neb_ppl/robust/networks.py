"""Classifiers to train: a linear one, and a small convolutional one for images."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neb_ppl._checks import check_counts
from neb_ppl._pytree import static, value
from neb_ppl.energies.layers import Conv3x3, Dense, space_to_depth
from neb_ppl.energies.modules import Specification, Weights, build_module
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Event

__all__ = ["ConvClassifier", "LinearClassifier", "NeuralClassifier"]


@dataclasses.dataclass(frozen=True)
class LinearClassifier:
    """Scores that are affine in the event.

    Attributes
    ----------
    classes : int
    """

    classes: int = 10
    name: ClassVar[str] = "linear"

    def __post_init__(self):
        _check_classes(self.classes)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """The module for events of `event_shape`."""
        return _Linear(self, event_shape, rngs)


@dataclasses.dataclass(frozen=True)
class ConvClassifier:
    """Two stages of 3 x 3 convolutions, each halving the image, and a dense layer.

    Attributes
    ----------
    classes : int
    widths : (int, int)
        Channels of the stages.
    hidden : int
        Width of the dense layer.
    """

    classes: int = 10
    widths: tuple[int, int] = (32, 64)
    hidden: int = 128
    name: ClassVar[str] = "convolutional"

    def __post_init__(self):
        _check_classes(self.classes)
        if not isinstance(self.widths, tuple) or len(self.widths) != 2:
            raise InvalidArgumentError(f"widths must be a tuple of two; got {self.widths!r}.")
        widths = {f"widths[{i}]": width for i, width in enumerate(self.widths)}
        check_counts(hidden=self.hidden, **widths)

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """The module for images of `event_shape`."""
        if len(event_shape) not in (2, 3) or event_shape[0] % 4 or event_shape[1] % 4:
            raise EventShapeError(
                "ConvClassifier needs events (h, w) or (h, w, channels) with h and w divisible by "
                f"4; got {event_shape}. Pad the images, or use LinearClassifier()."
            )
        return _Convolutional(self, event_shape, rngs)


def _check_classes(classes: int) -> None:
    check_counts(classes=classes)
    if classes < 2:
        raise InvalidArgumentError(f"classes must be at least 2; got {classes}.")


class _Linear(nnx.Module):
    def __init__(self, spec: LinearClassifier, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        self.dense = Dense(int(np.prod(event_shape)), spec.classes, 0.1, rngs=rngs)

    def __call__(self, u: Event) -> Array:
        return self.dense(jnp.ravel(u))


class _Convolutional(nnx.Module):
    def __init__(self, spec: ConvClassifier, event_shape: tuple[int, ...], rngs: nnx.Rngs):
        height, width, *channels = event_shape
        first, second = spec.widths
        self.first = Conv3x3(4 * (channels or [1])[0], first, 1.4, rngs=rngs)
        self.second = Conv3x3(4 * first, second, 1.4, rngs=rngs)
        self.dense = Dense(height * width * second // 16, spec.hidden, 1.4, rngs=rngs)
        self.leave = Dense(spec.hidden, spec.classes, 0.3, rngs=rngs)

    def __call__(self, u: Event) -> Array:
        z = nnx.relu(self.first(space_to_depth(u.reshape(*u.shape[:2], -1))))
        z = nnx.relu(self.second(space_to_depth(z)))
        return self.leave(nnx.relu(self.dense(z.reshape(-1))))


@value
class NeuralClassifier:
    """A trained classifier: one event to scores, in data units. See `fit_classifier`."""

    weights: Weights
    scale: DataScale
    network: Specification = static()
    event_shape: tuple[int, ...] = static()

    def __repr__(self) -> str:
        size = sum(jnp.size(leaf) for leaf in jax.tree.leaves(self.weights))
        return f"NeuralClassifier({self.network}, event_shape={self.event_shape}, {size:,} numbers)"

    def __call__(self, x: Event) -> Array:
        """Scores, shape ``(classes,)``."""
        module = build_module(self.network, self.event_shape, self.weights)
        return module(self.scale.to_network(x))
