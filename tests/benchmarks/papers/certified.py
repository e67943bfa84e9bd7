"""Certified accuracy on MNIST: votes on noisy copies, and votes on jumps from them.

For each sigma a linear and a convolutional classifier, each trained on what it votes on, with and
without adversarial training: 24 curves over the same test images. Steps of training on noisy copies
cost less, and are more.
"""

from itertools import product

import jax
import numpy as np
from matplotlib.figure import Figure

from neb_ppl.robust import ConvClassifier, LinearClassifier, SmoothedClassifier, fit_classifier
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.learned import SIGMAS, deen_energy

NETWORKS = {"linear": LinearClassifier(), "convolutional": ConvClassifier(widths=(16, 32))}
LOOKS = ("noisy copies", "jumps")
IMAGES, VOTES, ALPHA = 100, 500, 0.01
SHARES = np.linspace(0.0, 2.0, 41)
STEPS, BATCH = {"noisy copies": 3_000, "jumps": 400}, 32
RATES = {"linear": {"noisy copies": 1e-2, "jumps": 1e-2},
         "convolutional": {"noisy copies": 1e-3, "jumps": 3e-3}}  # fmt: skip


def measure(kept: Kept) -> dict[str, dict]:
    """A row for each curve."""
    found = {}
    for sigma, network, look, hard in product(SIGMAS, NETWORKS, LOOKS, (False, True)):
        name = named(sigma, network, look, hard)
        found[name] = kept.row(
            "certified", name, lambda s=sigma, n=network, k=look, h=hard: curve(kept, s, n, k, h)
        )
    return found


def named(sigma: float, network: str, look: str, hard: bool) -> str:
    """What the row of a curve is called."""
    return f"sigma {sigma:g}, {network}, {look}" + (", adversarial" if hard else "")


def trained(kept: Kept, sigma: float, network: str, look: str, hard: bool) -> SmoothedClassifier:
    """A classifier for what it will vote on."""
    train = kept.mnist("train")
    return fit_classifier(
        jax.random.key(0), NETWORKS[network], train.x, train.labels,
        deen_energy(kept, sigma) if look == "jumps" else None,
        sigma=sigma, radius=sigma / 2 if hard else 0.0, num_steps=STEPS[look],
        batch_size=BATCH, learning_rate=RATES[network][look],
    )  # fmt: skip


def curve(kept: Kept, sigma: float, network: str, look: str, hard: bool) -> dict:
    """Share of test images that are right and certified, at each radius."""
    smoothed, test = trained(kept, sigma, network, look, hard), kept.mnist("test")
    found = smoothed.certify(
        jax.random.key(1), test.x[:IMAGES], num_estimate=VOTES, alpha=ALPHA, progress_bar=False
    )
    radii = sigma * SHARES
    accuracy = found.accuracy(test.labels[:IMAGES], radii)
    right = found.labels == test.labels[:IMAGES]
    return {
        "right": float(accuracy[0]),
        "at_half_sigma": float(accuracy[10]),
        "at_sigma": float(accuracy[20]),
        "mean_radius": float(np.mean(found.radii * right)),
        "radii": np.round(np.where(right, found.radii, -1.0), 4).tolist(),
        "accuracy": accuracy.tolist(),
    }


def draw(found: dict[str, dict]) -> Figure:
    """A panel for each sigma and network."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True)
    colours = dict(zip(LOOKS, ("C0", "C1"), strict=True))
    for (i, network), (j, sigma) in product(enumerate(NETWORKS), enumerate(SIGMAS)):
        for look, hard in product(LOOKS, (False, True)):
            label = f"{look}, adversarial" if hard else look
            line = {"color": colours[look], "ls": "--" if hard else "-", "label": label}
            row = found[named(sigma, network, look, hard)]
            axes[i, j].plot(sigma * SHARES, row["accuracy"], **line)
        axes[i, j].set(title=f"{network}, sigma {sigma:g}", ylim=(0, 1))
        axes[1, j].set(xlabel="l2 radius")
        axes[i, 0].set(ylabel="right, and certified")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    return figure
