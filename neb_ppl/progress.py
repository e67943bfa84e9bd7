"""Progress bars, drawn by the host between compiled chunks."""

import time
from collections.abc import Iterator
from typing import Any

from tqdm.auto import tqdm

__all__ = ["chunks", "progress"]

SECONDS_PER_CHUNK = 0.25


def progress(total: int, description: str, *, show: bool, unit: str = "it") -> Any:
    """A tqdm bar, silent when `show` is false. Drawing it cannot touch a random number."""
    return tqdm(
        total=total, desc=description, unit=unit, disable=not show, leave=False, dynamic_ncols=True
    )


def chunks(total: int, limit: int) -> Iterator[tuple[int, int]]:
    """Pairs (first, count) that cover `total`, each about a quarter of a second of work.

    The first chunk is small and pays for compilation; sizes then follow the clock, which cannot
    change a draw: keys depend on a draw's number alone.
    """
    first, count = 0, min(8, limit)
    while first < total:
        count = min(count, total - first)
        started = time.perf_counter()
        yield first, count
        seconds = time.perf_counter() - started
        first += count
        if first > count:
            pace = SECONDS_PER_CHUNK / max(seconds, 1e-6)
            count = max(1, min(limit, int(count * min(pace, 4.0))))
