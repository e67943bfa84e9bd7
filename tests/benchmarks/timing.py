"""Paired timing, and a table that says where and when it was made."""

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np


def paired(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each action in each round, taking turns; the first round is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            reported = action()
            spent = time.perf_counter() - started
            seconds[name].append(reported if isinstance(reported, float) else spent)
    return {name: np.array(spent[1:]) for name, spent in seconds.items()}


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, float]:
    """Median, smallest and largest of the paired ratios."""
    each = above / below
    return {"ratio": float(np.median(each)), "min": float(each.min()), "max": float(each.max())}


def report(rows: list[dict], json_path: str | None) -> None:
    """Print rows as a table, and keep them with the machine they were measured on."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_shown(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(columns)]
    for line in [columns, ["-" * width for width in widths], *cells]:
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |")
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


def machine() -> dict[str, object]:
    """Where and when."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python -m {getattr(sys.modules['__main__'].__spec__, 'name', sys.argv[0])}",
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "jax": version("jax"),
        "neb-ppl": version("neb-ppl"),
    }


def _shown(cell: object) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
