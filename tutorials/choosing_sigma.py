"""Choosing sigma: sharp jumps or a walk that crosses, and where the two meet.

Sigma is the one choice that nobody makes for you. A small one leaves digits almost as they are: the
spheres on which the noise of two of them lies do not touch, jumps are sharp, and a walk stays near
the digit that it started from. A large one melts all of them together: a walk goes everywhere, and
jumps are averages over many digits. In between lies the critical sigma, at which the spheres of the
two most distant points touch; `neb_ppl.suggest_sigma` starts there and says why.

One energy is learned at each of five sigmas from 8 x 8 digits, eight chains walk on it, and a
classifier names what the jumps are. The picture: spheres that overlap; error of the jump and
changes of class; jumps of one chain at each sigma. Look at the jumps before you read the changes:
at a third of the critical sigma the chain leaves the digits, since the energy was never taught what
lies between their spheres, and the classifier names noise.

    python tutorials/choosing_sigma.py --out sigma.png
"""

import argparse
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.demo import label_jumps
from neb_ppl.diagnostics import class_mixing
from neb_ppl.geometry import overlap_graph

FRACTIONS = (0.33, 0.67, 1.0, 1.67, 3.0)  # of the critical sigma
CHAINS, JUMPS = 8, 300


class Seen(NamedTuple):
    """What one sigma gives."""

    sigma: float
    error: float
    changes: float
    fewest: int
    film: np.ndarray


def seen_at(sigma: float, train, test) -> Seen:
    """Learn, walk, name the jumps."""
    energy = neb.deen(jax.random.key(0), (8, 8), sigma)
    energy, _ = neb.fit(jax.random.key(1), energy, train.x, num_steps=800)
    start = neb.start_at_data(jax.random.key(2), energy, train.x, CHAINS)
    walk = neb.sample(
        jax.random.key(3), energy, neb.KineticLangevin(), start, num_samples=JUMPS,
        steps_per_jump=10,
    )  # fmt: skip
    labels, _ = label_jumps(train, test, walk.x)
    mixing = class_mixing(labels, train.labels, num_classes=10)
    error = float(neb.denoising_loss(energy, jax.random.key(4), jax.numpy.asarray(test.x)))
    film = np.asarray(walk.x)[0, :: JUMPS // 12][:12]
    return Seen(sigma, error, mixing.changes_per_1000, int(mixing.num_visited.min()), film)


def draw(x: np.ndarray, critical: float, found: list[Seen]) -> Figure:
    """Overlaps, the trade, the jumps."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
    sigmas = np.linspace(0.05, 1.2 * critical, 12)
    graphs = [overlap_graph(x[:600], float(sigma)) for sigma in sigmas]
    left.plot(sigmas, [g.degree.mean() / 599 for g in graphs], "o-", label="pairs that overlap")
    left.plot(sigmas, [g.num_components / 600 for g in graphs], "o-", label="parts, a digit")
    left.axvline(critical, color="black", lw=1)
    left.set(xlabel="sigma", title="spheres of noise (line: critical sigma)")
    left.legend(fontsize=8)
    middle.plot([s.sigma for s in found], [s.error for s in found], "o-", label="error of the jump")
    middle.set(xlabel="sigma", ylabel="squared error a pixel", xscale="log", ylim=(0, None))
    crossing = middle.twinx()
    crossing.plot([s.sigma for s in found], [s.changes for s in found], "C1s-")
    crossing.set(ylabel="class changes in 1,000 jumps", ylim=(0, None))
    crossing.yaxis.label.set_color("C1")
    middle.yaxis.label.set_color("C0")
    middle.set_title("sharper, or further")
    right.imshow(
        np.concatenate([np.concatenate(_framed(s.film), axis=1) for s in found]),
        cmap="gray", vmin=0, vmax=1,
    )  # fmt: skip
    middles = [10 * i + 4.5 for i in range(len(found))]
    right.set_yticks(middles, [f"{s.sigma:.2f}" for s in found])
    right.set(xticks=[], ylabel="sigma", title="jumps of one chain")
    return figure


def _framed(film: np.ndarray) -> list[np.ndarray]:
    return [np.pad(image, 1, constant_values=0.5) for image in film]


def main() -> None:
    """Suggest, learn and walk at each sigma, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="sigma.png")
    options = parser.parse_args()
    train, test = neb.data.digits("train"), neb.data.digits("test")
    suggestion = neb.suggest_sigma(train.x)
    print(suggestion.reason)
    critical = suggestion.critical_sigma
    found = [seen_at(fraction * critical, train, test) for fraction in FRACTIONS]
    for seen in found:
        print(
            f"sigma {seen.sigma:.2f}: error {seen.error:.4f}, {seen.changes:.0f} class changes in "
            f"1,000 jumps, the worst chain visits {seen.fewest} classes"
        )
    draw(train.x, critical, found).savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
