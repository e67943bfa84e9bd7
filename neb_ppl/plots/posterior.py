"""Pictures of a posterior over images: what is known, how well, and where it is wrong."""

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neb_ppl._checks import as_numbers
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.inverse import PosteriorResult
from neb_ppl.plots._style import SAND, restrain
from neb_ppl.types import ArrayLike

__all__ = ["posterior_maps"]

MAX_Z = 3.0


def posterior_maps(
    truth: ArrayLike,
    observation: ArrayLike | None,
    mean: ArrayLike | PosteriorResult,
    sd: ArrayLike | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    *,
    level: float = 0.9,
) -> Figure:
    """A row for each image: truth, data, mean, sd, z-score (truth - mean) / sd, interval width.

    Gray levels of truth, data and mean are the truth's range. Where the posterior is right,
    z-scores look like noise, mostly between -2 and 2, and the intervals hold their share of the
    pixels.

    Parameters
    ----------
    truth, mean, sd, lower, upper : arrays, shape (height, width) or (n, height, width)
        The last two are the ends of an interval. z is in sand where sd is 0. A `PosteriorResult`
        in place of mean stands for all but the truth.
    observation : array, shape (h, w) or (n, h, w), or None
        Data that are images of any size; NaN, in sand, where nothing was seen.
    level : float
        Of the interval, where a `PosteriorResult` is given.

    Raises
    ------
    EventShapeError
        Shapes that differ, or are not those of images.
    InvalidArgumentError
        No numbers; a `PosteriorResult` beside arrays, or arrays that are not all there.
    """
    if isinstance(mean, PosteriorResult) and sd is lower is upper is None:
        mean, sd, (lower, upper) = mean.mean, mean.sd, mean.interval(level)
    elif isinstance(mean, PosteriorResult) or sd is None or lower is None or upper is None:
        others = {"sd": sd, "lower": lower, "upper": upper}
        seen = [name for name, other in others.items() if other is not None]
        raise InvalidArgumentError(
            "mean must be a PosteriorResult by itself, or an array beside sd, lower and upper; got "
            f"{type(mean).__name__} beside {' and '.join(seen) or 'none of these'}."
        )
    given = {"truth": truth, "mean": mean, "sd": sd, "lower": lower, "upper": upper}
    images = {name: _images(name, array) for name, array in given.items()}
    for name, array in images.items():
        if array.shape != images["truth"].shape:
            raise EventShapeError(
                f"{name} must have the shape of truth, {images['truth'].shape}; got {array.shape}."
            )
    truth, mean, sd, lower, upper = images.values()
    if observation is not None and np.ndim(observation) == 1:
        raise EventShapeError(
            f"observation must be an image, or None; got shape {np.shape(observation)}. Data of a "
            "mask are shown as np.where(keep, image, np.nan), hidden pixels as NaN."
        )
    data = None if observation is None else _images("observation", observation)
    if data is not None and len(data) != len(truth):
        raise EventShapeError(f"observation must hold {len(truth)} images; got {len(data)}.")
    with np.errstate(all="ignore"):
        z = np.where(sd > 0, (truth - mean) / sd, np.nan)
        beyond = (np.abs(z) > 2).sum() / max(1, np.isfinite(z).sum())
    gray = Normalize(truth.min(), truth.max())
    inside = ((lower <= truth) & (truth <= upper)).mean()
    columns = [
        ("truth", truth, "gray", gray),
        ("data", data, "gray", gray),
        ("mean", mean, "gray", gray),
        ("sd", sd, "viridis", Normalize(0, sd.max())),
        (f"z-score, {beyond:.0%} beyond 2", z, "RdBu_r",
         Normalize(-MAX_Z, MAX_Z)),
        (f"interval width, holds {inside:.0%}", upper - lower, "viridis",
         Normalize(0, (upper - lower).max())),
    ]  # fmt: skip
    return _grid([column for column in columns if column[1] is not None])


def _grid(columns: list) -> Figure:
    """Columns of images, a title above each and a colour bar below."""
    count = len(columns[0][1])
    figure = Figure(figsize=(1.75 * len(columns), 1.6 * count + 1.1), layout="constrained")
    axes = figure.subplots(count, len(columns), squeeze=False)
    for line, (title, images, cmap, norm) in zip(axes.T, columns, strict=True):
        line[0].set_title(title.replace(", ", "\n"), fontsize=9)
        for axis, image in zip(line, images, strict=True):
            axis.set_facecolor(SAND)
            shown = axis.imshow(image, cmap=cmap, norm=norm, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            restrain(axis)
            axis.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=line, location="bottom", shrink=0.9, aspect=14, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)
    return figure


def _images(name: str, array: ArrayLike) -> np.ndarray:
    images = as_numbers(name, array)
    images = images[None] if images.ndim == 2 else images
    if images.ndim != 3 or images.size == 0:
        raise EventShapeError(
            f"{name} must have shape (height, width) or (n, height, width); got {np.shape(array)}."
        )
    return images
