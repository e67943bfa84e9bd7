"""Coverage on real images with a learned prior: intervals as they are, and after calibration.

Half of the pixels hidden, a 3x3 blur, means over blocks; the noise-conditional energy that `fit`
gives, held-out images, `neb_ppl.inverse.solve`. The first half of the images calibrates intervals,
the second half judges them. A run goes on where an earlier one with the same folder stopped.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from neb_ppl import inverse
from tests.benchmarks.kept import Kept
from tests.benchmarks.timing import report

LEVEL = 0.9
LEAST = 18  # images of which half are enough to calibrate intervals of this level
NAMES = ("mean", "lower", "upper", "low", "high", "rhat", "seconds")
SETTINGS = {"num_samples": 48, "num_warmup": 200, "progress_bar": False}
CHAINS = {"digits": 16, "mnist": 8}
STEPS = {"digits": 3_000, "mnist": 2_500}


def problems(shape: tuple[int, int]) -> dict[str, tuple[inverse.LinearOperator, float]]:
    """Operators with the noise scale of their data."""
    keep = np.random.default_rng(0).random(shape) < 0.5
    factor = 4 if shape[0] > 8 else 2
    return {
        "inpaint half": (inverse.mask(keep), 0.1),
        "3x3 blur": (inverse.blur(np.full((3, 3), 1 / 9), shape), 0.1),
        f"{factor}x downsampling": (inverse.downsample(factor, shape), 0.05),
    }


def data(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images."""
    reader = neb.data.digits if name == "digits" else partial(neb.data.mnist, folder=folder)
    return reader("train").x, reader("test").x


def prior(name: str, x: np.ndarray) -> neb.NoiseConditionalEnergy:
    """A range of noise levels: a perceptron of digits, a U-Net of MNIST.

    A perceptron of MNIST has four times the U-Net's error, and its walks end in noise that a blur
    hides.
    """
    network = neb.MLP(conditional=True) if name == "digits" else neb.UNet(conditional=True)
    energy = neb.noise_conditional(jax.random.key(0), x.shape[1:], (0.03, 1.0), network=network)
    how = {} if name == "digits" else {"batch_size": 32, "learning_rate": 3e-3}
    return neb.fit(jax.random.key(1), energy, x, num_steps=STEPS[name], **how)[0]


def restored(i: int, energy, x: np.ndarray, operator, scale: float, chains: int) -> dict:
    """Mean, interval of draws and interval of plain jumps of image i; seconds."""
    started = time.perf_counter()
    key_data, key_solve = jax.random.split(jax.random.fold_in(jax.random.key(2), i))
    look = _look(operator, scale)
    look = look.with_value(look.simulate(key_data, jnp.asarray(x)))
    result = inverse.solve(key_solve, energy, look, num_chains=chains, **SETTINGS)
    jumps = np.asarray(result.walk.x).reshape(-1, *x.shape)
    low, high = np.quantile(jumps, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
    moving = np.asarray(result.walk.x).reshape(*result.walk.x.shape[:2], -1)
    moving = moving[..., moving.std((0, 1)) > 1e-4]
    ratio = neb.diagnostics.rhat(moving).max()
    seconds = time.perf_counter() - started
    found = (result.mean, *result.interval(LEVEL), low, high, ratio, seconds)
    return dict(zip(NAMES, found, strict=True))


def row(kept: Kept, data: str, name: str, energy, truths: np.ndarray, operator, scale) -> dict:
    """Coverage of pixels, all of them and those that are ever bright, before and after."""
    each = [
        kept.arrays(
            f"{data}-{name.replace(' ', '-')}-{i}",
            partial(restored, i, energy, x, operator, scale, CHAINS[data]),
        )
        for i, x in enumerate(truths)
    ]
    found = {name: np.stack([image[name] for image in each]) for name in NAMES}
    lower, upper, half = found["lower"], found["upper"], len(truths) // 2
    bright = truths.std(axis=0) > 0.05

    def inside(low, high, rows=slice(None)):
        return float(((truths >= low) & (truths <= high))[rows][:, bright].mean())

    held = (truths >= lower) & (truths <= upper)
    widened = inverse.calibrate_intervals(
        truths[:half], lower[:half], upper[:half], level=LEVEL, method="crc", widening="add"
    )
    low, high = widened.apply(lower[half:], upper[half:])
    after = float(((truths[half:] >= low) & (truths[half:] <= high)).mean())
    return {
        "problem": name,
        "images": len(truths),
        "sigma": round(float(neb.posterior_energy(energy, _look(operator, scale)).sigma), 4),
        "PSNR": round(float(-10 * np.log10(((found["mean"] - truths) ** 2).mean())), 2),
        "coverage": round(inside(lower, upper), 3),
        "of grey pixels": round(float(held[(truths > 0.1) & (truths < 0.9)].mean()), 3),
        "of plain jumps": round(inside(found["low"], found["high"]), 3),
        "all pixels, before": round(float(held.mean()), 3),
        "after, second half": round(after, 3),
        "widened by": f"{float(widened.factor):.4f}",
        "R-hat, median": round(float(np.median(found["rhat"])), 3),
        "seconds an image": round(float(np.median(found["seconds"])), 1),
    }


def _look(operator, scale: float):
    return inverse.gaussian(operator, jnp.zeros(operator.out_shape), scale)


def main() -> None:
    """Train, restore, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["digits", "mnist"])
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--problems", nargs="+", help="names; default all")
    parser.add_argument("--json")
    parser.add_argument("--out", type=Path, default=Path("restoration"), help="what is done so far")
    given = parser.parse_args()
    if given.images < LEAST:
        parser.error(
            f"--images must be at least {LEAST}: half of them calibrate; got {given.images}"
        )
    kept = Kept(given.out, given.data_dir, "restoration")
    train, test = data(given.data, given.data_dir)
    energy = kept.energy(f"{given.data}-prior", partial(prior, given.data, train))
    truths = test[np.random.default_rng(1).permutation(len(test))[: given.images]]
    rows = []
    known = problems(train.shape[1:])
    for name in given.problems or known:
        operator, scale = known[name]
        found = row(kept, given.data, name, energy, truths, operator, scale)
        rows.append({"data": given.data} | found)
        moment = inverse.check_second_moment(
            jax.random.key(3), energy.at(rows[-1]["sigma"]), test[:500]
        )
        rows[-1]["second moment"] = f"{moment.factor:.3f}"
        print(rows[-1], flush=True)
    report(rows, given.json)


if __name__ == "__main__":
    main()
