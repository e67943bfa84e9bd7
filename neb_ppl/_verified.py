"""One safetensors file with a manifest: written whole or not at all, read only when all matches.

The file holds arrays and JSON: nothing in it is executed. The manifest, in safetensors' own
metadata, holds a SHA-256 of every array, and the metadata one of the manifest.
"""

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
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

from neb_ppl.errors import CheckpointError, CheckpointWriteError

__all__ = ["as_jax", "differences", "read_verified", "write_verified"]

FORMAT = 1
MAX_HEADER = 1 << 22
MAX_BYTES = 1 << 34


def write_verified(path: Path, arrays: Mapping[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Write `arrays`, and `facts` in the manifest beside their shapes, types and hashes.

    Raises
    ------
    CheckpointError
        Facts that are not JSON.
    CheckpointWriteError
        The disk is full, the folder missing or read-only. Nothing is left behind.
    """
    manifest = {
        **facts,
        "format": FORMAT,
        "arrays": {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": _digest(leaf)}
            for name, leaf in sorted(arrays.items())
        },
        "versions": _versions(),
    }
    try:
        text = json.dumps(manifest, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"facts kept with arrays must be plain JSON: {error}.") from error
    _write(path, save_tensors(dict(arrays), metadata={"manifest": text, "sha256": _sha(text)}))


def read_verified(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Manifest and arrays, both verified: sizes, structure, then hashes.

    Raises
    ------
    CheckpointError
        A file that is truncated, damaged, altered, foreign, or of another format.
    """
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


def as_jax(name: str, leaf: np.ndarray, allow_narrowing: bool) -> jax.Array:
    """The array; float64 is not narrowed to float32 unless that is allowed."""
    if leaf.dtype == np.float64 and not jax.config.jax_enable_x64 and not allow_narrowing:  # pyright: ignore
        raise CheckpointError(
            f"{name} is float64 and JAX runs in float32. Turn x64 on, or pass allow_narrowing=True."
        )
    return jnp.asarray(leaf, jnp.result_type(float) if leaf.dtype == np.float64 else leaf.dtype)


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each name whose values differ."""
    return [
        f"  {name}: expected {expected.get(name, 'nothing')}, found {found.get(name, 'nothing')}"
        for name in sorted(expected | found)
        if expected.get(name) != found.get(name)
    ]


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
            f"could not write {path}: {error.strerror or error}. What it should hold is still in "
            "memory, and an older file is untouched."
        ) from error


def _header(file: Any, size: int, path: Path) -> dict[str, Any]:
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    if not 2 <= length <= min(MAX_HEADER, size - 8) or size > MAX_BYTES:
        raise CheckpointError(
            f"{path} is no file of neb_ppl: {size} bytes with a header of {length}. It is "
            "truncated, or something else."
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
    return manifest


def _verify_arrays(manifest: dict[str, Any], arrays: dict[str, np.ndarray], path: Path) -> None:
    expected = manifest["arrays"]
    differences = sorted(set(expected) ^ set(arrays))
    for name in sorted(set(expected) & set(arrays)):
        leaf, entry = arrays[name], expected[name]
        seen = {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "sha256": _digest(leaf)}
        if seen != entry:
            differences.append(name)
    if differences:
        raise CheckpointError(
            f"{path} is damaged or was altered: {', '.join(differences)} do not match the manifest."
        )


@lru_cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("neb-ppl", "jax", "flax")}
