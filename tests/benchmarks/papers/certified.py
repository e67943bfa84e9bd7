"""Certified accuracy on MNIST: votes on noisy copies, and votes on jumps from them.

For each sigma a linear and a convolutional network: trained on what it votes on, with and without
adversarial training, and one and the same trained on clean images: 36 curves over the same test
images. Steps of training on noisy copies cost less, and are more.
"""

from itertools import product

import jax
import numpy as np
from matplotlib.figure import Figure

from neb_ppl.robust import (
    ConvClassifier,
    LinearClassifier,
    SmoothedClassifier,
    fit_classifier,
    smoothed_classifier,
)
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers.learned import SIGMAS, deen_energy

NETWORKS = {"linear": LinearClassifier(), "convolutional": ConvClassifier(widths=(16, 32))}
LOOKS = ("noisy copies", "jumps")
TRAININGS = {"": "-", "adversarial": "--", "clean": ":"}
CLEAN = 1e-3  # noise of its training
IMAGES, VOTES, ALPHA = 100, 500, 0.01
SHARES = np.linspace(0.0, 2.0, 41)
STEPS, BATCH = {"noisy copies": 3_000, "jumps": 400}, 32
RATES = {"linear": {"noisy copies": 1e-2, "jumps": 1e-2},
         "convolutional": {"noisy copies": 1e-3, "jumps": 3e-3}}  # fmt: skip


def measure(kept: Kept) -> dict[str, dict]:
    """A row for each curve."""
    found = {}
    for sigma, network, look, training in product(SIGMAS, NETWORKS, LOOKS, TRAININGS):
        name = named(sigma, network, look, training)
        what = sigma, network, look, training
        found[name] = kept.row("certified", name, lambda what=what: curve(kept, *what))
    return found


def named(sigma: float, network: str, look: str, training: str) -> str:
    """What the row of a curve is called."""
    return f"sigma {sigma:g}, {network}, {look}" + (f", {training}" if training else "")


def trained(kept: Kept, sigma: float, network: str, look: str, training: str) -> SmoothedClassifier:
    """A classifier for what it will vote on, or the one of clean images."""
    energy = deen_energy(kept, sigma) if look == "jumps" else None
    if training == "clean":
        clean = fitted(kept, network, "noisy copies", None, CLEAN, 0.0)
        return smoothed_classifier(clean.classifier, energy, sigma=sigma)
    return fitted(kept, network, look, energy, sigma, sigma / 2 if training else 0.0)


def fitted(kept: Kept, network: str, look: str, energy, sigma: float, radius: float):
    """The network after training on MNIST."""
    train = kept.mnist("train")
    return fit_classifier(
        jax.random.key(0), NETWORKS[network], train.x, train.labels, energy,
        sigma=sigma, radius=radius, num_steps=STEPS[look], batch_size=BATCH,
        learning_rate=RATES[network][look],
    )  # fmt: skip


def curve(kept: Kept, sigma: float, network: str, look: str, training: str) -> dict:
    """Share of test images that are right and certified, at each radius."""
    smoothed, test = trained(kept, sigma, network, look, training), kept.mnist("test")
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
        for look, (training, dashes) in product(LOOKS, TRAININGS.items()):
            label = f"{look}, {training} training" if training else look
            line = {"color": colours[look], "ls": dashes, "label": label}
            row = found[named(sigma, network, look, training)]
            axes[i, j].plot(sigma * SHARES, row["accuracy"], **line)
        axes[i, j].set(title=f"{network}, sigma {sigma:g}", ylim=(0, 1.03))
        axes[1, j].set(xlabel="l2 radius")
        axes[i, 0].set(ylabel="right, and certified")
    axes[1, 0].legend(fontsize=8, loc="lower left")
    return figure
