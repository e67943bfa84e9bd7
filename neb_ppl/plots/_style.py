"""What the pictures share: colours, one plain panel, images without axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "SAND", "restrain", "show", "single"]

COLOURS = ("#1b6ca8", "#c0504d", "#3f8f4f", "#8064a2", "#d08a2e", "#4bacc6", "#7f7f7f", "#a05a7a")
SAND = "#f3e3b3"


def single(width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one panel."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    restrain(axis)
    return figure, axis


def show(axis: Axes, image: np.ndarray, limits: Sequence[float]) -> None:
    """An image in gray, NaN in sand, without axes."""
    gray = colormaps["gray"].with_extremes(bad=SAND)
    axis.imshow(image, cmap=gray, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axis.axis("off")


def restrain(axis: Axes) -> None:
    """No upper and right spine, small tick labels."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
