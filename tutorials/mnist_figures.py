"""Figures 3 to 5 of "Neural Empirical Bayes" on MNIST, with their pixel ranges.

Needs MNIST's IDX files and two energies, made by

    neb-ppl train mnist --data-dir FOLDER --sigma 0.3 --steps 7600 --batch-size 32 \
        --learning-rate 3e-3 --out mnist-0.3.safetensors

and the same with 0.7 (about nine minutes each on two cores, the refinement included). Then

    python tutorials/mnist_figures.py --data-dir FOLDER

draws rows of clean, noisy and denoised test images at both sigmas, and a film of one chain's
jumps at sigma = .3, and prints the ranges of the pixels beside the paper's.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import neb_ppl as neb

PAPER = {
    "0.3": {"noisy": (-1.200, 1.995), "jump": (-0.0749, 1.0539), "walk": (-0.07, 1.10)},
    "0.7": {"noisy": (-3.314, 3.683), "jump": (-0.2405, 1.2686)},
}


def span(images) -> tuple[float, float]:
    """Smallest and largest pixel."""
    return float(np.min(images)), float(np.max(images))


def show(name: str, sigma: str, images) -> None:
    """The range of the images beside the paper's."""
    ours, theirs = span(images), PAPER[sigma][name]
    print(
        f"sigma = {sigma}, {name:<5}: [{ours[0]:.3f}, {ours[1]:.3f}]   "
        f"paper [{theirs[0]:.3f}, {theirs[1]:.3f}]"
    )


def rows(energy, x, sigma: str, out: Path) -> None:
    """Clean, noisy and denoised test images."""
    y = neb.smooth(jax.random.key(0), x, energy.sigma)
    jump = jax.jit(jax.vmap(lambda event: neb.bayes_estimator(energy, event)))(y)
    error = float(np.mean((np.asarray(jump) - x) ** 2))
    show("noisy", sigma, y)
    show("jump", sigma, jump)
    picture = {"clean": x[:16], "noisy": y[:16], "jump": jump[:16]}
    caption = f"MNIST test images, sigma = {sigma}: squared error {error:.4f} per pixel"
    neb.plots.image_rows(picture, caption).savefig(out / f"mnist-rows-{sigma}.png", dpi=110)


def film(energy, x, out: Path) -> None:
    """Chains of kinetic Langevin dynamics from pure noise, a jump every 60 steps."""
    start = neb.start_at_noise(jax.random.key(1), energy, 4)
    walk = neb.KineticLangevin()
    result = neb.sample(jax.random.key(2), energy, walk, start, num_samples=100, steps_per_jump=60)
    show("walk", "0.3", result.x[:, 1:])
    ink = result.x.sum(axis=(2, 3))
    print(
        f"ink of the last 50 jumps {ink[:, 50:].mean():.0f}, of test images {x.sum() / len(x):.0f}"
    )
    print(neb.diagnostics.diagnose(result))
    frames = result.x[:, ::5].reshape(-1, *x.shape[1:])
    figure = neb.plots.film_strip(frames, 300, title="four chains, one a line")
    figure.savefig(out / "mnist-film.png", dpi=110)


def main() -> None:
    """Draw and print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--energies", type=Path, default=Path("."))
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    x = neb.data.mnist("test", folder=options.data_dir).x[:200]
    for sigma in PAPER:
        energy = neb.load_energy(options.energies / f"mnist-{sigma}.safetensors")
        rows(energy, x, sigma, options.out)
        if sigma == "0.3":
            film(energy, x, options.out)


if __name__ == "__main__":
    main()
