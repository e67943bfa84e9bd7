"""NEBULA on MNIST: what is recalled from how much noise, and when images begin to share memories.

The exact energy of 300 images (a kernel density) and the learned energy of all of them.
"""

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.memory import memories, recall
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.learned import SIGMAS, deen_energy, label

COUNT, FEW = 300, 64
LEVELS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0)
SHOWN = (0.1, 0.2, 0.3, 0.5)
CORRUPTION = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)


def measure(kept: Kept) -> dict:
    """Transition and recall on the exact energy; memories of the learned ones."""
    return {
        "critical": kept.row("memory", "critical sigma", lambda: {"sigma": critical(kept)}),
        "own": [kept.row("memory", f"own {s:g}", lambda s=s: own(kept, s)) for s in LEVELS],
        "recall": {
            s: kept.row("memory", f"recall {s:g}", lambda s=s: recalled(kept, s)) for s in SHOWN
        },
        "learned": {
            s: kept.row("memory", f"learned {s:g}", lambda s=s: learned(kept, s)) for s in SIGMAS
        },
    }


def images(kept: Kept) -> np.ndarray:
    """Those that the exact energy remembers."""
    return kept.mnist("train").x[:COUNT]


def critical(kept: Kept) -> float:
    """Beyond it all spheres of these images overlap."""
    return neb.critical_sigma(images(kept))


def own(kept: Kept, sigma: float) -> dict:
    """Attractors an image, and the share of images that share theirs with none."""
    x = images(kept)
    found = memories(neb.kernel_density(x, sigma), x, x, progress_bar=False)
    lost = found.owner < 0
    alone = np.bincount(found.owner[~lost], minlength=len(found)) == 1
    return {
        "memories": len(found),
        "own": float(alone[found.owner[~lost]].mean()),
        "creative": float((found.distance > 0.5).mean()),
        "minima": float(found.is_minimum.mean()),
        "not_converged": int(lost.sum()),
    }


def recalled(kept: Kept, sigma: float) -> dict:
    """Share of images whose memory is reached from noise of each deviation."""
    energy = neb.kernel_density(images(kept), sigma)
    return {"rates": rates(energy, images(kept)[:FEW])}


def rates(energy: neb.SmoothedEnergy, x: np.ndarray) -> list[float]:
    """Of flows from noise, those that end where the flow from the image itself does."""
    clean = np.asarray(recall(energy, x, progress_bar=False).memory)
    shares = []
    for i, deviation in enumerate(CORRUPTION):
        key = jax.random.fold_in(jax.random.key(1), i)
        noisy = np.asarray(neb.smooth(key, x, deviation)) if deviation else x
        ends = np.asarray(recall(energy, noisy, progress_bar=False).memory)
        gaps = np.sqrt(((ends - clean) ** 2).mean(axis=(1, 2)))
        shares.append(float((gaps < 0.05 * float(energy.sigma)).mean()))
    return shares


def learned(kept: Kept, sigma: float) -> dict:
    """Attractors of test images, whether they keep the label, and recall from noise."""
    energy, test = deen_energy(kept, sigma), kept.mnist("test")
    x, labels = test.x[:FEW], test.labels[:FEW]
    found = memories(energy, x, kept.mnist("train").x[:3_000], progress_bar=False)
    good = found.owner >= 0
    kept_label = label(kept, found.y)[found.owner[good]] == labels[good]
    return {
        "memories": len(found),
        "starts": FEW,
        "minima": float(found.is_minimum.mean()),
        "not_converged": int((~good).sum()),
        "keeps_label": float(kept_label.mean()),
        "distance": float(np.median(found.distance)),
        "rates": rates(energy, x[:16]),
        "shown": np.round(found.y[:10], 3).tolist(),
    }


def draw(found: dict) -> Figure:
    """Transition, recall, and the learned memories."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    ratio = np.array(LEVELS) / found["critical"]["sigma"]
    left.plot(ratio, [row["memories"] / COUNT for row in found["own"]], "o-", label="attractors")
    left.plot(ratio, [row["own"] for row in found["own"]], "o-", label="images with their own")
    left.axvline(1.0, color="black", lw=1)
    left.set(xlabel="sigma / critical sigma", ylabel="an image", title="exact energy, 300 images")
    for sigma, row in found["recall"].items():
        middle.plot(CORRUPTION, row["rates"], "o-", label=f"exact, sigma {sigma:g}")
    for sigma, row in found["learned"].items():
        middle.plot(CORRUPTION, row["rates"], "s--", ms=4, label=f"learned, sigma {sigma:g}")
    middle.set(xlabel="deviation of the corruption", title="recalled", ylim=(0, 1.03))
    lines = [_line(row["shown"]) for row in found["learned"].values()]
    right.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1)
    counts = ", ".join(str(row["memories"]) for row in found["learned"].values())
    right.set(xticks=[], yticks=[], title=f"learned, sigma .25, .5, 1: {counts} of {FEW} starts")
    for axis in (left, middle):
        axis.legend(fontsize=7)
    return figure


def _line(shown: list) -> np.ndarray:
    """Up to ten images in a row, each with a margin."""
    tiles = [np.pad(np.array(image), 1, constant_values=1.0) for image in shown]
    tiles += [np.ones((30, 30))] * (10 - len(tiles))
    return np.concatenate(tiles, axis=1)
