"""Certified classification: how far may a digit be moved before the vote on it can change?

Randomised smoothing classifies noisy copies of an image and lets them vote; from the share of votes
follows a radius within which no change of the image, however clever, moves the majority. Here the
classifier sees what the jump leaves of a noisy copy, not the copy itself. A linear classifier of
jumps, the jump's network and a linear map, then votes more surely than one of the copies.

A learned energy of 8 x 8 digits at sigma = .5, a linear classifier trained on noisy copies and one
trained on jumps. The picture: share of held-out digits that are right and certified, by radius; and
how often gradient ascent, within the certified radius and beyond it, finds a change that does move
the vote.

    python tutorials/certified_classification.py --out certified.png
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.robust import ABSTAIN, LinearClassifier, attack, fit_classifier

SIGMA, ALPHA, IMAGES = 0.5, 0.01, 100
RADII = np.linspace(0.0, 1.6, 33)
SHARES = (0.95, 1.5, 2.0, 3.0, 4.0)


def classifiers(digits) -> dict[str, neb.robust.SmoothedClassifier]:
    """The same network, on noisy copies and on jumps from them."""
    energy = neb.deen(jax.random.key(0), (8, 8), SIGMA)
    energy, _ = neb.fit(jax.random.key(1), energy, digits.x, num_steps=800)
    settings = {"num_steps": 600, "learning_rate": 1e-2}
    network, key = LinearClassifier(), jax.random.key(2)
    return {
        "noisy copies": fit_classifier(
            key, network, digits.x, digits.labels, sigma=SIGMA, **settings
        ),
        "jumps": fit_classifier(key, network, digits.x, digits.labels, energy, **settings),
    }


def moved_share(smoothed, x, found, share: float) -> float:
    """Of the certified digits, those whose vote an attack at this share of the radius changes."""
    sure = (found.labels != ABSTAIN) & (found.radii > 0)
    radii = (share * found.radii[sure]).astype(np.float32)
    moved = attack(jax.random.key(5), smoothed, x[sure], found.labels[sure], radii, num_draws=16)
    votes, _ = smoothed.votes(jax.random.key(6), moved, 200, progress_bar=False)
    return float((votes.argmax(axis=1) != found.labels[sure]).mean())


def main() -> None:
    """Train, certify, attack, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="certified.png")
    options = parser.parse_args()
    test = neb.data.digits("test")
    x, labels = test.x[:IMAGES], test.labels[:IMAGES]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, smoothed in classifiers(neb.data.digits("train")).items():
        found = smoothed.certify(jax.random.key(3), x, num_estimate=1_000, alpha=ALPHA)
        right_share = found.accuracy(labels, RADII)
        print(f"{name}: {found}; right {right_share[0]:.0%}, within .5 {right_share[10]:.0%}")
        left.plot(RADII, right_share, label=f"votes on {name}")
        changed = [moved_share(smoothed, x, found, share) for share in SHARES]
        print("  attacks that move the vote: " + ", ".join(f"{share:.0%}" for share in changed))
        right.plot(SHARES, changed, "o-", label=f"votes on {name}")
    left.set(xlabel="l2 radius", ylabel="right, and certified", ylim=(0, 1))
    right.axvline(1.0, color="black", lw=1)
    right.set(xlabel="length of the attack / certified radius", ylabel="votes moved", ylim=(0, 1))
    left.legend(fontsize=8)
    figure.savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
