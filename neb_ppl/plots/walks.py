"""Pictures of walks: energies, traces, ranks by chain, classes visited."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neb_ppl.diagnostics import ClassMixing
from neb_ppl.plots._style import COLOURS, restrain, single
from neb_ppl.sampling import SampleResult
from neb_ppl.types import ArrayLike

__all__ = ["class_visits", "energy_trace", "trace_and_rank"]

NUM_BINS = 20


def energy_trace(result: SampleResult, reference: ArrayLike | None = None) -> Figure:
    """Energy along every chain; in colour the three whose means lie farthest from the others'.

    A band shows the central 95 % of `reference`, energies of fresh ``data + noise``.
    """
    figure, axis = single(7.5, 2.8)
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
        restrain(left)
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
    restrain(right)
    return figure


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
