"""A trained classifier in one file, verified before anything is built; its energy has its own."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np

from neb_ppl._verified import as_jax, differences, read_verified, write_verified
from neb_ppl.checkpoints import build_specification
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.modules import module_structure
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import CheckpointError, InvalidArgumentError
from neb_ppl.robust.classifier import SmoothedClassifier, smoothed_classifier
from neb_ppl.robust.networks import ConvClassifier, LinearClassifier, NeuralClassifier

__all__ = ["load_classifier", "save_classifier"]

KIND = "Classifier"
NETWORKS: dict[str, type] = {spec.name: spec for spec in (LinearClassifier, ConvClassifier)}
SCALE = [field.name for field in dataclasses.fields(DataScale)]  # pyright: ignore


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
    path = Path(path)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already. Pass overwrite=True to replace it.")
    arrays = {f"weights.{name}": np.asarray(leaf) for name, leaf in network.weights.items()}
    arrays |= {f"scale.{name}": np.asarray(getattr(network.scale, name)) for name in SCALE}
    if bad := [name for name, leaf in arrays.items() if not np.isfinite(leaf).all()]:
        raise CheckpointError(f"weights that are not finite are never written: {', '.join(bad)}.")
    facts = {
        "kind": KIND,
        "event_shape": list(network.event_shape),
        "architecture": {
            "name": type(network.network).name,  # pyright: ignore[reportAttributeAccessIssue]
            "fields": dataclasses.asdict(network.network),  # pyright: ignore[reportArgumentType]
        },
        "sigma": float(smoothed.sigma),
        "votes_on": "noisy copies" if smoothed.energy is None else "jumps",
    }
    write_verified(path, arrays, facts)
    return path


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
    manifest, arrays = read_verified(Path(path))
    if manifest.get("kind") != KIND:
        raise CheckpointError(f"{path} holds no classifier, but a {manifest.get('kind')!r}.")
    network = build_specification(manifest["architecture"], NETWORKS)
    shape = tuple(manifest["event_shape"])
    _, _, weights = module_structure(network, shape)
    wanted = {f"weights.{name}": leaf for name, leaf in weights.items()}
    wanted |= {f"scale.{name}": () for name in SCALE}
    if lines := differences(wanted, {name: leaf.shape for name, leaf in arrays.items()}):
        raise CheckpointError(f"{path} does not match its architecture:\n" + "\n".join(lines))
    if (manifest["votes_on"] == "jumps") != (energy is not None):
        hint = "leave the energy out" if energy is not None else "pass the energy of those jumps"
        raise CheckpointError(f"{path} holds a classifier of {manifest['votes_on']}: {hint}.")
    leaves = {name: as_jax(name, leaf, allow_narrowing) for name, leaf in arrays.items()}
    classifier = NeuralClassifier(
        {name: leaves[f"weights.{name}"] for name in weights},
        DataScale(*(leaves[f"scale.{name}"] for name in SCALE)),
        network,
        shape,
    )
    return smoothed_classifier(classifier, energy, sigma=_sigma(manifest["sigma"], path))


def _sigma(sigma: object, path: str | os.PathLike) -> float:
    if not isinstance(sigma, float) or not 0 < sigma < math.inf:
        raise CheckpointError(f"sigma must be positive; {path} has {sigma!r}.")
    return sigma
