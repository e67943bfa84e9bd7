"""Pictures. Every function returns a matplotlib Figure and touches no global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from neb_ppl.diagnostics import ClassMixing
from neb_ppl.geometry import chi
from neb_ppl.sampling import SampleResult
from neb_ppl.training import History
from neb_ppl.types import ArrayLike

__all__ = [
    "class_visits",
    "energy_trace",
    "film_strip",
    "image_rows",
    "sphere_overlap",
    "trace_and_rank",
    "training_curve",
]

COLOURS = ("#1b6ca8", "#c0504d", "#3f8f4f", "#8064a2", "#d08a2e", "#4bacc6", "#7f7f7f", "#a05a7a")
NUM_BINS = 20
LIKE = 1.6


def image_rows(rows: Mapping[str, ArrayLike], caption: str = "") -> Figure:
    """Rows of images. Gray levels are the first row's, or a row's own where its range is another.

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
        limits = (float(images.min()), float(images.max()))
        first = limits if first is None else first
        alike = limits[1] - limits[0] < LIKE * (first[1] - first[0])
        for axis, image in zip(line, images, strict=True):
            _show(axis, image, first if alike else limits)
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
        _show(axis, frame, limits)
    told = f"{title}, {steps_between} walk steps between frames, left to right, no restart"
    figure.suptitle(told, fontsize=9)
    return figure


def energy_trace(result: SampleResult, reference: ArrayLike | None = None) -> Figure:
    """Energy along every chain; in colour the three whose means lie farthest from the others'.

    A band shows the central 95 % of `reference`, energies of fresh ``data + noise``.
    """
    figure, axis = _single(7.5, 2.8)
    steps = np.arange(1, result.num_samples + 1) * result.settings["steps_per_jump"]
    energies = -np.asarray(result.info["lp"])
    means = energies.mean(axis=1)
    odd = np.argsort(-np.abs(means - np.median(means)))[:3]
    for chain in set(range(len(energies))) - set(odd):
        axis.plot(steps, energies[chain], lw=0.5, alpha=0.5, color="0.55")
    for colour, chain in zip(COLOURS, np.sort(odd), strict=False):
        axis.plot(steps, energies[chain], lw=0.7, color=colour, label=f"chain {chain}")
    if reference is not None:
        low, high = np.quantile(np.asarray(reference), [0.025, 0.975])
        axis.axhspan(low, high, color="#f3e3b3", zorder=0, label="95 % of\ndata + noise")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_xlabel("walk step")
    axis.set_ylabel("energy φ(y) = -lp")
    title = f"Energy of {result.num_chains} chains; in colour the farthest from the others"
    axis.set_title(title, fontsize=9)
    return figure


def trace_and_rank(result: SampleResult, seed: int = 0) -> Figure:
    """Traces, and ranks by chain, of lp and of one fixed random projection of y.

    The projection is ``y @ direction`` with a standard normal direction over the root of d.

    A row of ranks that is even in every chain says that the chains see the same distribution.
    """
    y = np.asarray(result.y).reshape(result.num_chains, result.num_samples, -1)
    direction = np.random.default_rng(seed).normal(size=y.shape[2])
    quantities = {
        "lp": result.info["lp"],
        "projection of y": y @ (direction / len(direction) ** 0.5),
    }
    figure = Figure(figsize=(8.0, 2.1 * len(quantities)), layout="constrained")
    axes = figure.subplots(len(quantities), 2, squeeze=False, width_ratios=(2, 1))
    for (left, right), (name, draws) in zip(axes, quantities.items(), strict=True):
        for chain, line in enumerate(draws):
            left.plot(line, lw=0.4, alpha=0.7, color=COLOURS[chain % len(COLOURS)])
        left.set_ylabel(name, fontsize=9)
        left.set_xlabel("draw", fontsize=8)
        _rank_map(right, draws)
        _restrain(left)
    return figure


def class_visits(labels: ArrayLike, mixing: ClassMixing) -> Figure:
    """Which class each chain's jump is in over time, and class frequencies against the data's."""
    labels = np.asarray(labels)
    num_classes = len(mixing.reference)
    figure = Figure(figsize=(8.5, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    left.imshow(
        labels, aspect="auto", cmap="tab10", vmin=-0.5, vmax=num_classes - 0.5, interpolation="none"
    )
    left.set_xlabel("jump")
    left.set_ylabel("chain")
    left.yaxis.set_major_locator(MaxNLocator(integer=True))
    changes = f"{mixing.changes_per_1000:.0f} class changes per 1,000 jumps"
    left.set_title(f"Class of each jump (colours as on the right): {changes}", fontsize=9)
    classes = np.arange(num_classes)
    errors = np.nan_to_num(2 * mixing.standard_errors)
    colours = left.images[0].to_rgba(classes)
    right.bar(
        classes, mixing.frequencies, yerr=errors, color=colours, width=0.7, label="jumps, ± 2 se"
    )
    right.plot(classes, mixing.reference, "_", color="k", ms=14, mew=1.5, label="data")
    right.set_xticks(classes)
    right.set_ylim(0, 1.3 * max((mixing.frequencies + errors).max(), mixing.reference.max()))
    right.set_xlabel("class")
    right.set_title("Share of each class", fontsize=9)
    legend = right.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    for handle in legend.get_patches():
        handle.set_facecolor("0.6")
    _restrain(right)
    return figure


def training_curve(history: History, baselines: dict[str, float] | None = None) -> Figure:
    """Training loss and validation risk per dimension, with other estimators as lines."""
    figure, axis = _single(6.0, 2.8)
    window = max(1, len(history.loss) // 100)
    smooth = np.convolve(history.loss, np.ones(window) / window, mode="valid")
    steps = np.arange(len(smooth)) + window
    axis.plot(steps, smooth, color="0.6", lw=0.8, label="training loss")
    axis.plot(history.steps, history.risk, "o-", color=COLOURS[0], ms=3, lw=1, label="validation")
    for colour, (name, risk) in zip(COLOURS[1:], (baselines or {}).items(), strict=False):
        axis.axhline(risk, ls="--", lw=1, color=colour, label=name)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:.2g}"))
    axis.tick_params(which="both", labelsize=8)
    axis.set_xlabel("step")
    axis.set_ylabel("squared error per pixel")
    axis.legend(frameon=False, fontsize=8)
    return figure


def sphere_overlap(x: ArrayLike, sigma: float, critical_sigma: float) -> Figure:
    """Histogram of chi over pairs of data: their spheres overlap where it is below sigma."""
    figure, axis = _single(6.0, 2.4)
    distances = np.asarray(chi(np.asarray(x)[:1_000]))
    axis.hist(distances[np.triu_indices_from(distances, 1)], bins=80, color="0.75")
    axis.axvline(sigma, color=COLOURS[1], lw=1.5, label=f"sigma = {sigma:.3f}")
    axis.axvline(critical_sigma, color="k", ls="--", lw=1, label=f"sigma_c = {critical_sigma:.3f}")
    axis.set_yticks([])
    axis.set_title("Pairs of data: left of sigma, their spheres of noise overlap", fontsize=9)
    axis.set_xlabel("χ = half the distance of two data points / √d")
    axis.legend(frameon=False, fontsize=8)
    return figure


def _show(axis: Axes, image: np.ndarray, limits: Sequence[float]) -> None:
    axis.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axis.axis("off")


def _rank_map(axis: Axes, draws: np.ndarray) -> None:
    """One row a chain: how often its draws fall in each bin of ranks, 1 where chains agree."""
    share = _rank_shares(draws)
    image = axis.imshow(
        share,
        aspect="auto",
        cmap="RdBu_r",
        vmin=0,
        vmax=2,
        interpolation="none",
        extent=(0, 1, len(share) - 0.5, -0.5),
    )
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("rank among all chains", fontsize=8)
    axis.set_ylabel("chain", fontsize=8)
    axis.tick_params(labelsize=8)
    bar = axis.figure.colorbar(image, ax=axis, extend="max")
    bar.set_label("share, 1 = even", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _rank_shares(draws: np.ndarray) -> np.ndarray:
    """Density of each chain's ranks, shape (chains, bins); every row has mean 1."""
    ranks = draws.ravel().argsort(kind="stable").argsort().reshape(draws.shape)
    bins = min(NUM_BINS, draws.shape[1])
    edges = np.linspace(0, draws.size, bins + 1)
    return np.array([np.histogram(line, edges)[0] for line in ranks]) * bins / draws.shape[1]


def _single(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    _restrain(axis)
    return figure, axis


def _restrain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
