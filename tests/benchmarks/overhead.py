"""What a walk costs beyond its gradients, how cost grows, and what the progress bar costs."""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from neb_ppl.sampling import engine
from tests.benchmarks.timing import paired, ratio, report

SIZES = {
    "digits, MLP": ((8, 8), neb.MLP(), 300),
    "MNIST, MLP 1024": ((28, 28), neb.MLP(hidden=1024, blocks=2), 60),
    "MNIST, U-Net": ((28, 28), neb.UNet(), 10),
}
WALKS = {
    "ULA": neb.ULA(),
    "BAOAB": neb.KineticLangevin(),
    "ABOBA": neb.KineticLangevin(scheme="ABOBA"),
    "cheng": neb.KineticLangevin(scheme="cheng"),
    "MALA": neb.MALA(),
    "GHMC": neb.GHMC(),
}
STEPS_PER_DRAW = 10


@partial(jax.jit, static_argnames=("steps",))
def bare(energy, y, steps):
    """Nothing but gradients, each fed to the next so that none is dropped."""

    def body(_, carry):
        y, total = carry
        value, gradient = jax.vmap(jax.value_and_grad(energy))(y)
        return y - 1e-3 * gradient, total + value

    return jax.lax.fori_loop(0, steps, body, (y, jnp.zeros(len(y))))


def chunk(energy, walk, chains: int, steps: int):
    """A run of the library's own compiled chunk: `steps` walk steps, a jump every ten."""
    y = neb.start_at_noise(jax.random.key(1), energy, chains)
    walk = walk.resolve(energy.sigma, y[0].size)
    states = engine.initialise(energy, walk, y, jax.random.key(2))
    counts = (jnp.asarray(steps // STEPS_PER_DRAW), jnp.asarray(min(STEPS_PER_DRAW, steps)))
    first = jnp.zeros((), jnp.int32)
    return lambda: jax.block_until_ready(
        engine.draw_chunk(
            energy,
            walk,
            states,
            jax.random.key(3),
            first,
            *counts,
            jump=neb.mean_jump,
            buffer=engine.buffer_size(energy, y, neb.mean_jump),
        )  # fmt: skip
    )


def overheads(chains: list[int], rounds: int) -> list[dict]:
    """Seconds of each walk over seconds of as many bare gradients."""
    rows = []
    for size, (shape, network, steps) in SIZES.items():
        energy = neb.deen(jax.random.key(0), shape, 0.3, network=network)
        for count in chains:
            y = neb.start_at_noise(jax.random.key(1), energy, count)
            actions = {"bare": lambda e=energy, y=y, s=steps: jax.block_until_ready(bare(e, y, s))}
            actions |= {name: chunk(energy, walk, count, steps) for name, walk in WALKS.items()}
            seconds = paired(actions, rounds)
            micro = 1e6 * float(np.median(seconds["bare"])) / steps
            for name in WALKS:
                row = {"size": size, "chains": count, "walk": name, "gradient [us]": micro}
                rows.append(row | ratio(seconds[name], seconds["bare"]))
    return rows


def growth(rounds: int) -> list[dict]:
    """Seconds a step a chain as steps and chains grow; memory against steps between draws."""
    shape, network, _ = SIZES["digits, MLP"]
    energy = neb.deen(jax.random.key(0), shape, 0.3, network=network)
    rows = []
    for chains, steps in ((64, 100), (64, 200), (64, 400), (128, 100), (256, 100), (512, 100)):
        seconds = paired({"run": chunk(energy, neb.KineticLangevin(), chains, steps)}, rounds)
        micro = 1e6 * float(np.median(seconds["run"])) / (steps * chains)
        rows.append({"chains": chains, "steps": steps, "us a step a chain": micro})
    return rows


def bar_cost(rounds: int) -> list[dict]:
    """Training and walking with the bar on over off."""
    x = np.random.default_rng(0).uniform(size=(1_500, 8, 8)).astype(np.float32)
    energy = neb.deen(jax.random.key(0), (8, 8), 0.3)
    start = neb.start_at_noise(jax.random.key(1), energy, 16)

    def train(show):
        return lambda: (
            neb.fit(jax.random.key(2), energy, x, num_steps=400, progress_bar=show)[1].seconds
        )

    def walk(show):
        return lambda: neb.sample(
            jax.random.key(3), energy, neb.KineticLangevin(), start, num_samples=600,
            steps_per_jump=10, progress_bar=show,
        ).settings["seconds"]  # fmt: skip

    training = paired({"on": train(True), "off": train(False)}, rounds)
    walking = paired({"on": walk(True), "off": walk(False)}, rounds)
    return [
        {"bar": "fit", **ratio(training["on"], training["off"])},
        {"bar": "sample", **ratio(walking["on"], walking["off"])},
    ]


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chains", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--json")
    options = parser.parse_args()
    rows = overheads(options.chains, options.rounds)
    rows += growth(options.rounds)
    rows += bar_cost(options.rounds)
    report(rows, options.json)


if __name__ == "__main__":
    main()
