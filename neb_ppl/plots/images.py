"""Pictures of images: rows, and one chain in time."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from neb_ppl.plots._style import show
from neb_ppl.types import ArrayLike

__all__ = ["film_strip", "image_rows"]

LIKE = 1.6


def image_rows(rows: Mapping[str, ArrayLike], caption: str = "") -> Figure:
    """Rows of images. Gray levels are the first row's, or a row's own where its range is another.

    NaN is shown in sand.

    Parameters
    ----------
    rows : dict of arrays, each of shape (n, height, width)
        From the name of the row to its images, such as clean, noisy, jump.
    caption : str
    """
    count = len(next(iter(rows.values())))
    figure = Figure(figsize=(0.62 * count + 1.3, 0.66 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False)
    first = None
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        images = np.asarray(images)
        limits = (float(np.nanmin(images)), float(np.nanmax(images)))
        first = limits if first is None else first
        alike = limits[1] - limits[0] < LIKE * (first[1] - first[0])
        for axis, image in zip(line, images, strict=True):
            show(axis, image, first if alike else limits)
        line[0].text(
            -0.25, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.suptitle(caption, fontsize=9)
    return figure


def film_strip(
    frames: ArrayLike, steps_between: int, columns: int = 20, title: str = "one chain"
) -> Figure:
    """One chain's jumps in time, left to right and then down, without restart.

    Parameters
    ----------
    frames : array, shape (n, height, width)
    steps_between : int
        Walk steps between frames, told in the caption.
    """
    frames = np.asarray(frames)
    lines = -(-len(frames) // columns)
    figure = Figure(figsize=(0.42 * columns, 0.45 * lines + 0.35), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    low, high = np.quantile(frames, [0.02, 0.995])
    limits = (float(low), float(high))
    for axis in axes:
        axis.axis("off")
    for axis, frame in zip(axes, frames, strict=False):
        show(axis, frame, limits)
    told = f"{title}, {steps_between} walk steps between frames, left to right, no restart"
    figure.suptitle(told, fontsize=9)
    return figure
