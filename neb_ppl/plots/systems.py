"""Pictures of memories, and of certificates."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.memory import Memories
from neb_ppl.plots._style import COLOURS, show, single
from neb_ppl.robust import Certificates
from neb_ppl.types import ArrayLike

__all__ = ["certified_accuracy", "memory_tiles"]


def memory_tiles(found: Memories, count: int = 20, columns: int = 10) -> Figure:
    """The memories with the largest basins, as images, and the share of starts that each holds.

    Parameters
    ----------
    found : Memories
        Of images, ``(height, width)``.
    count, columns : int
        How many at most, and in a line.
    """
    if not isinstance(found, Memories) or not len(found):
        raise InvalidArgumentError(
            "found must be neb_ppl.memory.memories(...) with a memory in it; got "
            f"{len(found) if isinstance(found, Memories) else type(found).__name__}."
        )
    if found.y.ndim != 3:
        raise EventShapeError(
            f"memories must be images (height, width); got events {found.y.shape[1:]}."
        )
    images = found.y[:count]
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(0.72 * columns, 0.9 * lines + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    limits = (float(images.min()), float(images.max()))
    for axis in axes:
        axis.axis("off")
    for axis, image, share in zip(axes, images, found.basins, strict=False):
        show(axis, image, limits)
        axis.set_title(f"{share:.0%}", fontsize=7)
    figure.suptitle(f"{len(images)} of {len(found)} memories, and shares of the starts", fontsize=9)
    return figure


def certified_accuracy(
    labels: ArrayLike, certificates: Mapping[str, Certificates], radii: ArrayLike | None = None
) -> Figure:
    """Share of events that are right, and certified, within each radius, and its standard error.

    Bands are Wilson's intervals of one standard error, for events that stand for all others.

    Parameters
    ----------
    labels : int array, shape ``(n,)``
        The truth.
    certificates : dict of Certificates
        From the name of a curve to what `SmoothedClassifier.certify` gave for the same events.
    radii : array, optional
        Default: from 0 to the largest certified.
    """
    bad = [name for name, each in certificates.items() if not isinstance(each, Certificates)]
    if bad or not certificates:
        raise InvalidArgumentError(
            "certificates must be a dict from names to what certify gave; got "
            f"{', '.join(bad) or 'none'}."
        )
    if radii is None:
        largest = max(float(each.radii.max()) for each in certificates.values())
        radii = np.linspace(0, largest or 1.0, 101)
    figure, axis = single(5.0, 3.0)
    for colour, (name, each) in zip(COLOURS, certificates.items(), strict=False):
        share = np.asarray(each.accuracy(labels, radii))
        axis.plot(radii, share, color=colour, label=name)
        axis.fill_between(radii, *_wilson(share, len(each.radii)), color=colour, alpha=0.15, lw=0)
    axis.set(xlabel="l2 radius, data units", ylabel="right, and certified", ylim=(0, 1.02))
    axis.legend(frameon=False, fontsize=8)
    return figure


def _wilson(share: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of a large number that are one standard error from `share` of `count`."""
    centre = (share + 0.5 / count) / (1 + 1 / count)
    half = np.sqrt(share * (1 - share) / count + 0.25 / count**2) / (1 + 1 / count)
    return centre - half, centre + half
