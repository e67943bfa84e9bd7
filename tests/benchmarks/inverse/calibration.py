"""Simulation-based calibration at d = 8: are ranks of truths among draws uniform?

    python -m tests.benchmarks.inverse.calibration --simulations 200 --out results/calibration.json
    python -m tests.benchmarks.inverse.calibration --python P --out results/calibration.json

With ``--python`` (see README.md), deepinv's samplers face the same pairs of truth and data.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb
from tests.benchmarks.inverse.budget import Budget
from tests.benchmarks.inverse.deepinv_client import Deepinv
from tests.benchmarks.inverse.mixture import Mixture
from tests.benchmarks.inverse.problems import Problem
from tests.benchmarks.timing import machine

COMPONENTS, D, M = 6, 8, 5
NOISE = 0.3
CHAINS, DRAWS = 32, 96
GROUP = 50
SECONDS = 30.0
DEEPINV = {
    "ULA": {"sigma": 0.1, "step": 0.5},
    "DPS norm": {"steps": 300, "sigma_max": 10.0, "weight": 30.0},
    "MomentMatching": {"steps": 100, "sigma_max": 10.0, "cg": 16, "batch": 512},
}


def model() -> tuple[Mixture, np.ndarray]:
    """A mixture of overlapping Gaussians, and an operator of norm 1."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(COMPONENTS, 4.0))
    factors = rng.standard_normal((COMPONENTS, D, D)) / D**0.5
    covariances = 0.5 * factors @ factors.swapaxes(1, 2) + 0.05 * np.eye(D)
    prior = Mixture(np.log(weights), rng.standard_normal((COMPONENTS, D)), covariances)
    matrix = rng.standard_normal((M, D))
    return prior, matrix / np.linalg.norm(matrix, 2)


def simulations(num_simulations: int, seed: int) -> Callable[..., neb.diagnostics.Calibration]:
    """`neb.diagnostics.calibrate` on the model, for any ``infer(rng_key, data)``."""
    prior, matrix = model()
    clean = energy(prior, 1.0)
    operator = jnp.asarray(matrix, jnp.float32)

    def simulate(rng_key):
        key_x, key_noise = jax.random.split(rng_key)
        x = clean.sample_clean(key_x)
        return x, operator @ x + NOISE * jax.random.normal(key_noise, (M,))

    def log_likelihood(x, data):
        return -0.5 * jnp.sum((data - operator @ x) ** 2) / NOISE**2

    return partial(
        neb.diagnostics.calibrate,
        jax.random.key(seed),
        simulate,
        num_simulations=num_simulations,
        log_likelihood=log_likelihood,
        progress_bar=False,
    )


def energy(prior: Mixture, sigma: float):
    """The exact smoothed prior."""
    return neb.gaussian_mixture(prior.weights, prior.means, prior.covariances, sigma)


def infer(rng_key, data, closure: str = "split", share: float = 0.9) -> np.ndarray:
    """`neb.inverse.solve` with its defaults; about a hundred draws, nearly independent."""
    prior, matrix = model()
    operator = neb.inverse.from_matrix(matrix)
    observation = neb.inverse.gaussian(operator, data, NOISE)
    sigma = share * float(neb.inverse.split_bound(observation))
    result = neb.inverse.solve(
        rng_key, energy(prior, sigma), observation, closure=closure, num_chains=CHAINS,
        num_draws=DRAWS, progress_bar=False,
    )  # fmt: skip
    return result.draws.reshape(-1, D)[:DRAWS]


def deepinv_draws(side: Deepinv, method: str, data: np.ndarray) -> np.ndarray:
    """Draws (simulations, DRAWS, d) of a sampler for many data, a group of them at a time."""
    prior, matrix = model()
    problems = [
        Problem("SBC", "mixture", i, matrix, NOISE, np.zeros(D), o, prior, (D,))
        for i, o in enumerate(data.astype(np.float64))
    ]
    kept = []
    budget = Budget(DRAWS, SECONDS, DRAWS)
    for first in range(0, len(problems), GROUP):
        group = problems[first : first + GROUP]
        setting = DEEPINV[method] | {"method": method}
        for draws, _, _ in side.run(group, setting, budget, "validation"):
            flat = draws.reshape(-1, D)
            kept.append(flat[np.linspace(0, len(flat) - 1, DRAWS).round().astype(int)])
    return np.stack(kept)


def judged(name: str, calibration: neb.diagnostics.Calibration, started: float) -> dict[str, Any]:
    """The verdict as a row."""
    print(f"{name}\n{calibration}\n", flush=True)
    return {
        "sampler": name,
        "simulations": calibration.num_simulations,
        "draws": calibration.num_draws,
        "smallest_p": min(calibration.p_values.values()),
        "failing": len(calibration.failing),
        "p_values": calibration.p_values,
        "coverage_90": calibration.coverage().share.tolist(),
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Ours first, then deepinv's samplers on the same pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--closures", nargs="+", default=["split", "direct"])
    parser.add_argument("--python", help="a Python that has deepinv")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    calibrate = simulations(options.simulations, options.seed)
    rows, pairs = [], None
    for closure in options.closures:
        started = time.perf_counter()
        pairs = calibrate(partial(infer, closure=closure))
        rows.append(judged(f"ours {closure}", pairs, started))
    if options.python and pairs is not None:
        side = Deepinv(options.python)
        for method in DEEPINV:
            started = time.perf_counter()
            draws = iter(deepinv_draws(side, method, pairs.data))
            rows.append(
                judged(f"deepinv {method}", calibrate(lambda *_, d=draws: next(d)), started)
            )
    content = {"machine": machine(), "rows": rows}
    options.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
