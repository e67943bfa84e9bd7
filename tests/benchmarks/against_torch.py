"""Walks and training steps against an eager PyTorch loop of the same network and steps."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from neb_ppl.training import DenoisingLoss, loop
from tests.benchmarks.overhead import SIZES, bare, chunk
from tests.benchmarks.timing import paired, ratio, report

SIGMA = 0.3
BATCH = 128
STEPS = {"digits, MLP": 1_000, "MNIST, MLP 1024": 100, "MNIST, U-Net": 100}


class Torch:
    """A PyTorch process that answers requests about one network."""

    def __init__(self, python: str, energy, points: np.ndarray):
        self.file = Path(tempfile.mkdtemp()) / "network.npz"
        weights = {name: np.asarray(leaf) for name, leaf in energy.weights.items()}
        np.savez(self.file, points=points.astype(np.float32), **weights)
        side = Path(__file__).with_name("torch_side.py")
        self.process = subprocess.Popen(
            [python, str(side), str(os.cpu_count())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, what: str, batch: int = 1, steps: int = 1):
        request = {
            "what": what, "batch": batch, "steps": steps, "sigma": SIGMA, "weights": str(self.file),
        }  # fmt: skip
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the PyTorch process stopped: does --torch-python name a Python with torch?")
        return json.loads(line)


def same_gradients(torch: Torch, energy, points: np.ndarray) -> float:
    """Largest relative difference of the two scores."""
    ours = np.asarray(jax.vmap(energy.score)(points.reshape(-1, *energy.event_shape)))
    theirs = np.array(torch("score"))
    return float(np.abs(ours.reshape(theirs.shape) - theirs).max() / np.abs(theirs).max())


def training_steps(energy, x: np.ndarray, batch: int, steps: int):
    """The library's own compiled chunk of training."""
    optimizer = loop.default_optimizer(1e-3, 10_000)
    rows = np.zeros((loop.STEPS_PER_CHUNK, batch), np.int32)
    rows[:] = np.arange(batch) % len(x)
    data, decay, loss = jnp.asarray(x), jnp.asarray(0.99), DenoisingLoss()
    state = [loop._initial_state(energy, optimizer, jax.random.key(0), loss, data)]

    def run():
        state[0], _ = loop._train_chunk(
            state[0], data, jnp.asarray(rows), jnp.asarray(steps), decay, loss, optimizer=optimizer
        )
        jax.block_until_ready(state[0].step)

    return run


def compare(python: str, rounds: int) -> list[dict]:
    """Rows of seconds of PyTorch over seconds of neb_ppl.

    ``ceiling`` is PyTorch over the bare gradients of a walk, compiled: no walk can do better.
    """
    rows = []
    for size in SIZES:
        shape, network, _ = SIZES[size]
        energy = neb.deen(jax.random.key(0), shape, SIGMA, network=network)
        points = np.random.default_rng(0).normal(size=(64, int(np.prod(shape)))).astype(np.float32)
        torch = Torch(python, energy, points)
        difference = same_gradients(torch, energy, points)
        assert difference < 1e-4, difference
        for chains in (1, 64, 512):
            steps = max(10, int(STEPS[size] / chains**0.5) // 10 * 10)
            y = neb.start_at_noise(jax.random.key(1), energy, chains)
            for name, walk in (("ULA", neb.ULA(SIGMA**2 / 8)), ("MALA", neb.MALA(SIGMA**2 / 8))):
                actions = {
                    "torch": lambda n=name, c=chains, s=steps, t=torch: t(n, c, s),
                    "ours": chunk(energy, walk, chains, steps),
                    "bare": lambda e=energy, y=y, s=steps: jax.block_until_ready(bare(e, y, s)),
                }
                seconds = paired(actions, rounds)
                row = {"size": size, "what": name, "batch": chains}
                row["ours [us a step]"] = 1e6 * float(np.median(seconds["ours"])) / steps
                row["ceiling"] = float(np.median(seconds["torch"] / seconds["bare"]))
                rows.append(row | ratio(seconds["torch"], seconds["ours"]))
        count = 40 if "digits" in size else 10
        x = points.reshape(-1, *shape)
        actions = {
            "torch": lambda t=torch, c=count: t("train", BATCH, c),
            "ours": training_steps(energy, x, BATCH, count),
        }
        seconds = paired(actions, rounds)
        row = {"size": size, "what": "training", "batch": BATCH}
        row["ours [us a step]"] = 1e6 * float(np.median(seconds["ours"])) / count
        rows.append(row | ratio(seconds["torch"], seconds["ours"]))
    return rows


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    report(compare(options.torch_python, options.rounds), options.json)


if __name__ == "__main__":
    main()
