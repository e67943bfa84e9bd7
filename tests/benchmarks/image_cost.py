"""Time and memory of posteriors over images: a gradient of the walk, and a draw of x.

A U-Net energy (untrained: the cost is the same), half the pixels hidden or a 3x3 blur, 16 chains.
Memory is what XLA reserves beside arguments and results; nothing grows with the square of the
number of pixels.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from neb_ppl import inverse
from neb_ppl.inverse.result import draw_many
from tests.benchmarks.timing import report

CHAINS, ROUNDS = 16, 5


def looks(side: int) -> dict[str, inverse.LinearOperator]:
    """Operators on square images."""
    keep = np.random.default_rng(0).random((side, side)) < 0.5
    blur = inverse.blur(np.full((3, 3), 1 / 9), (side, side))
    return {"inpaint half": inverse.mask(keep), "3x3 blur": blur}


def cost(function, *arguments) -> tuple[float, float]:
    """Milliseconds of a call, the median of some; MiB of temporary memory."""
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - started)
    memory = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return 1e3 * float(np.median(seconds)), memory


def row(side: int, name: str, operator: inverse.LinearOperator) -> dict:
    """One size and operator."""
    energy = neb.deen(jax.random.key(0), (side, side), 0.05, network=neb.UNet())
    seen = inverse.gaussian(operator, jnp.zeros(operator.out_shape), 0.1)
    posterior = neb.posterior_energy(energy, seen)
    y = jax.random.normal(jax.random.key(1), (CHAINS, side, side))
    keys = jax.random.split(jax.random.key(2), CHAINS)
    gradient, reserved = cost(lambda posterior, y: jax.vmap(jax.grad(posterior))(y), posterior, y)
    draw, held = cost(draw_many, posterior, keys, y)
    return {
        "image": f"{side} x {side}",
        "data": name,
        "closure": posterior.closure,
        "gradient [ms a chain]": round(gradient / CHAINS, 2),
        "MiB, 16 chains": round(reserved, 1),
        "draw of x [ms]": round(draw / CHAINS, 1),
        "MiB": round(held, 1),
        "d x d would be [MiB]": round(4 * side**4 / 2**20, 1),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    given = parser.parse_args()
    rows = [row(side, *pair) for side in (28, 64) for pair in looks(side).items()]
    report(rows, given.json)


if __name__ == "__main__":
    main()
