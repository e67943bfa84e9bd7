"""The results of both sides in one Markdown table a problem.

python -m tests.benchmarks.inverse.report results/deepinv_tier_a.json results/ours_tier_a.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

__all__ = ["markdown"]

RESOLUTION = 3e-4
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

    Energy distances below 3e-4 cannot be told from 0 with 3,000 draws: ratios to one are given as
    lower bounds.
    """
    tests = [row for row in rows if row["stage"] == "test" and row.get("energy_10s") is not None]
    for tier, problem in dict.fromkeys((row["tier"], row["problem"]) for row in tests):
        of_problem = [row for row in tests if (row["tier"], row["problem"]) == (tier, problem)]
        of_problem.sort(key=lambda row: row["energy_10s"])
        theirs = [row["energy_10s"] for row in of_problem if row["side"] == "deepinv"]
        yield from (f"Tier {tier}, {problem}", "", _line(COLUMNS), _line(["---"] * len(COLUMNS)))
        yield from (_line(_cells(row, min(theirs, default=None))) for row in of_problem)
        yield ""


def _cells(row: dict, best: float | None) -> list[str]:
    name = f"**{row['method']}**" if row["side"] == "ours" else f"deepinv {row['method']}"
    ratio = "" if best is None else _ratio(best, row["energy_10s"])
    return [name, _number(row["energy_10s"]), ratio, *(_number(row.get(key)) for key in SHOWN)]


def _ratio(best: float, energy: float) -> str:
    bound = "> " if energy < RESOLUTION else ""
    return bound + _number(best / max(energy, RESOLUTION))


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
