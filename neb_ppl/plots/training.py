"""Pictures of learning: the training curve, and the spheres of noise that sigma makes overlap."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from neb_ppl.geometry import chi
from neb_ppl.plots._style import COLOURS, single
from neb_ppl.training import History
from neb_ppl.types import ArrayLike

__all__ = ["sphere_overlap", "training_curve"]


def training_curve(history: History, baselines: dict[str, float] | None = None) -> Figure:
    """Risk of the batches and of held-out data over the steps, with other estimators as lines.

    Both are what ``history.measure`` says: the denoising risk per dimension, unless the loss
    measures something else. `baselines` are in its unit.
    """
    figure, axis = single(6.0, 2.8)
    window = max(1, len(history.loss) // 100)
    smooth = np.convolve(history.training_risk, np.ones(window) / window, mode="valid")
    steps = np.arange(len(smooth)) + window
    axis.plot(steps, smooth, color="0.6", lw=0.8, label="training")
    axis.plot(history.steps, history.risk, "o-", color=COLOURS[0], ms=3, lw=1, label="validation")
    for colour, (name, risk) in zip(COLOURS[1:], (baselines or {}).items(), strict=False):
        axis.axhline(risk, ls="--", lw=1, color=colour, label=name)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:.2g}"))
    axis.tick_params(which="both", labelsize=8)
    axis.set_xlabel("step")
    axis.set_ylabel(history.measure)
    axis.legend(frameon=False, fontsize=8)
    return figure


def sphere_overlap(x: ArrayLike, sigma: float, critical_sigma: float) -> Figure:
    """Histogram of chi over pairs of data: their spheres overlap where it is below sigma."""
    figure, axis = single(6.0, 2.4)
    distances = np.asarray(chi(np.asarray(x)[:1_000]))
    axis.hist(distances[np.triu_indices_from(distances, 1)], bins=80, color="0.75")
    axis.axvline(sigma, color=COLOURS[1], lw=1.5, label=f"sigma = {sigma:.3f}")
    axis.axvline(critical_sigma, color="k", ls="--", lw=1, label=f"sigma_c = {critical_sigma:.3f}")
    axis.set_yticks([])
    axis.set_title("Pairs of data: left of sigma, their spheres of noise overlap", fontsize=9)
    axis.set_xlabel("χ = half the distance of two data points / √d")
    axis.legend(frameon=False, fontsize=8)
    return figure
