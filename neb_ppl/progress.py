"""Progress bars, drawn by the host between compiled chunks."""

from typing import Any

from tqdm.auto import tqdm

__all__ = ["progress"]


def progress(total: int, description: str, *, show: bool, unit: str = "it") -> Any:
    """A tqdm bar, silent when `show` is false. Drawing it cannot touch a random number."""
    return tqdm(
        total=total, desc=description, unit=unit, disable=not show, leave=False, dynamic_ncols=True
    )
