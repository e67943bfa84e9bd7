"""Progress bars, drawn by the host between compiled chunks."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

__all__ = ["Interrupt", "chunks", "interruptible", "progress"]

SECONDS_PER_CHUNK = 0.25
SECONDS_PER_LINE = 10.0


def progress(total: int, description: str, *, show: bool, unit: str = "it") -> Any:
    """A tqdm bar, silent when `show` is false. Drawing it cannot touch a random number.

    Into a file it is drawn every ten seconds, where a terminal or notebook has ten a second.
    """
    seen = "ipykernel" in sys.modules or getattr(sys.stderr, "isatty", bool)()
    return tqdm(
        total=total, desc=description, unit=unit, disable=not show, leave=False,
        dynamic_ncols=True, mininterval=0.1 if seen else SECONDS_PER_LINE,
    )  # fmt: skip


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


class Interrupt:
    """Whether Ctrl-C was pressed."""

    requested = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C into ``requested``, for a loop to end between chunks.

    In the midst of a chunk there is no state to keep: its buffers are taken over. A second Ctrl-C
    raises KeyboardInterrupt as usual, and so does the first outside the main thread.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def request(number: int, frame: Any) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True
        if getattr(before, "asks", False):  # a loop around this one ends too
            before(number, frame)  # pyright: ignore

    request.asks = True  # pyright: ignore[reportFunctionMemberAccess]
    before = signal.signal(signal.SIGINT, request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
