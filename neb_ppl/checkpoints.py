"""A learned energy in one file, verified before anything is built.

The manifest names the sigma, the scale and the architecture by its registered name, beside the
shapes, types and hashes of every array.
"""

import dataclasses
import math
import os
import typing
from pathlib import Path
from typing import Any

import numpy as np

from neb_ppl._verified import as_jax, differences, read_verified, write_verified
from neb_ppl.energies.convex import ICNN, ConvexEnergy
from neb_ppl.energies.explicit import NeuralScore
from neb_ppl.energies.modules import module_structure
from neb_ppl.energies.networks import NETWORKS
from neb_ppl.energies.neural import NeuralEnergy, NoiseConditionalEnergy
from neb_ppl.energies.scale import DataScale
from neb_ppl.energies.variational import VAE, LinearVAE, VariationalEnergy
from neb_ppl.errors import CheckpointError, InvalidArgumentError

__all__ = ["build_specification", "describe_energy", "load_energy", "save_energy"]

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
    path = _as_path(path)
    if os.path.exists(path) and not overwrite:
        raise CheckpointError(f"{path} exists already. Pass overwrite=True to replace it.")
    arrays = {name: np.asarray(leaf) for name, leaf in _arrays(energy).items()}
    bad = [name for name, leaf in arrays.items() if not _is_healthy(name, leaf)]
    if bad:
        raise CheckpointError(f"weights that are not finite are never written: {', '.join(bad)}.")
    write_verified(path, arrays, _facts(energy, arrays) | {"extra": extra or {}})
    return path


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
    manifest, arrays = _read(_as_path(path))
    if bad := [name for name, leaf in arrays.items() if not _is_healthy(name, leaf)]:
        raise CheckpointError(f"{path} holds values that are not finite in {', '.join(bad)}.")
    network = build_specification(manifest["architecture"], ARCHITECTURES[manifest["kind"]])
    shape = tuple(manifest["event_shape"])
    if event_shape is not None and tuple(event_shape) != shape:
        raise CheckpointError(
            f"{path} holds an energy for events {shape}; asked for {event_shape}."
        )
    _match(manifest["kind"], network, shape, arrays, path)
    arrays = {name: as_jax(name, leaf, allow_narrowing) for name, leaf in arrays.items()}
    weights = {
        name.removeprefix("weights."): leaf
        for name, leaf in arrays.items()
        if name.startswith("weights.")
    }
    scale = DataScale(*(arrays[f"scale.{field}"] for field in _scale_fields()))
    level = arrays["sigma"]
    own = [arrays[name] for name in _own(manifest["kind"])]
    energy = KINDS[manifest["kind"]](weights, level, scale, *own, network, shape)
    if sigma is not None and not (
        level.shape == () and math.isclose(float(level), sigma, rel_tol=1e-6)
    ):
        held = ", ".join(f"{noise:.6g}" for noise in np.ravel(level))
        raise CheckpointError(f"{path} holds an energy for sigma={held}; asked for {sigma}.")
    return energy


def describe_energy(path: str | os.PathLike) -> dict[str, Any]:
    """The verified manifest of a saved energy, as a dict: what ``neb-ppl info`` shows."""
    return _read(_as_path(path))[0]


def _as_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgumentError(
            f"path must name a file, and comes first; got {type(path).__name__}."
        )
    return Path(path)


def _arrays(energy: LearnedEnergy) -> dict[str, Any]:
    if not isinstance(energy, LearnedEnergy):
        raise InvalidArgumentError(
            f"only learned energies are saved; got {type(energy).__name__}. Rebuild exact and "
            "foreign ones from what they were made of."
        )
    known = ARCHITECTURES[_kind(energy)]
    if type(energy.network) not in known.values():
        raise InvalidArgumentError(
            f"only networks that a file can name are saved: {', '.join(known)}; got "
            f"{energy.network!r}. Save its weights, energy.weights, by other means."
        )
    conditional = isinstance(energy, NoiseConditionalEnergy)
    level = energy.sigma_range if conditional else energy.sigma
    weights = {f"weights.{name}": leaf for name, leaf in energy.weights.items()}
    scale = {f"scale.{field}": getattr(energy.scale, field) for field in _scale_fields()}
    own = {name: getattr(energy, name) for name in _own(_kind(energy))}
    return weights | scale | own | {"sigma": level}


def _kind(energy: LearnedEnergy) -> str:
    return next(name for name, cls in KINDS.items() if isinstance(energy, cls))


def _own(kind: str) -> list[str]:
    """Arrays of a kind besides weights, scale and sigma, in the order of its fields."""
    fields = [field.name for field in dataclasses.fields(KINDS[kind])]
    return [name for name in fields if name in ("data_energy", "points")]


def _scale_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(DataScale)]  # pyright: ignore


def _is_healthy(name: str, leaf: np.ndarray) -> bool:
    """What an energy that has seen no data does not know is NaN; nothing else may be."""
    return name in ("scale.low", "scale.high", "data_energy") or bool(np.isfinite(leaf).all())


def _facts(energy: LearnedEnergy, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    spec = dataclasses.asdict(energy.network)  # pyright: ignore[reportArgumentType]
    return {
        "kind": _kind(energy),
        "event_shape": list(energy.event_shape),
        "sigma": np.asarray(arrays["sigma"], float).tolist(),
        "scale": {field: repr(float(arrays[f"scale.{field}"])) for field in _scale_fields()},
        "architecture": {"name": energy.network.name, "fields": spec},
    }


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    manifest, arrays = read_verified(path)
    if manifest.get("kind") not in KINDS:
        raise CheckpointError(f"{path} holds an unknown kind of energy: {manifest.get('kind')!r}.")
    return manifest, arrays


def build_specification(architecture: dict[str, Any], known: dict[str, type]) -> Any:
    """The specification by its name among those known; every field checked against its type."""
    name, fields = architecture.get("name"), architecture.get("fields")
    if name not in known or not isinstance(fields, dict):
        raise CheckpointError(f"unknown architecture {name!r}; known here: {', '.join(known)}.")
    spec = known[name]
    types = {
        field.name: typing.get_type_hints(spec)[field.name] for field in dataclasses.fields(spec)
    }
    if set(types) != set(fields):
        raise CheckpointError(
            f"architecture {name} has fields {sorted(types)}; the file has {sorted(fields)}."
        )
    return spec(**{key: _checked(key, fields[key], kind) for key, kind in types.items()})


def _checked(name: str, setting: Any, kind: Any) -> Any:
    if kind in (int, bool):
        if type(setting) is kind:
            return setting
    elif isinstance(setting, list) and [type(item) for item in setting] == list(
        typing.get_args(kind)
    ):
        return tuple(setting)
    raise CheckpointError(f"architecture field {name} must be {kind}; the file has {setting!r}.")


def _match(
    kind: str, network: Any, event_shape: tuple[int, ...], arrays: dict[str, Any], path: Any
) -> None:
    """Every array of the energy with its shape, and no other."""
    _, _, shapes = module_structure(network, event_shape)
    wanted = {f"weights.{name}": shape for name, shape in shapes.items()}
    wanted |= {f"scale.{field}": () for field in _scale_fields()}
    wanted |= {"sigma": (2,) if kind == "NoiseConditional" else ()}
    wanted |= {"data_energy": (3,)} if "data_energy" in _own(kind) else {}
    if kind == "Variational":
        held = arrays["points"].shape if "points" in arrays else ()
        wanted["points"] = (*held[:1], network.latent)
    found = {name: leaf.shape for name, leaf in arrays.items()}
    if lines := differences(wanted, found):
        raise CheckpointError(f"{path} does not match its architecture:\n" + "\n".join(lines))
