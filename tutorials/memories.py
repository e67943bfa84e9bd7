"""Memories: what the gradient flow of a smoothed energy remembers, and what it makes up.

NEBULA takes the smoothed energy for an associative memory: memories are the attractors of its
gradient flow. While sigma is below half the distance of the nearest two digits, every digit is a
memory of its own; as it passes half of the others' distances, digits share attractors that are none
of them, the "creative" ones. The critical sigma, where the spheres of noise of all digits overlap,
is not where that happens: in many dimensions shells overlap long before their centres are joined.

How much noise a memory can be recalled from depends on sigma as well, but where many digits share
one memory, ending in the right one is no feat: a dotted line says how often two digits do.

The energy of 200 digits is exact (a kernel density), so that nothing is left to training. Beside it
a learned energy of all digits: it has few, smooth memories, prototypes rather than examples.

    python tutorials/memories.py --out memories.png
"""

import argparse

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.geometry import chi
from neb_ppl.memory import MERGE, memories, recall

COUNT, FEW = 200, 50
SIGMAS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
SHOWN = (0.2, 0.5, 0.8)
CORRUPTION = np.linspace(0.0, 1.2, 7)


def half_nearest(x: np.ndarray) -> np.ndarray:
    """Half the distance of each digit to its nearest."""
    gaps = 8 * np.array(chi(x))  # chi is half the distance over the root of 64
    np.fill_diagonal(gaps, np.inf)
    return gaps.min(axis=1)


def own_memories(x: np.ndarray) -> list[tuple[float, float]]:
    """At each sigma: attractors a digit, and the share of digits that share theirs with none."""
    rows = []
    for sigma in SIGMAS:
        found = memories(neb.kernel_density(x, sigma), x)
        good = found.owner[found.owner >= 0]
        alone = np.bincount(good, minlength=len(found)) == 1
        rows.append((len(found) / len(x), alone[good].sum() / len(x)))
    return rows


def recall_rates(x: np.ndarray, sigma: float) -> tuple[list[float], float]:
    """Share of digits whose memory is reached from noise of each deviation; and by chance."""
    energy, few, key = neb.kernel_density(x, sigma), x[:FEW], jax.random.key(1)
    noisy = [
        neb.smooth(jax.random.fold_in(key, i), few, deviation)
        for i, deviation in enumerate(CORRUPTION[1:])
    ]
    found = recall(energy, np.concatenate([few, *noisy]))
    ends = np.asarray(found.memory).reshape(len(CORRUPTION), FEW, -1)
    good = np.asarray(found.converged).reshape(len(CORRUPTION), FEW)
    same = (np.linalg.norm(ends - ends[0], axis=-1) < MERGE * sigma) & good & good[0]
    pairs = np.linalg.norm(ends[0][:, None] - ends[0], axis=-1) < MERGE * sigma
    return same.mean(axis=1).tolist(), float(pairs[~np.eye(FEW, dtype=bool)].mean())


def prototypes(x: np.ndarray, sigma: float) -> neb.memory.Memories:
    """Attractors of a learned energy, from 100 digits with noise."""
    energy = neb.deen(jax.random.key(2), (8, 8), sigma)
    energy, _ = neb.fit(jax.random.key(3), energy, x, num_steps=1_000)
    starts = neb.smooth(jax.random.key(4), x[:100], sigma)
    return memories(energy, starts, x)


def draw(x: np.ndarray, own: list, rates: dict, learned: neb.memory.Memories) -> Figure:
    """Transition, recall, prototypes."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
    half = half_nearest(x)
    left.axvspan(half.min(), half.max(), color="0.93", label="half the nearest distance")
    left.axvline(np.median(half), color="0.6", lw=1)
    left.axvline(neb.critical_sigma(x), color="black", lw=1, ls=":", label="critical sigma")
    left.plot(SIGMAS, [a for a, _ in own], "o-", label="attractors a digit")
    left.plot(SIGMAS, [b for _, b in own], "o-", label="digits with one of their own")
    left.set(xlabel="sigma", ylim=(0, 1.03), title="when digits begin to share")
    left.legend(fontsize=8, loc="lower left")
    for i, (sigma, (line, chance)) in enumerate(rates.items()):
        middle.plot(CORRUPTION, line, "o-", c=f"C{i}", label=f"sigma {sigma:g}")
        middle.axhline(chance, c=f"C{i}", lw=0.8, ls=":")
    middle.set(xlabel="deviation of the corruption", ylim=(0, 1.03))
    middle.set(title="recalled (dotted: by chance)")
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
    own = own_memories(x)
    for sigma, (many, alone) in zip(SIGMAS, own, strict=True):
        print(f"sigma {sigma:.2f}: {many:.2f} attractors a digit, {alone:.0%} have their own")
    rates = {sigma: recall_rates(x, sigma) for sigma in SHOWN}
    learned = prototypes(digits, 0.3)
    print(learned)
    draw(x, own, rates, learned).savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
