"""UVB against DEEN: an energy with a code, and one without.

Both are learned by the same denoising loss and used alike: walked on, jumped from, diagnosed. DEEN
takes any network for its energy. Unnormalised variational Bayes (UVB) takes the negative evidence
bound of a variational autoencoder, so that besides the energy there is a code to look at: which of
its entries the energy uses, and what the decoder makes of points between two digits.

8 x 8 digits at sigma = .5, about equally many weights. The picture: what the jumps of both make of
noisy digits, the divergence of each entry of the code, and a path through the code.

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
        "UVB": neb.uvb(jax.random.key(0), (8, 8), SIGMA, network=network, num_points=1),
        "DEEN": neb.deen(jax.random.key(0), (8, 8), SIGMA, network=neb.MLP(hidden=512, blocks=3)),
    }
    energies = {
        name: neb.fit(jax.random.key(1), start, x, num_steps=1_500, progress_bar=False)[0]
        for name, start in starts.items()
    }
    # One point is enough to learn from; the walk deserves a better mean.
    energies["UVB"] = energies["UVB"].renewed(jax.random.key(2), 16)
    return energies


def compare(name: str, energy, train, test) -> None:
    """Denoising error, and a walk's classes."""
    size = sum(np.size(leaf) for leaf in energy.weights.values())
    error = float(neb.denoising_loss(energy, jax.random.key(3), jnp.asarray(test.x)))
    start = neb.start_at_noise(jax.random.key(4), energy, 8)
    walk = neb.sample(
        jax.random.key(5), energy, neb.KineticLangevin(), start, num_samples=300, num_warmup=300,
        steps_per_jump=10, progress_bar=False,
    )  # fmt: skip
    labels, _ = label_jumps(train, test, walk.x)
    print(f"{name}: {size:,} weights, squared error {error:.4f} a pixel")
    print(class_mixing(labels, train.labels, num_classes=10))


def path(energy: neb.VariationalEnergy, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What the decoder makes of the codes between two digits."""
    codes = [energy.encode(jnp.asarray(x))[0] for x in (a, b)]
    shares = np.linspace(0, 1, SHOWN)
    return np.stack([energy.decode((1 - t) * codes[0] + t * codes[1]) for t in shares])


def draw(rows: dict[str, np.ndarray], report: LatentReport, between: np.ndarray) -> Figure:
    """Rows of jumps, the code, a path."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.4, 1, 1.2))
    lines = [np.concatenate(list(images), axis=1) for images in rows.values()]
    left.imshow(np.concatenate(lines), cmap="gray", vmin=0, vmax=1)
    left.set_yticks([8 * i + 3.5 for i in range(len(rows))], list(rows))
    left.set(xticks=[], title=f"digits at sigma = {SIGMA:g}")
    middle.bar(range(len(report.divergence)), report.divergence)
    middle.set(xlabel="entry of the code, sorted", ylabel="KL, nats")
    middle.set_title(f"{report.num_active} of {len(report.order)} entries in use")
    half = SHOWN // 2
    tiles = [np.concatenate(list(part), axis=1) for part in (between[:half], between[half:])]
    right.imshow(np.concatenate(tiles), cmap="gray", vmin=0, vmax=1)
    right.set(xticks=[], yticks=[], title="decoded between the codes of two digits")
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
    rows = {"clean": np.asarray(clean), "noisy": np.asarray(noisy)}
    for name, energy in energies.items():
        compare(name, energy, train, test)
        jump = jax.vmap(lambda y, energy=energy: neb.bayes_estimator(energy, y))
        rows[name] = np.asarray(jump(noisy))
    code = energies["UVB"]
    assert isinstance(code, neb.VariationalEnergy)
    report = latent_report(code, np.asarray(neb.smooth(jax.random.key(7), test.x, SIGMA)))
    print(report)
    draw(rows, report, path(code, test.x[0], test.x[1])).savefig(options.out, dpi=110)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
