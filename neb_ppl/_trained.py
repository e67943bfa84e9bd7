"""What all files of trained networks share: weights, scale, and an architecture by its name."""

import dataclasses
import os
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neb_ppl._verified import as_jax, differences, read_verified, write_verified
from neb_ppl.energies.modules import module_structure
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import CheckpointError, EventShapeError, InvalidArgumentError
from neb_ppl.types import Array

__all__ = ["build_trained", "read_manifest", "read_trained", "write_trained"]

SCALE = [field.name for field in dataclasses.fields(DataScale)]  # pyright: ignore


def write_trained(
    path: str | os.PathLike,
    model: Any,
    own: Mapping[str, Any],
    facts: dict[str, Any],
    overwrite: bool,
    may_be_nan: Collection[str] = (),
) -> Path:
    """Write weights and scale of a model, the arrays of its own, and facts in the manifest."""
    path = _as_path(path)
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} exists already. Pass overwrite=True to replace it.")
    named = {f"weights.{name}": leaf for name, leaf in model.weights.items()}
    named |= {f"scale.{name}": getattr(model.scale, name) for name in SCALE} | dict(own)
    arrays = {name: np.asarray(leaf) for name, leaf in named.items()}
    if bad := _not_finite(arrays, may_be_nan):
        raise CheckpointError(f"weights that are not finite are never written: {', '.join(bad)}.")
    network = {"name": model.network.name, "fields": dataclasses.asdict(model.network)}
    scale = {name: repr(float(arrays[f"scale.{name}"])) for name in SCALE}
    shape = list(model.event_shape)
    write_verified(
        path, arrays, facts | {"event_shape": shape, "scale": scale, "architecture": network}
    )
    return path


def read_manifest(
    path: str | os.PathLike, kinds: Collection[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays of a verified file of one of these kinds."""
    manifest, arrays = read_verified(_as_path(path))
    if manifest.get("kind") not in list(kinds):
        raise CheckpointError(
            f"{path} holds a {manifest.get('kind')!r}; expected one of {', '.join(kinds)}."
        )
    return manifest, arrays


def read_trained(
    path: str | os.PathLike,
    known: Mapping[str, Mapping[str, type]],
    may_be_nan: Collection[str] = (),
) -> tuple[dict[str, Any], dict[str, np.ndarray], Any, tuple[int, ...]]:
    """Manifest, finite arrays, architecture and event shape; `known` has networks of each kind."""
    manifest, arrays = read_manifest(path, known)
    if bad := _not_finite(arrays, may_be_nan):
        raise CheckpointError(f"{path} holds values that are not finite in {', '.join(bad)}.")
    network = _specification(manifest.get("architecture"), known[manifest["kind"]], path)
    shape = manifest.get("event_shape")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise CheckpointError(f"{path} has event_shape {shape!r}; expected positive integers.")
    return manifest, arrays, network, tuple(shape)


def build_trained(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    network: Any,
    event_shape: tuple[int, ...],
    own: Mapping[str, tuple[int, ...]],
    allow_narrowing: bool,
) -> tuple[dict[str, Array], DataScale, list[Array]]:
    """Weights, scale and the arrays of its own, once each has the shape that it must have."""
    try:
        _, _, weights = module_structure(network, event_shape)
    except (InvalidArgumentError, EventShapeError) as error:
        raise CheckpointError(f"{path} has an impossible architecture: {error}") from error
    wanted = {f"weights.{name}": shape for name, shape in weights.items()}
    wanted |= {f"scale.{name}": () for name in SCALE} | dict(own)
    if lines := differences(wanted, {name: leaf.shape for name, leaf in arrays.items()}):
        raise CheckpointError(f"{path} does not match its architecture:\n" + "\n".join(lines))
    leaves = {name: as_jax(name, leaf, allow_narrowing) for name, leaf in arrays.items()}
    return (
        {name: leaves[f"weights.{name}"] for name in weights},
        DataScale(*(leaves[f"scale.{name}"] for name in SCALE)),
        [leaves[name] for name in own],
    )


def _as_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InvalidArgumentError(
            f"path must name a file, and comes first; got {type(path).__name__}."
        )
    return Path(path)


def _not_finite(arrays: Mapping[str, np.ndarray], may_be_nan: Collection[str]) -> list[str]:
    return [
        name
        for name, leaf in arrays.items()
        if np.isinf(leaf).any() or (name not in may_be_nan and np.isnan(leaf).any())
    ]


def _specification(architecture: Any, known: Mapping[str, type], path: str | os.PathLike) -> Any:
    """The specification by its name among those known; every field checked against its type."""
    architecture = architecture if isinstance(architecture, dict) else {}
    name, fields = architecture.get("name"), architecture.get("fields")
    if name not in list(known) or not isinstance(fields, dict):
        raise CheckpointError(
            f"{path} has an unknown architecture {name!r}; known here: {', '.join(known)}."
        )
    types = typing.get_type_hints(known[name])
    types = {field.name: types[field.name] for field in dataclasses.fields(known[name])}
    if set(types) != set(fields):
        raise CheckpointError(
            f"architecture {name} has fields {sorted(types)}; {path} has {sorted(fields)}."
        )
    settings = {key: _checked(key, fields[key], kind) for key, kind in types.items()}
    try:
        return known[name](**settings)
    except InvalidArgumentError as error:
        raise CheckpointError(f"{path} has an impossible architecture: {error}") from error


def _checked(name: str, setting: Any, kind: Any) -> Any:
    if kind in (int, bool):
        if type(setting) is kind:
            return setting
    elif isinstance(setting, list) and [type(item) for item in setting] == list(
        typing.get_args(kind)
    ):
        return tuple(setting)
    raise CheckpointError(f"architecture field {name} must be {kind}; the file has {setting!r}.")
