"""A learned energy in one file, verified before anything is built.

The manifest names the sigma, the scale and the architecture by its registered name, beside the
shapes, types and hashes of every array.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from neb_ppl._trained import build_trained, read_manifest, read_trained, write_trained
from neb_ppl.energies.convex import ICNN, ConvexEnergy
from neb_ppl.energies.explicit import NeuralScore
from neb_ppl.energies.networks import NETWORKS
from neb_ppl.energies.neural import NeuralEnergy, NoiseConditionalEnergy
from neb_ppl.energies.variational import VAE, LinearVAE, VariationalEnergy
from neb_ppl.errors import CheckpointError, InvalidArgumentError

__all__ = ["describe_energy", "load_energy", "save_energy"]

KINDS: dict[str, type] = {
    "NeuralEnergy": NeuralEnergy,
    "NoiseConditional": NoiseConditionalEnergy,
    "Variational": VariationalEnergy,
    "Convex": ConvexEnergy,
    "NeuralScore": NeuralScore,
}
ARCHITECTURES: dict[str, dict[str, type]] = {
    "NeuralEnergy": NETWORKS,
    "NoiseConditional": NETWORKS,
    "Variational": {spec.name: spec for spec in (VAE, LinearVAE)},
    "Convex": {ICNN.name: ICNN},
    "NeuralScore": NETWORKS,
}

MAY_BE_NAN = ("scale.low", "scale.high", "data_energy")  # what no data have told yet

LearnedEnergy = (
    NeuralEnergy | NoiseConditionalEnergy | VariationalEnergy | ConvexEnergy | NeuralScore
)


def save_energy(
    path: str | os.PathLike,
    energy: LearnedEnergy,
    *,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a learned energy, or score, to one file, whole or not at all.

    Parameters
    ----------
    path : path
        By custom ``*.safetensors``.
    energy : NeuralEnergy, NoiseConditionalEnergy, VariationalEnergy, ConvexEnergy or NeuralScore
    extra : dict, optional
        Facts worth keeping with the energy, as plain JSON: where the data came from, the risk.
    overwrite : bool
        Whether an existing file may be replaced; it is kept until the new one is on disk.

    Raises
    ------
    CheckpointError
        Weights that are not finite, `extra` that is not JSON, a file already there.
    CheckpointWriteError
        The disk is full, the folder missing or read-only. Nothing is left behind.
    """
    kind = _check_kind(energy)
    conditional = isinstance(energy, NoiseConditionalEnergy)
    level = energy.sigma_range if conditional else energy.sigma
    own = {name: getattr(energy, name) for name in _own(kind)} | {"sigma": level}
    facts = {"kind": kind, "sigma": np.asarray(level, float).tolist(), "extra": extra or {}}
    return write_trained(path, energy, own, facts, overwrite, MAY_BE_NAN)


def load_energy(
    path: str | os.PathLike,
    *,
    event_shape: tuple[int, ...] | None = None,
    sigma: float | None = None,
    allow_narrowing: bool = False,
) -> LearnedEnergy:
    """Read a learned energy, or score, once everything in its file has been verified.

    Parameters
    ----------
    path : path
    event_shape : tuple of int, optional
        Refuse a file made for another shape.
    sigma : float, optional
        Refuse a file made for another noise level.
    allow_narrowing : bool
        Accept a float64 file as float32 when JAX's x64 mode is off.

    Raises
    ------
    CheckpointError
        A damaged, altered or foreign file; one that does not match what is asked for, or whose
        arrays do not match its architecture (each difference is listed).
    """
    manifest, arrays, network, shape = read_trained(path, ARCHITECTURES, MAY_BE_NAN)
    if event_shape is not None and tuple(event_shape) != shape:
        raise CheckpointError(
            f"{path} holds an energy for events {shape}; asked for {event_shape}."
        )
    own = _own_shapes(manifest["kind"], network, arrays)
    weights, scale, (*rest, level) = build_trained(
        path, arrays, network, shape, own, allow_narrowing
    )
    if sigma is not None and not (
        level.shape == () and math.isclose(float(level), sigma, rel_tol=1e-6)
    ):
        held = ", ".join(f"{noise:.6g}" for noise in np.ravel(level))
        raise CheckpointError(f"{path} holds an energy for sigma={held}; asked for {sigma}.")
    return KINDS[manifest["kind"]](weights, level, scale, *rest, network, shape)


def describe_energy(path: str | os.PathLike) -> dict[str, Any]:
    """The verified manifest of a saved energy, as a dict: what ``neb-ppl info`` shows."""
    return read_manifest(path, KINDS)[0]


def _check_kind(energy: LearnedEnergy) -> str:
    if not isinstance(energy, LearnedEnergy):
        raise InvalidArgumentError(
            f"only learned energies are saved; got {type(energy).__name__}. Rebuild exact and "
            "foreign ones from what they were made of."
        )
    kind = next(name for name, cls in KINDS.items() if isinstance(energy, cls))
    known = ARCHITECTURES[kind]
    if type(energy.network) not in known.values():
        raise InvalidArgumentError(
            f"only networks that a file can name are saved: {', '.join(known)}; got "
            f"{energy.network!r}. Save its weights, energy.weights, by other means."
        )
    return kind


def _own(kind: str) -> list[str]:
    """Arrays of a kind besides weights, scale and sigma, in the order of its fields."""
    fields = [field.name for field in dataclasses.fields(KINDS[kind])]
    return [name for name in fields if name in ("data_energy", "points")]


def _own_shapes(kind: str, network: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Shapes of those arrays, and of sigma; only the number of points is the file's to say."""
    shapes: dict[str, Any] = {}
    if kind == "Variational":
        held = arrays["points"].shape if "points" in arrays else ()
        shapes["points"] = (*held[:1], network.latent)
    shapes["data_energy"] = (3,)
    own = {name: shapes[name] for name in _own(kind)}
    return own | {"sigma": (2,) if kind == "NoiseConditional" else ()}
