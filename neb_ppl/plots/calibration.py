"""Pictures of calibration: ranks, coverage, TARP, each beside what chance would show."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from neb_ppl.diagnostics import Calibration, Coverage, Tarp
from neb_ppl.diagnostics.ranks import binomial_tails, rank_counts
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.plots._style import COLOURS, restrain

__all__ = ["coverage_curve", "rank_ecdf", "rank_histogram", "tarp_curve"]

COLUMNS = 5
MAX_PANELS = 24
NUM_BINS = 20
BAND = "#d9d9d9"
RIGHT, WRONG = COLOURS[:2]

Curve = TypeVar("Curve", Coverage, Tarp)


def rank_ecdf(calibration: Calibration) -> Figure:
    """ECDF of the ranks minus that of uniform ranks, one panel a quantity.

    The gray band is simultaneous over the whole curve and all quantities: right draws leave it
    anywhere with a chance of alpha. Quantities that do are red. One hill says that draws are too
    high, one valley too low; a hill and then a valley that they are too narrow, the reverse too
    wide.

    Parameters
    ----------
    calibration : Calibration
        The 24 quantities of the smallest p-values are drawn.
    """
    figure, panels = _panels(calibration)
    band = calibration.band
    shares = rank_counts(calibration.ranks, calibration.num_draws) / calibration.num_simulations
    points = np.concatenate([[0], band.points, [1]])

    def closed(curve: np.ndarray) -> np.ndarray:
        return np.concatenate([[0], curve - band.points, [0]])

    for axis, column, colour in panels:
        axis.fill_between(points, closed(band.lower), closed(band.upper), color=BAND, lw=0)
        axis.axhline(0, color="0.5", lw=0.6)
        axis.plot(points, closed(shares[:, column]), color=colour, lw=1.3)
    figure.supxlabel("share of draws below the truth", fontsize=9)
    figure.supylabel("ECDF - uniform", fontsize=9)
    return figure


def rank_histogram(calibration: Calibration) -> Figure:
    """Histogram of the ranks, 1 where even, one panel a quantity.

    The gray band holds every bar of every quantity, where draws are right, with a chance of at
    least 1 - alpha. A valley says that draws are too narrow, a hill too wide, a slope up that they
    are too low. `rank_ecdf` sees more.

    Parameters
    ----------
    calibration : Calibration
        The 24 quantities of the smallest p-values are drawn.
    """
    figure, panels = _panels(calibration)
    size, count = calibration.num_draws + 1, calibration.num_simulations
    bins = next(bins for bins in range(min(NUM_BINS, size, count // 5), 0, -1) if size % bins == 0)
    bins = bins if bins >= 5 else min(10, size)  # uneven by a rank, where no number divides
    edges = np.round(np.linspace(0, size, bins + 1)).astype(int)
    expected = count * np.diff(edges) / size
    share = calibration.alpha / (bins * len(calibration.names))
    inside = binomial_tails(count, expected / count) > share
    low, high = inside.argmax(axis=1), count - inside[:, ::-1].argmax(axis=1)
    top = 0.0
    for axis, column, colour in panels:
        heights = np.histogram(calibration.ranks[:, column], edges)[0] / expected
        sides = [_held(side / expected) for side in (low, high)]
        axis.fill_between(edges / size, sides[0], sides[1], step="post", color=BAND, lw=0)
        axis.axhline(1, color="0.5", lw=0.6)
        axis.stairs(heights, edges / size, baseline=None, color=colour, lw=1.3)
        top = max(top, heights.max(), (high / expected).max())
    panels[0][0].set_ylim(0, 1.05 * top)  # shared
    figure.supxlabel("share of draws below the truth", fontsize=9)
    figure.supylabel("frequency, 1 = even", fontsize=9)
    return figure


def coverage_curve(methods: Coverage | Mapping[str, Coverage]) -> Figure:
    """Share of truths that intervals hold against what they claim, and the difference.

    Bands are two standard errors over simulations.

    Parameters
    ----------
    methods : Coverage, or a dict of them
        Of several levels each, by name of the method.
    """
    curves = _named(methods, Coverage)
    figure, (left, right) = _two_panels()
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        order = np.argsort(curve.level, axis=None)
        level, mean, error = (
            part.ravel()[order] for part in (curve.level, curve.mean, curve.mean_error)
        )
        for axis, base in ((left, 0), (right, level)):
            edges = (mean - base - 2 * error, mean - base + 2 * error)
            axis.fill_between(level, *edges, color=colour, alpha=0.18, lw=0)
            axis.plot(level, mean - base, "o-", ms=3, lw=1.2, color=colour, label=name)
    _label(left, right, "central interval claims", "intervals hold")
    return figure


def tarp_curve(methods: Tarp | Mapping[str, Tarp]) -> Figure:
    """Expected coverage around reference points against credibility, and the difference.

    The gray band is simultaneous: right draws leave it anywhere with a chance of alpha. It is that
    of the method with the fewest simulations.

    Parameters
    ----------
    methods : Tarp, or a dict of them
        By name of the method.
    """
    curves = _named(methods, Tarp)
    figure, (left, right) = _two_panels()
    widest = min(curves.values(), key=lambda curve: curve.num_simulations)
    for axis, base in ((left, 0), (right, widest.credibility)):
        edges = (widest.lower - base, widest.upper - base)
        axis.fill_between(widest.credibility, *edges, color=BAND, lw=0)
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        p_value = f"p = {curve.p_value:.1g}"
        label = f"{name} ({p_value})" if name else p_value
        for axis, base in ((left, 0), (right, curve.credibility)):
            axis.plot(curve.credibility, curve.coverage - base, lw=1.3, color=colour, label=label)
    _label(left, right, "credibility of the ball", "balls hold")
    return figure


def _panels(calibration: Calibration) -> tuple[Figure, list[tuple[Axes, int, str]]]:
    """A panel for each quantity, the least likely 24 of them, with its column and its colour."""
    if not isinstance(calibration, Calibration):
        raise InvalidArgumentError(
            "calibration must be a Calibration, such as neb_ppl.diagnostics.calibrate or "
            f"judge_ranks returns; got {type(calibration).__name__}."
        )
    p_values, failing = calibration.p_values, set(calibration.failing)
    worst = sorted(calibration.names, key=p_values.__getitem__)[:MAX_PANELS]
    chosen = [name for name in calibration.names if name in worst]
    rows = -(-len(chosen) // COLUMNS)
    columns = -(-len(chosen) // rows)
    size = (max(1.75 * columns + 1.1, 3.4), 1.55 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis in axes[len(chosen) :]:
        axis.axis("off")
    for axis in axes[max(0, len(chosen) - columns) : len(chosen)]:
        axis.tick_params(labelbottom=True)
    panels = []
    for axis, name in zip(axes, chosen, strict=False):
        restrain(axis)
        colour = WRONG if name in failing else RIGHT
        axis.set_title(f"{name}\np = {p_values[name]:.1g}", fontsize=8, color=colour)
        axis.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
        panels.append((axis, calibration.names.index(name), colour))
    told = f"{calibration.num_simulations} simulations, {calibration.num_draws} draws each"
    left_out = len(calibration.names) - len(chosen)
    figure.suptitle(told + (f"; {left_out} quantities not shown" if left_out else ""), fontsize=9)
    return figure, panels


def _held(values: np.ndarray) -> np.ndarray:
    return np.append(values, values[-1])


def _named(methods: Curve | Mapping[str, Curve], kind: type[Curve]) -> Mapping[str, Curve]:
    curves = {"": methods} if isinstance(methods, kind) else methods
    found = type(methods).__name__
    if isinstance(curves, Mapping):
        wrong = [type(curve).__name__ for curve in curves.values() if not isinstance(curve, kind)]
        if 1 <= len(curves) <= len(COLOURS) and not wrong:
            return curves
        found = f"a dict of {len(curves)}" + (f", among them {wrong[0]}" if wrong else "")
    raise InvalidArgumentError(
        f"methods must be a {kind.__name__}, or a dict of 1 to {len(COLOURS)} of them by name; got "
        f"{found}. neb_ppl.diagnostics.{kind.__name__.lower()} makes them."
    )


def _two_panels() -> tuple[Figure, Any]:
    figure = Figure(figsize=(8.2, 3.0), layout="constrained")
    return figure, figure.subplots(1, 2)


def _label(left: Axes, right: Axes, claim: str, held: str) -> None:
    """Diagonal, axes in per cent, a legend where curves have labels."""
    left.plot([0, 1], [0, 1], color="0.5", lw=0.6, zorder=0)
    right.axhline(0, color="0.5", lw=0.6, zorder=0)
    left.set_aspect("equal")
    left.set_ylim(0, 1)
    left.set_ylabel(held)
    right.set_ylabel("difference")
    for axis in (left, right):
        restrain(axis)
        axis.set_xlim(0, 1)
        axis.set_xlabel(claim)
        axis.xaxis.set_major_formatter(FuncFormatter(_per_cent))
        axis.yaxis.set_major_formatter(FuncFormatter(_per_cent))
    handles, labels = left.get_legend_handles_labels()
    if any(labels):
        left.figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right center")


def _per_cent(share: float, _: int) -> str:
    return f"{100 * share:g}%"
