"""A learned energy in one safetensors file, verified before anything is built.

The file holds arrays and JSON: nothing in it is executed. The manifest, in safetensors' own
metadata, names the format, the sigma, the scale, the architecture by its registered name, and a
SHA-256 of every array and of itself.
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
import tempfile
import typing
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from neb_ppl.energies.networks import NETWORKS, Network
from neb_ppl.energies.neural import NeuralEnergy, NoiseConditionalEnergy, module_structure
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import CheckpointError, CheckpointWriteError, InvalidArgumentError

__all__ = ["describe_energy", "load_energy", "save_energy"]

FORMAT = 1
KINDS: dict[str, type] = {"NeuralEnergy": NeuralEnergy, "NoiseConditional": NoiseConditionalEnergy}
MAX_HEADER = 1 << 22
MAX_BYTES = 1 << 34

LearnedEnergy = NeuralEnergy | NoiseConditionalEnergy


def save_energy(
    path: str | os.PathLike,
    energy: LearnedEnergy,
    *,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a learned energy to one file, whole or not at all.

    Parameters
    ----------
    path : path
        By custom ``*.safetensors``.
    energy : NeuralEnergy or NoiseConditionalEnergy
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
    path = Path(path)
    if os.path.exists(path) and not overwrite:
        raise CheckpointError(f"{path} exists already. Pass overwrite=True to replace it.")
    arrays = {name: np.asarray(leaf) for name, leaf in _arrays(energy).items()}
    bad = [name for name, leaf in arrays.items() if not _is_healthy(name, leaf)]
    if bad:
        raise CheckpointError(f"weights that are not finite are never written: {', '.join(bad)}.")
    manifest = _manifest(energy, arrays, extra)
    payload = save_tensors(arrays, metadata={"manifest": manifest, "sha256": _sha(manifest)})
    _write(path, payload)
    return path


def load_energy(
    path: str | os.PathLike,
    *,
    event_shape: tuple[int, ...] | None = None,
    sigma: float | None = None,
    allow_narrowing: bool = False,
) -> LearnedEnergy:
    """Read a learned energy, once everything in its file has been verified.

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
    manifest, arrays = _read(Path(path))
    network = _network(manifest["architecture"])
    shape = tuple(manifest["event_shape"])
    if event_shape is not None and tuple(event_shape) != shape:
        raise CheckpointError(
            f"{path} holds an energy for events {shape}; asked for {event_shape}."
        )
    _match(network, shape, arrays, path)
    arrays = {name: _as_jax(name, leaf, allow_narrowing) for name, leaf in arrays.items()}
    weights = {
        name.removeprefix("weights."): leaf
        for name, leaf in arrays.items()
        if name.startswith("weights.")
    }
    scale = DataScale(*(arrays[f"scale.{field}"] for field in _scale_fields()))
    level = arrays["sigma"]
    energy = KINDS[manifest["kind"]](weights, level, scale, network, shape)
    if sigma is not None and not (
        level.shape == () and math.isclose(float(level), sigma, rel_tol=1e-6)
    ):
        raise CheckpointError(f"{path} holds an energy for sigma={level}; asked for {sigma}.")
    return energy


def describe_energy(path: str | os.PathLike) -> dict[str, Any]:
    """The verified manifest of a saved energy, as a dict: what ``neb-ppl info`` shows."""
    return _read(Path(path))[0]


def _arrays(energy: LearnedEnergy) -> dict[str, Any]:
    if not isinstance(energy, LearnedEnergy):
        raise InvalidArgumentError(
            f"only learned energies are saved; got {type(energy).__name__}. Rebuild exact and "
            "foreign ones from what they were made of."
        )
    level = energy.sigma if isinstance(energy, NeuralEnergy) else energy.sigma_range
    weights = {f"weights.{name}": leaf for name, leaf in energy.weights.items()}
    scale = {f"scale.{field}": getattr(energy.scale, field) for field in _scale_fields()}
    return weights | scale | {"sigma": level}


def _scale_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(DataScale)]  # pyright: ignore


def _is_healthy(name: str, leaf: np.ndarray) -> bool:
    """The range of an energy that has seen no data is NaN; nothing else may be."""
    return name in ("scale.low", "scale.high") or bool(np.isfinite(leaf).all())


def _manifest(
    energy: LearnedEnergy, arrays: dict[str, np.ndarray], extra: dict[str, Any] | None
) -> str:
    kind = next(name for name, cls in KINDS.items() if isinstance(energy, cls))
    spec = dataclasses.asdict(energy.network)  # pyright: ignore[reportArgumentType]
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "event_shape": list(energy.event_shape),
        "sigma": np.asarray(arrays["sigma"], float).tolist(),
        "scale": {field: repr(float(arrays[f"scale.{field}"])) for field in _scale_fields()},
        "architecture": {"name": energy.network.name, "fields": spec},
        "arrays": {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": _digest(leaf)}
            for name, leaf in sorted(arrays.items())
        },
        "versions": _versions(),
        "extra": extra or {},
    }
    try:
        return json.dumps(manifest, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"extra must be plain JSON: {error}.") from error


def _digest(leaf: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest()


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, payload: bytes) -> None:
    """Temporary file beside the target, flushed, then renamed over it."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            temporary = file.name
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise CheckpointWriteError(
            f"could not write {path}: {error.strerror or error}. The energy is still in memory, "
            "and an older file is untouched."
        ) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays, both verified: sizes, structure, hashes, then contents."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _header(file, size, path)
            file.seek(0)
            payload = file.read()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}.") from error
    manifest = _verified_manifest(header, path)
    try:
        arrays = load_tensors(payload)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    _verify_arrays(manifest, arrays, path)
    return manifest, arrays


def _header(file: Any, size: int, path: Path) -> dict[str, Any]:
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8) or size > MAX_BYTES:
        raise CheckpointError(
            f"{path} is no saved energy: {size} bytes with a header of {length}. It is truncated, "
            "or something else."
        )
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is not JSON.") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} is damaged: its header is not a table.")
    return header


def _verified_manifest(header: dict[str, Any], path: Path) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    text = metadata.get("manifest") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(text, str):
        raise CheckpointError(f"{path} has no neb_ppl manifest: another program wrote it.")
    if metadata.get("sha256") != _sha(text):
        raise CheckpointError(f"{path} was altered: its manifest does not match its hash.")
    manifest = json.loads(text)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {manifest.get('format')}; this version reads format {FORMAT}. "
            "Install the neb_ppl that wrote it, or a newer one."
        )
    if manifest.get("kind") not in KINDS:
        raise CheckpointError(f"{path} holds an unknown kind of energy: {manifest.get('kind')!r}.")
    return manifest


def _verify_arrays(manifest: dict[str, Any], arrays: dict[str, np.ndarray], path: Path) -> None:
    expected = manifest["arrays"]
    differences = sorted(set(expected) ^ set(arrays))
    for name in sorted(set(expected) & set(arrays)):
        leaf, entry = arrays[name], expected[name]
        seen = {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": _digest(leaf)}
        if seen != entry:
            differences.append(name)
        elif not _is_healthy(name, leaf):
            raise CheckpointError(f"{path} holds values that are not finite in {name}.")
    if differences:
        raise CheckpointError(
            f"{path} is damaged or was altered: {', '.join(differences)} do not match the manifest."
        )


def _network(architecture: dict[str, Any]) -> Network:
    """The specification by its registered name; every field checked against its declared type."""
    name, fields = architecture.get("name"), architecture.get("fields")
    if name not in NETWORKS or not isinstance(fields, dict):
        raise CheckpointError(f"unknown architecture {name!r}; known: {', '.join(NETWORKS)}.")
    spec = NETWORKS[name]
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
    network: Network, event_shape: tuple[int, ...], arrays: dict[str, np.ndarray], path: Any
) -> None:
    """Every weight of the architecture with its shape, and no other."""
    _, _, shapes = module_structure(network, event_shape)
    wanted = {f"weights.{name}": shape for name, shape in shapes.items()}
    found = {name: leaf.shape for name, leaf in arrays.items() if name.startswith("weights.")}
    lines = [
        f"  {name}: expected {wanted.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(wanted | found)
        if wanted.get(name) != found.get(name)
    ]
    if lines:
        raise CheckpointError(f"{path} does not match its architecture:\n" + "\n".join(lines))


def _as_jax(name: str, leaf: np.ndarray, allow_narrowing: bool) -> jax.Array:
    if leaf.dtype == np.float64 and not jax.config.jax_enable_x64 and not allow_narrowing:  # pyright: ignore
        raise CheckpointError(
            f"{name} is float64 and JAX runs in float32. Turn x64 on, or pass allow_narrowing=True."
        )
    return jnp.asarray(leaf, jnp.result_type(float) if leaf.dtype == np.float64 else leaf.dtype)


@lru_cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("neb-ppl", "jax", "flax")}
