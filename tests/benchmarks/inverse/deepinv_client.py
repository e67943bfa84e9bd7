"""The other end of `deepinv_side`: writes problem files, asks, reads the draws."""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import jax
import numpy as np

import neb_ppl as neb
from tests.benchmarks.inverse.budget import Budget
from tests.benchmarks.inverse.metrics import BUDGET_SECONDS
from tests.benchmarks.inverse.problems import Problem

__all__ = ["SETTINGS", "Deepinv", "SideError"]

CHAINS = ("ULA", "SKROCK")
THREADS = 2
POINTS = 64


def _grid(**choices: tuple) -> list[dict]:
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


WEIGHTS = {"steps": (100, 300), "sigma_max": (10.0,), "weight": (1.0, 2.0, 4.0, 8.0)}

# Eight settings each. `step` is in units of 1 / L, L = ||A||^2 / tau^2 + 1 / sigma^2.
SETTINGS: dict[str, list[dict]] = {
    "ULA": _grid(sigma=(0.05, 0.1), step=(0.25, 0.5, 1.0, 1.5)),
    "SKROCK": [
        setting | tuned
        for setting in _grid(sigma=(0.05, 0.1))
        for tuned in (
            {"inner": 5, "step": 2.0}, {"inner": 5, "step": 8.0},
            {"inner": 10, "step": 5.0}, {"inner": 10, "step": 30.0},
        )
    ],
    "ALD": _grid(**WEIGHTS),
    "DPS norm": _grid(steps=(100, 300), sigma_max=(10.0,), weight=(10.0, 30.0, 60.0, 100.0)),
    "DPS annealed": _grid(**WEIGHTS),
    "PiGDM": _grid(**WEIGHTS),
    "MomentMatching": _grid(cg=(3, 16), steps=(100, 300), sigma_max=(3.0, 10.0), batch=(256,)),
    "DDRM": _grid(steps=(100,), sigma_max=(1.0, 10.0), eta=(0.85, 1.0), etab=(0.9, 1.0)),
    "DiffPIR": _grid(steps=(100,), zeta=(0.1, 0.3, 0.7, 1.0), **{"lambda": (1.0, 3.0)}),
}  # fmt: skip


class SideError(RuntimeError):
    """deepinv refused, or failed."""


class Deepinv:
    """A process with deepinv, and a folder through which problems and draws are exchanged."""

    def __init__(self, python: str):
        self.folder = Path(tempfile.mkdtemp())
        side = Path(__file__).with_name("deepinv_side.py")
        self.process = subprocess.Popen(
            [python, str(side), str(THREADS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},  # spinning starves shared cores
        )  # fmt: skip
        self.written: list[tuple[list[Problem], Path]] = []
        self.versions = self._ask(what="versions")
        self.settings = SETTINGS
        self.cores: float | None = None

    def load(self, group: list[Problem]) -> Path:
        """The problem file of a group, checked: both sides denoise alike."""
        for known, path in self.written:
            if known is group:
                return path
        path = self.folder / f"problem{len(self.written)}.npz"
        np.savez(path, **_contents(group))
        difference = self._disagreement(path, group[0])
        if difference > 1e-5:
            raise SideError(f"the denoisers differ by {difference:.1e}")
        self.written.append((group, path))
        return path

    def run(
        self, group: list[Problem], setting: dict, budget: Budget, stage: str
    ) -> list[tuple[np.ndarray, float, float]]:
        """Draws (chains, n, d), seconds and compile seconds (none here) of each problem.

        In the stages "validation" and "test" chains run alone for the ten seconds of the headline,
        so that settings are not chosen for shorter ones. Everything else goes in one batch.
        """
        alone = setting["method"] in CHAINS and stage in ("validation", "test")
        seconds = BUDGET_SECONDS if alone else budget.seconds(stage)
        batches = [[row] for row in range(len(group))] if alone else [list(range(len(group)))]
        path, out = self.load(group), self.folder / "draws.npz"
        results = []
        for rows in batches:
            reply = self._ask(
                what="sample", problem=str(path), rows=rows, setting=setting, out=str(out),
                chains=64 // len(rows), draws=budget.draws(stage), seconds=seconds,
                seed=1000 + group[rows[0]].seed,
            )  # fmt: skip
            self.cores = reply["cores"]
            taken = reply["seconds"] / len(rows)
            results += [(draws, taken, 0.0) for draws in np.load(out)["draws"]]
        return results

    def _ask(self, **request) -> dict:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the deepinv process stopped: does --python name a Python with deepinv?")
        reply = json.loads(line)
        if "error" in reply:
            raise SideError(reply["error"])
        return reply

    def _disagreement(self, path: Path, problem: Problem) -> float:
        """Largest difference of the denoisers, in the problem's unit."""
        sigmas = [problem.unit * sigma for sigma in (0.05, 0.1, 0.5, 2.0)]
        out = self.folder / "denoised.npz"
        self._ask(what="denoise", problem=str(path), sigmas=sigmas, out=str(out))
        theirs = np.load(out)["denoised"]
        points = np.load(path)["points"].reshape(-1, *problem.event_shape)
        energies = [problem.energy(sigma) for sigma in sigmas]
        ours = [jax.vmap(partial(neb.bayes_estimator, energy))(points) for energy in energies]
        ours = np.asarray(ours).reshape(theirs.shape)
        return float(np.abs(ours - theirs).max() / problem.unit)


def _contents(group: list[Problem]) -> dict[str, np.ndarray]:
    problem = group[0]
    rng = np.random.default_rng(0)
    points = problem.prior.draw(rng, POINTS)
    points += 0.2 * problem.unit * rng.standard_normal(points.shape)
    contents = {
        "shape": np.array(problem.event_shape),
        "unit": problem.unit,
        "noise": problem.scale,
        "matrix": problem.matrix,
        "observations": np.stack([p.observation for p in group]),
        "points": points,
    } | (_mixture(problem) if problem.learned is None else _network(problem.learned))
    return {
        name: np.asarray(leaf, np.int64 if name == "shape" else np.float32)
        for name, leaf in contents.items()
    }


def _mixture(problem: Problem) -> dict[str, np.ndarray]:
    eigenvalues, eigenvectors = problem.prior.spectra
    return {
        "log_weights": problem.prior.log_weights,
        "means": problem.prior.means,
        "eigenvalues": eigenvalues,
        "eigenvectors": eigenvectors,
    }


def _network(learned) -> dict[str, np.ndarray]:
    weights = {f"network.{name}": np.asarray(leaf) for name, leaf in learned.weights.items()}
    return weights | {
        "sigma_range": np.asarray(learned.sigma_range),
        "data_shift": np.asarray(learned.scale.shift),
        "data_scale": np.asarray(learned.scale.scale),
    }
