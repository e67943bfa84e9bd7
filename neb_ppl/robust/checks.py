"""What a smoothed classifier refuses, or warns of, before anything compiles."""

from typing import Any

import jax
import numpy as np

from neb_ppl._checks import as_numbers
from neb_ppl.data import check_data
from neb_ppl.energies.base import SmoothedScore, check_sigma
from neb_ppl.energies.neural import check_one_level, check_trained
from neb_ppl.energies.scale import warn_of_units
from neb_ppl.errors import (
    EventShapeError,
    InvalidArgumentError,
    NebPPLError,
    NotAnEnergyError,
)
from neb_ppl.robust.networks import ConvClassifier, LinearClassifier, NeuralClassifier
from neb_ppl.types import ArrayLike, Scalar

__all__ = [
    "check_call",
    "check_classifier",
    "check_decides",
    "check_energy",
    "check_events",
    "check_labels",
    "check_network",
    "check_radii",
]

NOT_JAX = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)


def check_classifier(classifier: object) -> None:
    """A function, and not the energy."""
    if not callable(classifier) or isinstance(classifier, SmoothedScore):
        raise InvalidArgumentError(
            "classifier must be a function of one event to class scores; got "
            f"{type(classifier).__name__}. The order is smoothed_classifier(classifier, energy)."
        )


def check_energy(energy: SmoothedScore | None, sigma: float | Scalar | None) -> Scalar:
    """Sigma of the noise: the energy's, or the one given where there is no energy."""
    if energy is None:
        if sigma is None:
            raise InvalidArgumentError(
                "give an energy, whose sigma is that of the noise, or sigma."
            )
        return check_sigma(sigma)
    check_one_level(energy, "classify with")
    if not isinstance(energy, SmoothedScore):
        raise NotAnEnergyError(
            "energy must be a SmoothedScore, such as neb_ppl.deen(...) after fit; got a "
            f"{type(energy).__name__}. It comes after the classifier, or the labels; for votes "
            "without a jump leave it out and pass sigma=."
        )
    check_trained(energy)
    if sigma is not None and not np.isclose(energy.sigma, check_sigma(sigma), rtol=1e-6):
        raise InvalidArgumentError(
            f"sigma is {float(sigma):g} and the energy's {float(energy.sigma):g}: the jump is for "
            "the energy's noise alone. Leave sigma out, or take an energy of that sigma."
        )
    return energy.sigma


def check_call(smoothed: Any, x: ArrayLike) -> tuple[np.ndarray, int]:
    """Events that a smoothed classifier can take, and the number of its classes."""
    check_energy(smoothed.energy, smoothed.sigma)
    classifier = smoothed.classifier
    shape = classifier.event_shape if isinstance(classifier, NeuralClassifier) else None
    x = check_events(x, smoothed.energy, shape)
    return x, _classes(smoothed, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))


def check_events(
    x: ArrayLike, energy: SmoothedScore | None, event_shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Finite floats, shape ``(n, *event)``; a warning where they are in other units."""
    if energy is not None and energy.event_shape is not None:
        event_shape = energy.event_shape
    x = np.asarray(check_data(x, event_shape))
    if x.ndim < 2:
        raise EventShapeError(
            f"x must have shape (n, *event); got {x.shape}. One event is x[None], events of one "
            "number are x[:, None]."
        )
    warn_of_units(energy, x)
    return x


def _classes(smoothed: Any, event: jax.ShapeDtypeStruct) -> int:
    """Scores must be one number for each of two classes or more."""
    try:
        out: Any = jax.eval_shape(smoothed.scores, event)
    except NebPPLError:
        raise
    except NOT_JAX as error:
        raise InvalidArgumentError(
            "classifier must be a JAX function: jax.numpy, not numpy, functions. It failed with "
            f"{type(error).__name__}. Wrap another in jax.pure_callback, with "
            'vmap_method="sequential".'
        ) from error
    except (TypeError, ValueError) as error:
        raise EventShapeError(
            f"classifier failed on one event of shape {event.shape}: {error}".partition("\n")[0]
        ) from error
    shape = getattr(out, "shape", None)
    if shape is None:
        raise InvalidArgumentError(
            "classifier must give one array of scores, shape (classes,); got a "
            f"{type(out).__name__}. Use jnp.stack, or take the scores out of it."
        )
    if len(shape) != 1 or shape[0] < 2:
        hint = "Return scores, one a class, not the label."
        if len(shape) > 1:
            hint = "Batched classifiers: lambda x: classifier(x[None])[0]."
        raise EventShapeError(
            "classifier must give scores of shape (classes,), two or more, for one event "
            f"{event.shape}; got {shape}. {hint}"
        )
    return shape[0]


def check_labels(labels: ArrayLike, count: int, classes: int | None = None) -> np.ndarray:
    """Whole numbers from 0 on, one for each event."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        hint = "Make them whole: labels.astype(int)." if labels.shape == (count,) else ""
        if labels.ndim == 2:
            hint = "Of scores or one-hot rows take labels.argmax(1)."
        kind = InvalidArgumentError if labels.shape == (count,) else EventShapeError
        raise kind(
            f"labels must be {count} whole numbers, one for each event; got {labels.dtype} of "
            f"shape {labels.shape}. {hint}".rstrip()
        )
    low, high = labels.min(initial=0), labels.max(initial=0)
    if low < 0:
        raise InvalidArgumentError(
            f"labels must be 0 or more; got {low}. Number the classes from 0 on; -1 is ABSTAIN: "
            "leave those events out."
        )
    if classes is not None and high >= classes:
        raise InvalidArgumentError(
            f"labels must lie in 0 .. {classes - 1}, the classifier's classes; got {high}. "
            f"Networks take more with classes={high + 1}."
        )
    return labels


def check_network(network: object) -> None:
    """A specification of a classifier, and not a class, a name or that of an energy."""
    if not isinstance(network, LinearClassifier | ConvClassifier):
        raise InvalidArgumentError(
            f"network must be LinearClassifier(...) or ConvClassifier(...); got {network!r}."
        )


def check_radii(name: str, radii: float | ArrayLike, *shapes: tuple[int, ...]) -> np.ndarray:
    """Lengths, finite and 0 or more; of one of these shapes, or of any."""
    numbers = as_numbers(name, radii)
    if shapes and numbers.shape not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise EventShapeError(f"{name} must have shape {wanted}; got {numbers.shape}.")
    good = np.isfinite(numbers) & (numbers >= 0)
    if not good.all():
        raise InvalidArgumentError(
            f"{name} must be finite and 0 or more, in data units; got {numbers[~good][0]:g}."
        )
    return numbers


def check_decides(name: str, count: int, least: int, alpha: float) -> None:
    """Refuse so few votes that none could decide, though all agreed."""
    if count < least:
        raise InvalidArgumentError(
            f"{name} must be at least {least} at alpha={alpha:g}; got {count}: not even votes "
            "that all agree would decide."
        )
