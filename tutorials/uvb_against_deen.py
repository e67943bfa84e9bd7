"""UVB against DEEN: an energy with a code, and one without.

Both are learned by the same denoising loss and used alike: walked on, jumped from, diagnosed. DEEN
takes any network for its energy. Unnormalised variational Bayes (UVB) takes the negative evidence
bound of a variational autoencoder, so that besides the energy there is a code to look at, and how
much each of its entries tells of a noisy digit. (What there is not is a generative model: the
denoising loss looks at the energy's gradient alone, and the decoder's means need not look like
digits.)

8 x 8 digits at sigma = .5. The picture: what the jumps of both make of noisy digits, jumps of one
chain of each from pure noise, and the divergence of each entry of the code.

    python tutorials/uvb_against_deen.py --out uvb.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.demo import label_jumps
from neb_ppl.diagnostics import LatentReport, class_mixing, latent_report

SIGMA, SHOWN = 0.5, 12


def learned(x: np.ndarray) -> dict[str, neb.SmoothedEnergy]:
    """Both energies, by the same loss."""
    network = neb.VAE(latent=16, hidden=256, blocks=1)
    starts = {
        "UVB": neb.uvb(jax.random.key(0), (8, 8), SIGMA, network=network),
        "DEEN": neb.deen(jax.random.key(0), (8, 8), SIGMA, network=neb.MLP(hidden=512, blocks=3)),
    }
    return {
        name: neb.fit(jax.random.key(1), start, x, num_steps=1_500)[0]
        for name, start in starts.items()
    }


def compare(name: str, energy, train, test) -> np.ndarray:
    """Denoising error, and a walk's classes; some jumps of its first chain."""
    size = sum(np.size(leaf) for leaf in energy.weights.values())
    error = float(neb.denoising_loss(energy, jax.random.key(3), jnp.asarray(test.x)))
    start = neb.start_at_noise(jax.random.key(4), energy, 8)
    walk = neb.sample(
        jax.random.key(5), energy, neb.KineticLangevin(), start, num_samples=300, num_warmup=300,
        steps_per_jump=10,
    )  # fmt: skip
    labels, _ = label_jumps(train, test, walk.x)
    print(f"{name}: {size:,} weights, squared error {error:.4f} a pixel")
    print(class_mixing(labels, train.labels, num_classes=10))
    return np.asarray(walk.x)[0, :: len(labels[0]) // SHOWN][:SHOWN]


def tile(axis, rows: dict[str, np.ndarray], title: str) -> None:
    """A line of images for each name."""
    images = [np.pad(row, ((0, 0), (1, 1), (1, 1)), constant_values=0.5) for row in rows.values()]
    axis.imshow(np.concatenate([np.concatenate(list(i), axis=1) for i in images]), cmap="gray")
    axis.images[0].set_clim(0, 1)
    axis.set_yticks([10 * i + 4.5 for i in range(len(rows))], list(rows))
    axis.set(xticks=[], title=title)


def draw(rows: dict[str, np.ndarray], films: dict[str, np.ndarray], report: LatentReport) -> Figure:
    """Rows of jumps, films of chains, the code."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    pictures, code = figure.subfigures(1, 2, width_ratios=(1.7, 1))
    above, below = pictures.subplots(2, 1, height_ratios=(len(rows), len(films)))
    tile(above, rows, f"digits at sigma = {SIGMA:g}, and the jumps back")
    tile(below, films, "jumps of one chain from pure noise")
    axis = code.subplots()
    axis.bar(range(len(report.divergence)), report.divergence)
    axis.set(xlabel="entry of the code, sorted", ylabel="KL, nats")
    axis.set_title(f"{report.num_active} of {len(report.order)} entries in use")
    return figure


def main() -> None:
    """Learn, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="uvb.png")
    options = parser.parse_args()
    train, test = neb.data.digits("train"), neb.data.digits("test")
    energies = learned(train.x)
    clean = jnp.asarray(test.x[:SHOWN])
    noisy = neb.smooth(jax.random.key(6), clean, SIGMA)
    rows, films = {"clean": np.asarray(clean), "noisy": np.asarray(noisy)}, {}
    for name, energy in energies.items():
        films[name] = compare(name, energy, train, test)
        jump = jax.vmap(lambda y, energy=energy: neb.bayes_estimator(energy, y))
        rows[name] = np.asarray(jump(noisy))
    code = energies["UVB"]
    assert isinstance(code, neb.VariationalEnergy)
    report = latent_report(code, np.asarray(neb.smooth(jax.random.key(7), test.x, SIGMA)))
    print(report)
    draw(rows, films, report).savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
