"""Tune each sampler on validation problems, test it on others, keep and print what came out.

    python -m tests.benchmarks.inverse --side deepinv --python P --out results.json --tier A

What the file holds already is not run again.
"""

import argparse
import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.inverse import learned
from tests.benchmarks.inverse.budget import BUDGETS, Budget
from tests.benchmarks.inverse.deepinv_client import Deepinv, SideError
from tests.benchmarks.inverse.metrics import judge
from tests.benchmarks.inverse.problems import TIERS, Problem, groups, names
from tests.benchmarks.timing import machine, report

HEADLINE = "energy_10s"
PER_SEED = ("energy_10s", "energy", "coverage", "draws_per_second")
SHOWN = (
    "energy_10s", "energy", "energy_floor", "mean_error", "sd_ratio", "coverage",
    "coverage_truth", "psnr_gap", "sliced", "sliced_floor", "rhat", "draws_per_second",
    "seconds_to_500",
)  # fmt: skip
KEPT = ("finite", "energy_10s", "energy", "draws_per_second", "error", "load", "cores", "took")
UNSUITED = {("D", "DiffPIR")}  # it clips images to [0, 1]
SLICES = {"A": 200, "B": 200, "D": 10_000}


class Ours:
    """`ours.py`: ``SETTINGS`` and ``run(problem, setting)``.

    ``SETTINGS`` maps a method to its settings, dicts of plain numbers. `run` gets one of them with
    ``method``, ``seed``, ``seconds`` (wall-clock time to use, without compiling) and ``draws``
    (enough independent draws), and returns ``draws (chains, n, d)``, independent ones as
    (n, 1, d), ``seconds`` and ``compile_seconds``.
    """

    def __init__(self):
        self.module = importlib.import_module("tests.benchmarks.inverse.ours")
        self.settings = self.module.SETTINGS
        self.versions: dict[str, str] = {}

    def run(self, group: list[Problem], setting: dict, budget: Budget, stage: str):
        extra = {"seconds": budget.seconds(stage), "draws": budget.draws(stage)}
        return [self.module.run(p, setting | extra | {"seed": 1000 + p.seed}) for p in group]


class Results:
    """Rows of a JSON file, written after each."""

    def __init__(self, path: Path, side: str, versions: dict[str, str]):
        self.path, self.side = path, side
        self.content = {"rows": []}
        if path.exists():
            self.content = json.loads(path.read_text())
        command = f"python -m tests.benchmarks.inverse --side {side}"
        self.content["machine"] = machine() | {"command": command}
        self.content.setdefault("versions", {})[side] = versions

    def find(self, **key) -> dict | None:
        """The row with these entries."""
        key["side"] = self.side
        for row in self.content["rows"]:
            if all(row.get(name) == entry for name, entry in key.items()):
                return row
        return None

    def add(self, row: dict) -> dict:
        row["side"] = self.side
        self.content["rows"].append(row)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1))
        partial.replace(self.path)
        return row


def measure(side, problems: list[list[Problem]], setting: dict, budget: Budget, stage: str) -> dict:
    """Metrics of one setting, means over the problems; or the error that stopped it."""
    load, compiled, metrics = os.getloadavg()[0], [], []
    started = time.perf_counter()
    slices = SLICES[problems[0][0].tier] if stage == "test" else 0
    try:
        for group in problems:
            for problem, (draws, seconds, compile_seconds) in zip(
                group, side.run(group, setting, budget, stage), strict=True
            ):
                metrics.append(judge(draws, problem, seconds, slices))
                compiled.append(compile_seconds)
    except SideError as error:
        return {"error": str(error)}
    row = {name: _mean([m[name] for m in metrics if name in m]) for name in metrics[0]}
    row["finite"] = _mean([m["finite"] for m in metrics])
    if stage == "test":
        row["per_seed"] = {k: [_short(m.get(k)) for m in metrics] for k in PER_SEED}
        row["compile_seconds"] = _mean(compiled)
    row["cores"] = _short(getattr(side, "cores", None))
    return row | {"load": _short(load), "took": _short(time.perf_counter() - started)}


def tune(results: Results, side, key: dict, problems, settings: list[dict], budget: Budget) -> dict:
    """The setting with the lowest energy distance in ten seconds on validation problems."""
    rows = []
    for setting in settings:
        known = key | {"stage": "validation", "setting": setting}
        row = results.find(**known)
        if row is None:
            row = measure(side, problems, setting | {"method": key["method"]}, budget, "validation")
            row = results.add(known | {k: row[k] for k in KEPT if k in row})
        rows.append(row)
    return min(rows, key=_score)["setting"]


def run(results: Results, side, tier: str, name: str, methods: list[str], options) -> None:
    """All methods on one problem."""
    prior = learned.learned_prior(Path(options.cache)) if tier == "B" else None
    budget = BUDGETS[options.budget]
    validation = groups(tier, name, "validation", prior)
    test = groups(tier, name, "test", prior)
    for method in methods:
        key = {"tier": tier, "problem": name, "method": method}
        if (tier, method) in UNSUITED or results.find(**key, stage="test"):
            continue
        setting = tune(results, side, key, validation, side.settings[method], budget)
        row = measure(side, test, setting | {"method": method}, budget, "test")
        row = results.add(
            key | {"stage": "test", "budget": options.budget, "setting": setting} | row
        )
        shown = " ".join(f"{k}={row[k]:.3g}" for k in SHOWN if row.get(k) is not None)
        print(f"{tier} {name} {method} {setting}: {row.get('error', shown)}", flush=True)


def table(content: dict) -> Iterator[dict]:
    """Rows of tests, best first within a problem."""
    tests = [row for row in content["rows"] if row["stage"] == "test"]
    for row in sorted(tests, key=lambda row: (row["tier"], row["problem"], _score(row))):
        numbers = {name: row[name] for name in SHOWN if row.get(name) is not None}
        yield {k: row[k] for k in ("tier", "problem", "side", "method")} | numbers


def _score(row: dict) -> float:
    if "error" in row or row.get("finite") != 1.0 or row.get(HEADLINE) is None:
        return float("inf")
    return row[HEADLINE]


def _mean(numbers: list) -> float | None:
    finite = [x for x in numbers if x is not None and np.isfinite(x)]
    return _short(float(np.mean(finite))) if finite else None


def _short(x: float | None) -> float | None:
    return None if x is None or not np.isfinite(x) else float(f"{x:.4g}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", choices=("deepinv", "ours"), required=True)
    parser.add_argument("--python", help="a Python that has deepinv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tier", choices=TIERS, default="A")
    parser.add_argument("--problems", nargs="+")
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--budget", choices=BUDGETS, default="full")
    cache = Path(tempfile.gettempdir()) / "neb_ppl_inverse"
    parser.add_argument("--cache", default=cache, help="folder of the learned prior")
    options = parser.parse_args()
    if options.side == "deepinv" and not options.python:
        parser.error("--side deepinv needs --python")
    side = Deepinv(options.python) if options.side == "deepinv" else Ours()
    results = Results(options.out, options.side, side.versions)
    for name in options.problems or names(options.tier):
        run(results, side, options.tier, name, options.methods or list(side.settings), options)
    report(list(table(results.content)), None)


if __name__ == "__main__":
    main()
