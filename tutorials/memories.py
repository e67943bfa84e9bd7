"""Memories: what the gradient flow of a smoothed energy remembers, and what it makes up.

NEBULA takes the smoothed energy for an associative memory: memories are the attractors of its
gradient flow. Below the critical sigma, where the noise of one digit hardly reaches the next, every
digit is a memory of its own; beyond it digits share attractors that are none of them, the
"creative" ones. How much noise a memory can be recalled from depends on sigma as well.

The energy of 200 digits is exact (a kernel density), so that nothing is left to training. Beside it
a learned energy of all digits: it has few, smooth memories, prototypes rather than examples.

    python tutorials/memories.py --out memories.png
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.memory import memories, recall

COUNT = 200
SIGMAS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
SHOWN = (0.2, 0.5, 0.8)
CORRUPTION = np.linspace(0.0, 1.2, 7)


def own_memories(x: np.ndarray) -> list[tuple[float, float]]:
    """At each sigma: attractors a digit, and the share of digits that share theirs with none."""
    rows = []
    for sigma in SIGMAS:
        found = memories(neb.kernel_density(x, sigma), x, progress_bar=False)
        alone = np.bincount(found.owner[found.owner >= 0], minlength=len(found)) == 1
        rows.append((len(found) / len(x), alone[found.owner].mean()))
    return rows


def recall_rates(x: np.ndarray, sigma: float) -> list[float]:
    """Share of digits whose memory is reached from noise of each deviation, 50 digits."""
    energy, few = neb.kernel_density(x, sigma), x[:50]
    clean = np.asarray(recall(energy, few, progress_bar=False).memory)
    rates = []
    for i, deviation in enumerate(CORRUPTION):
        key = jax.random.fold_in(jax.random.key(1), i)
        noisy = np.asarray(neb.smooth(key, few, deviation)) if deviation else few
        ends = np.asarray(recall(energy, noisy, progress_bar=False).memory)
        gaps = np.linalg.norm((ends - clean).reshape(len(few), -1), axis=1)
        rates.append(float((gaps < 0.05 * sigma * 8).mean()))
    return rates


def prototypes(x: np.ndarray, sigma: float) -> neb.memory.Memories:
    """Attractors of a learned energy, from 100 digits with noise."""
    energy = neb.deen(jax.random.key(2), (8, 8), sigma)
    energy, _ = neb.fit(jax.random.key(3), energy, x, num_steps=1_000, progress_bar=False)
    starts = neb.smooth(jax.random.key(4), x[:100], sigma)
    return memories(energy, starts, x, progress_bar=False)


def draw(own: list, rates: dict, learned: neb.memory.Memories, critical: float) -> Figure:
    """Transition, recall, prototypes."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    left.plot(SIGMAS / critical, [a for a, _ in own], "o-", label="attractors a digit")
    left.plot(SIGMAS / critical, [b for _, b in own], "o-", label="digits with one of their own")
    left.axvline(1.0, color="black", lw=1)
    left.set(xlabel="sigma / critical sigma", ylim=(0, 1.03), title="when digits begin to share")
    left.legend(fontsize=8)
    for sigma, line in rates.items():
        middle.plot(CORRUPTION, line, "o-", label=f"sigma {sigma:g}")
    middle.set(xlabel="deviation of the corruption", ylim=(0, 1.03), title="recalled")
    middle.legend(fontsize=8)
    count = min(len(learned), 10)
    tiles = [np.pad(image, 1, constant_values=np.nan) for image in learned.y[:count]]
    tiles += [np.full((10, 10), np.nan)] * (10 - count)
    right.imshow(np.block([tiles[:5], tiles[5:]]), cmap="gray", vmin=0, vmax=1)
    right.set(xticks=[], yticks=[], title=f"memories of a learned energy ({len(learned)})")
    return figure


def main() -> None:
    """Recall, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="memories.png")
    options = parser.parse_args()
    digits = neb.data.digits("train").x
    x = digits[:COUNT]
    critical = neb.critical_sigma(x)
    own = own_memories(x)
    for sigma, (many, alone) in zip(SIGMAS, own, strict=True):
        print(f"sigma {sigma:.2f}: {many:.2f} attractors a digit, {alone:.0%} have their own")
    rates = {sigma: recall_rates(x, sigma) for sigma in SHOWN}
    learned = prototypes(digits, 0.3)
    print(learned)
    draw(own, rates, learned, critical).savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
