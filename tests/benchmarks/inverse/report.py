"""The results of both sides in one Markdown table a problem.

python -m tests.benchmarks.inverse.report results/deepinv_tier_a.json results/ours_tier_a.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["markdown"]

RESAMPLES = 20_000
COLUMNS = (
    "sampler", "energy at 10 s", "deepinv's best / this", "energy", "sd ratio", "coverage",
    "of truth", "R-hat", "draws/s", "seconds", "cores", "load",
)  # fmt: skip
SHOWN = (
    "energy", "sd_ratio", "coverage", "coverage_truth", "rhat", "draws_per_second", "seconds",
    "cores", "load",
)  # fmt: skip


def markdown(rows: list[dict]) -> Iterator[str]:
    """Lines of tables, the best sampler of a problem first.

    Energy distances have their standard error over the problems; ratios the 5 % quantile of
    20,000 bootstrap samples of them.
    """
    tests = [row for row in rows if row["stage"] == "test" and row.get("energy_10s") is not None]
    for tier, problem in dict.fromkeys((row["tier"], row["problem"]) for row in tests):
        of_problem = [row for row in tests if (row["tier"], row["problem"]) == (tier, problem)]
        of_problem.sort(key=lambda row: row["energy_10s"])
        theirs = [_energies(row) for row in of_problem if row["side"] == "deepinv"]
        yield from (f"Tier {tier}, {problem}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS)))
        best = min(theirs, key=np.mean, default=None)
        yield from (_line(_cells(row, best)) for row in of_problem)
        yield ""


def _cells(row: dict, best: np.ndarray | None) -> list[str]:
    name = f"**{row['method']}**" if row["side"] == "ours" else f"deepinv {row['method']}"
    own = _energies(row)
    energy = f"{own.mean():.2g} +- {own.std(ddof=1) / np.sqrt(len(own)):.1g}"
    ratio = "" if best is None else _ratio(best, own)
    return [name, energy, ratio, *(_number(row.get(key)) for key in SHOWN)]


def _energies(row: dict) -> np.ndarray:
    """Of each problem."""
    return np.array([np.nan if x is None else x for x in row["per_seed"]["energy_10s"]])


def _ratio(best: np.ndarray, own: np.ndarray) -> str:
    if own.mean() <= 0:
        return "at the floor"  # of two sets of exact draws
    index = np.random.default_rng(0).integers(0, len(own), (RESAMPLES, len(own)))
    below, above = own[index].mean(1), best[index].mean(1)
    ratios = np.where(below > 0, above / np.maximum(below, 1e-12), np.inf)
    least = np.quantile(ratios, 0.05, method="lower")
    return f"{_number(best.mean() / own.mean())} ({_number(least)} up)"


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def _line(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    rows = [
        row for path in parser.parse_args().files for row in json.loads(path.read_text())["rows"]
    ]
    print("\n".join(markdown(rows)))


if __name__ == "__main__":
    main()
