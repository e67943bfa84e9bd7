"""A trained classifier in one file, verified before anything is built; its energy has its own."""

import math
import os
from pathlib import Path

from neb_ppl._trained import build_trained, read_trained, write_trained
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.errors import CheckpointError, InvalidArgumentError
from neb_ppl.robust.classifier import SmoothedClassifier, smoothed_classifier
from neb_ppl.robust.networks import ConvClassifier, LinearClassifier, NeuralClassifier

__all__ = ["load_classifier", "save_classifier"]

KIND = "Classifier"
NETWORKS: dict[str, type] = {spec.name: spec for spec in (LinearClassifier, ConvClassifier)}
VOTES = ("noisy copies", "jumps")


def save_classifier(
    path: str | os.PathLike, smoothed: SmoothedClassifier, *, overwrite: bool = False
) -> Path:
    """Write the network of `fit_classifier` to one file, whole or not at all.

    The energy is not in it: `neb_ppl.save_energy` keeps that.

    Parameters
    ----------
    path : path
        By custom ``*.safetensors``.
    smoothed : SmoothedClassifier
        Of `fit_classifier`.
    overwrite : bool
        Whether an existing file may be replaced; it is kept until the new one is on disk.

    Raises
    ------
    InvalidArgumentError
        A classifier that is a function of yours.
    CheckpointError, CheckpointWriteError
        Weights that are not finite, a file already there; a disk that is full or read-only.
    """
    network = getattr(smoothed, "classifier", None)
    if not isinstance(network, NeuralClassifier):
        raise InvalidArgumentError(
            "smoothed must come from fit_classifier; got "
            f"{type(smoothed if network is None else network).__name__}. Functions are not saved: "
            "smoothed_classifier(function, energy) makes it again."
        )
    facts = {
        "kind": KIND,
        "sigma": float(smoothed.sigma),
        "votes_on": VOTES[smoothed.energy is not None],
    }
    return write_trained(path, network, {}, facts, overwrite)


def load_classifier(
    path: str | os.PathLike, energy: SmoothedScore | None = None, *, allow_narrowing: bool = False
) -> SmoothedClassifier:
    """Read a classifier, once everything in its file has been verified; nothing in it is run.

    Parameters
    ----------
    path : path
    energy : SmoothedScore, optional
        The one that its jumps came from, where it votes on jumps.
    allow_narrowing : bool
        Accept a float64 file as float32 when JAX's x64 mode is off.

    Raises
    ------
    CheckpointError
        A damaged, altered or foreign file; weights that do not fit the architecture; no energy
        for a classifier of jumps, or one for a classifier of noisy copies.
    InvalidArgumentError
        An energy of another sigma.
    """
    manifest, arrays, network, shape = read_trained(path, {KIND: NETWORKS})
    sigma, votes = manifest.get("sigma"), manifest.get("votes_on")
    if not isinstance(sigma, float) or not 0 < sigma < math.inf:
        raise CheckpointError(f"sigma must be positive; {path} has {sigma!r}.")
    if votes not in VOTES:
        raise CheckpointError(f"{path} votes on {votes!r}; expected one of {VOTES}.")
    if votes != VOTES[energy is not None]:
        hint = "leave the energy out" if energy is not None else "pass the energy of those jumps"
        raise CheckpointError(f"{path} holds a classifier of {votes}: {hint}.")
    weights, scale, _ = build_trained(path, arrays, network, shape, {}, allow_narrowing)
    classifier = NeuralClassifier(weights, scale, network, shape)
    return smoothed_classifier(classifier, energy, sigma=sigma)
