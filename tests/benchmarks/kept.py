"""What a benchmark has computed so far: energies, arrays and rows of numbers, in a folder."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import neb_ppl as neb
from tests.benchmarks.timing import machine

__all__ = ["Kept"]


class Kept:
    """A folder that a run goes on from: what it holds is not computed again.

    Attributes
    ----------
    folder : Path
    data_dir : Path or None
        Of MNIST's IDX files.
    module : str
        What is run, for the record.
    """

    def __init__(self, folder: Path, data_dir: Path | None, module: str = "papers"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data_dir = folder, data_dir
        self.command = f"python -m tests.benchmarks.{module}"

    def mnist(self, split: str):
        """Images and labels."""
        return neb.data.mnist(split, folder=self.data_dir)

    def energy(self, name: str, train: Callable[[], Any]) -> Any:
        """The energy of this name, trained at most once."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            neb.save_energy(path, train())
        return neb.load_energy(path)

    def arrays(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
        """The arrays of this name, computed at most once."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **compute())
            partial.replace(path)
        with np.load(path) as stored:
            return dict(stored)

    def row(self, figure: str, name: str, compute: Callable[[], dict]) -> dict:
        """The numbers of this name, computed at most once, with their seconds."""
        path = self.folder / f"{figure}.json"
        content = json.loads(path.read_text()) if path.exists() else {"rows": {}}
        if name not in content["rows"]:
            started = time.perf_counter()
            row = compute()
            content["rows"][name] = row | {"seconds": round(time.perf_counter() - started, 1)}
            content["machine"] = machine() | {"command": self.command}
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(content, indent=1))
            partial.replace(path)
            print(f"{figure}: {name}: {_short(content['rows'][name])}", flush=True)
        return content["rows"][name]


def _short(row: dict) -> str:
    """Numbers of a row, without its long lists."""
    return ", ".join(f"{k} {v}" for k, v in row.items() if not isinstance(v, list | dict))
