"""What refinement does to an energy of MNIST: denoising error, energies, ink along the walks."""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from tests.benchmarks.timing import report

CHAINS, JUMPS, STEPS_PER_JUMP = 16, 60, 100


def row(name: str, energy: neb.NeuralEnergy, test: np.ndarray, seconds: float) -> dict:
    """16 chains from noise and 16 from test images, 6,000 steps of the default walk."""
    start = jnp.concatenate(
        [
            neb.start_at_noise(jax.random.key(1), energy, CHAINS),
            neb.start_at_data(jax.random.key(2), energy, test, CHAINS),
        ]
    )
    result = neb.sample(
        jax.random.key(3), energy, neb.KineticLangevin(), start, num_samples=JUMPS,
        steps_per_jump=STEPS_PER_JUMP,
    )  # fmt: skip
    noise, data = np.split(np.asarray(result.x).sum(axis=(-2, -1)), 2)
    low, high = np.quantile(test.sum(axis=(-2, -1)), [0.005, 0.995])
    outside = ((noise < low) | (noise > high))[:, JUMPS // 3 :].mean(axis=1)
    return {
        "energy": name,
        "error": f"{neb.denoising_loss(energy, jax.random.key(5), jnp.asarray(test)):.5f}",
        "phi of data + noise": round(
            float(neb.smoothed_energies(jax.random.key(4), energy, test).mean()), 1
        ),
        "phi of walk": round(float(-result.info["lp"][:, JUMPS // 3 :].mean()), 1),
        "ink from noise": by_thousand(noise),
        "ink from data": by_thousand(data),
        "largest ink": round(float(max(noise.max(), data.max()))),
        "outside, of each chain from noise": " ".join(f"{share:.2f}" for share in outside),
        "seconds": round(seconds),
    }


def by_thousand(ink: np.ndarray) -> str:
    """Means over chains and ten jumps at a time."""
    return ", ".join(f"{block.mean():.0f}" for block in np.split(ink, JUMPS // 10, axis=1))


def main() -> None:
    """Refine a trained energy and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("energy", help="of `neb-ppl train mnist --refine-steps 0`")
    parser.add_argument("--data-dir", help="folder of MNIST's IDX files")
    parser.add_argument("--num-steps", type=int, default=400)
    parser.add_argument("--restart", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--num-chains", type=int)
    parser.add_argument("--weight", type=float)
    parser.add_argument("--key", type=int, default=2)
    parser.add_argument("--save")
    parser.add_argument("--json")
    options = parser.parse_args()
    given = {
        name: getattr(options, name)
        for name in ("restart", "steps", "num_chains", "weight")
        if getattr(options, name) is not None
    }
    x = neb.data.mnist("train", folder=options.data_dir).x
    test = neb.data.mnist("test", folder=options.data_dir).x[:1_000]
    before = neb.load_energy(options.energy)
    started = time.perf_counter()
    after, _ = neb.refine(
        jax.random.key(options.key), before, x, num_steps=options.num_steps,
        loss=neb.ContrastiveLoss(**({"num_chains": 32} | given)),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if options.save:
        neb.save_energy(options.save, after, overwrite=True)
    report([row("before", before, test, 0.0), row("after", after, test, seconds)], options.json)


if __name__ == "__main__":
    main()
