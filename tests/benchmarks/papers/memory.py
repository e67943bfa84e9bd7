"""NEBULA on MNIST: what is recalled from how much noise, and when images begin to share memories.

The exact energy of 300 images (a kernel density) and the learned energy of all of them.
"""

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.memory import MERGE, memories, recall
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.learned import SIGMAS, deen_energy, label

COUNT, FEW = 300, 64
LEVELS = (0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
SHOWN = (0.3, 1.0, 3.0)
CORRUPTION = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)
OF_SIGMA = (0.0, 0.5, 1.0, 1.5, 2.0)  # what a learned energy may know of


def measure(kept: Kept) -> dict:
    """Transition and recall on the exact energy; memories of the learned ones."""
    return {
        "geometry": kept.row("memory", "geometry", lambda: geometry(kept)),
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


def geometry(kept: Kept) -> dict:
    """The critical sigma, and half the distance of each image to its nearest."""
    x = images(kept).reshape(COUNT, -1).astype(np.float64)
    squares = np.sum(x**2, axis=1)
    gaps = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(gaps, np.inf)
    half = np.sqrt(gaps.min(axis=1)) / 2
    return {
        "critical": neb.critical_sigma(images(kept)),
        "half_nearest": [float(q) for q in np.quantile(half, [0, 0.5, 1])],
    }


def own(kept: Kept, sigma: float) -> dict:
    """Attractors an image, and the share of images that share theirs with none."""
    x = images(kept)
    found = memories(neb.kernel_density(x, sigma), x, x, progress_bar=False)
    good = found.owner[found.owner >= 0]
    alone = np.bincount(good, minlength=len(found)) == 1
    return {
        "memories": len(found),
        "own": float(alone[good].sum() / len(x)),
        "distance": float(np.median(found.distance)),
        "at_no_minimum": len(x) - len(good),
    }


def recalled(kept: Kept, sigma: float) -> dict:
    """Share of images whose memory is reached from noise of each deviation."""
    return rates(neb.kernel_density(images(kept), sigma), images(kept)[:FEW], CORRUPTION)


def rates(energy: neb.SmoothedEnergy, x: np.ndarray, deviations: tuple[float, ...]) -> dict:
    """Of flows from noise, those that end where the flow from the image itself does.

    By chance as many do as there are pairs of images whose own flows end at one place.
    """
    key = jax.random.key(1)
    noisy = [neb.smooth(jax.random.fold_in(key, i), x, s) for i, s in enumerate(deviations) if s]
    found = recall(energy, np.concatenate([x, *noisy]))
    ends = np.asarray(found.memory, np.float64).reshape(len(deviations), len(x), -1)
    good = np.asarray(found.converged).reshape(len(deviations), len(x))
    merge = MERGE * float(energy.sigma)
    same = (np.linalg.norm(ends - ends[0], axis=-1) < merge) & good & good[0]
    pairs = np.linalg.norm(ends[0][:, None] - ends[0], axis=-1) < merge
    others = pairs[~np.eye(len(x), dtype=bool)]
    return {
        "deviations": list(deviations),
        "rates": [float(row.mean()) for row in same],
        "chance": float(others.mean()),
        "at_no_minimum": int((~good).sum()),
    }


def learned(kept: Kept, sigma: float) -> dict:
    """Attractors of test images, whether they keep the label, and recall from noise."""
    energy, test = deen_energy(kept, sigma), kept.mnist("test")
    x, labels = test.x[:FEW], test.labels[:FEW]
    found = memories(energy, x, kept.mnist("train").x[:3_000])
    good = found.owner >= 0
    kept_label = label(kept, found.y)[found.owner[good]] == labels[good]
    return {
        "memories": len(found),
        "starts": FEW,
        "at_no_minimum": int((~good).sum()),
        "curvature": float(np.median(found.curvature)),
        "keeps_label": float(kept_label.mean()),
        "distance": float(np.median(found.distance)),
        **rates(energy, x[:16], tuple(sigma * np.array(OF_SIGMA))),
        "shown": np.round(found.y[:10], 3).tolist(),
    }


def draw(found: dict) -> Figure:
    """Transition, recall, and the learned memories."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
    critical, half = found["geometry"]["critical"], found["geometry"]["half_nearest"]
    left.plot(LEVELS, [row["memories"] / COUNT for row in found["own"]], "o-", label="attractors")
    left.plot(LEVELS, [row["own"] for row in found["own"]], "o-", label="images with their own")
    left.axvspan(half[0], half[2], color="0.9", label="half the nearest distance")
    left.axvline(half[1], color="0.6", lw=1)
    left.axvline(critical, color="black", lw=1, ls=":", label="critical sigma")
    left.set(xlabel="sigma", ylabel="an image", title="exact energy, 300 images")
    exact = [("exact", "o-", sigma, row) for sigma, row in found["recall"].items()]
    network = [("learned", "s--", sigma, row) for sigma, row in found["learned"].items()]
    for i, (kind, style, sigma, row) in enumerate(exact + network):
        middle.plot(
            row["deviations"], row["rates"], style, c=f"C{i}", ms=4, label=f"{kind}, {sigma:g}"
        )
        middle.axhline(row["chance"], c=f"C{i}", lw=0.8, ls=":")
    middle.set(xlabel="deviation of the corruption", ylim=(0, 1.03))
    middle.set(title="recalled (dotted: by chance)")
    lines = [_line(row["shown"]) for row in found["learned"].values()]
    right.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1)
    counts = ", ".join(str(row["memories"]) for row in found["learned"].values())
    right.set(xticks=[], yticks=[], title=f"learned, sigma .25, .5, 1: {counts} of {FEW} starts")
    left.legend(fontsize=7, loc="upper right")
    middle.legend(fontsize=7, loc="lower left")
    return figure


def _line(shown: list) -> np.ndarray:
    """Up to ten images in a row, each with a margin."""
    tiles = [np.pad(np.array(image), 1, constant_values=1.0) for image in shown]
    tiles += [np.ones((30, 30))] * (10 - len(tiles))
    return np.concatenate(tiles, axis=1)
