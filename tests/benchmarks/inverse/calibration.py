"""Simulation-based calibration: are ranks of truths among draws uniform?

    python -m tests.benchmarks.inverse.calibration --simulations 200 --out results/calibration.json
    python -m tests.benchmarks.inverse.calibration --problem inpaint --python P --out digits.json

With ``--python`` (see README.md), deepinv's samplers face the same pairs of truth and data.
"""

import argparse
import dataclasses
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
from tests.benchmarks.inverse.problems import OPERATORS, Problem, digits_prior
from tests.benchmarks.timing import machine

CHOSEN = Path(__file__).with_name("results") / "deepinv_tier_a.json"
COMPONENTS, D, M = 6, 8, 5
DRAWS = 96
METHODS = ("ULA", "DPS norm", "MomentMatching")


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """A law of pairs, and how its samplers are run.

    Attributes
    ----------
    prior : Mixture
    matrix : array, shape (m, d)
    noise : float
    chains : int
        Of ours.
    settings : dict
        Of deepinv's samplers.
    group, seconds : int, float
        deepinv's chains, ``64 // group`` for each truth, see so many data together for so long.
    """

    prior: Mixture
    matrix: np.ndarray
    noise: float
    chains: int
    settings: dict[str, dict[str, Any]]
    group: int
    seconds: float

    def energy(self, sigma: float):
        """The exact smoothed prior, of flat events."""
        prior = self.prior
        weights = prior.weights / prior.weights.sum()
        return neb.gaussian_mixture(weights, prior.means, prior.covariances, sigma)

    def observation(self, data):
        """What one pair's data say."""
        return neb.inverse.gaussian(neb.inverse.from_matrix(self.matrix), data, self.noise)


def small() -> Setup:
    """Six overlapping Gaussians in 8 dimensions, five measurements; settings by hand."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(COMPONENTS, 4.0))
    factors = rng.standard_normal((COMPONENTS, D, D)) / D**0.5
    covariances = 0.5 * factors @ factors.swapaxes(1, 2) + 0.05 * np.eye(D)
    prior = Mixture(np.log(weights), rng.standard_normal((COMPONENTS, D)), covariances)
    matrix = rng.standard_normal((M, D))
    settings = (
        {"sigma": 0.1, "step": 0.5},
        {"steps": 300, "sigma_max": 10.0, "weight": 30.0},
        {"steps": 100, "sigma_max": 10.0, "cg": 16, "batch": 512},
    )
    matrix = matrix / np.linalg.norm(matrix, 2)
    return Setup(
        prior, matrix, 0.3, chains=32, settings=dict(zip(METHODS, settings, strict=True)),
        group=50, seconds=30.0,
    )  # fmt: skip


def digits(name: str) -> Setup:
    """A problem of tier A (64 dimensions), with the settings that were chosen there."""
    matrix, noise = OPERATORS[name]
    tested = {
        row["method"]: row["setting"]
        for row in json.loads(CHOSEN.read_text())["rows"]
        if row["problem"] == name and row["stage"] == "test"
    }
    return Setup(
        digits_prior(), matrix(), noise, chains=DRAWS,
        settings={method: tested[method] for method in METHODS}, group=4, seconds=10.0,
    )  # fmt: skip


SETUPS = {"small": small} | {name: partial(digits, name) for name in OPERATORS}


def simulations(
    setup: Setup, num_simulations: int, seed: int
) -> Callable[..., neb.diagnostics.Calibration]:
    """`neb.diagnostics.calibrate` on the law, for any ``infer(rng_key, data)``."""
    clean = setup.energy(1.0)
    operator = jnp.asarray(setup.matrix, jnp.float32)

    def simulate(rng_key):
        key_x, key_noise = jax.random.split(rng_key)
        x = clean.sample_clean(key_x)
        return x, operator @ x + setup.noise * jax.random.normal(key_noise, (len(operator),))

    def log_likelihood(x, data):
        return -0.5 * jnp.sum((data - operator @ x) ** 2) / setup.noise**2

    return partial(
        neb.diagnostics.calibrate,
        jax.random.key(seed),
        simulate,
        num_simulations=num_simulations,
        log_likelihood=log_likelihood,
        progress_bar=False,
    )


def infer(rng_key, data, setup: Setup, closure: str = "split", share: float = 0.9) -> np.ndarray:
    """`neb_ppl.inverse.solve` near the bound of the split; 96 draws, nearly independent.

    With as many chains as draws each chain gives its first after warm-up.
    """
    observation = setup.observation(data)
    sigma = share * float(neb.inverse.split_bound(observation))
    result = neb.inverse.solve(
        rng_key, setup.energy(sigma), observation, closure=closure, num_chains=setup.chains,
        num_draws=DRAWS, progress_bar=False,
    )  # fmt: skip
    return result.draws.reshape(-1, setup.matrix.shape[1])[:DRAWS]


def deepinv_draws(side: Deepinv, setup: Setup, method: str, data: np.ndarray) -> np.ndarray:
    """Draws (simulations, DRAWS, d) of a sampler for many data, a group of them at a time."""
    d = setup.matrix.shape[1]
    problems = [
        Problem("SBC", "", i, setup.matrix, setup.noise, np.zeros(d), o, setup.prior, (d,))
        for i, o in enumerate(data.astype(np.float64))
    ]
    kept = []
    budget = Budget(DRAWS, setup.seconds, DRAWS)
    for first in range(0, len(problems), setup.group):
        group = problems[first : first + setup.group]
        setting = setup.settings[method] | {"method": method}
        for draws, _, _ in side.run(group, setting, budget, "calibration"):
            flat = draws.reshape(-1, d)
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
    parser.add_argument("--problem", choices=SETUPS, default="small")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--closures", nargs="+", default=["split", "direct"])
    parser.add_argument("--python", help="a Python that has deepinv")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    setup = SETUPS[options.problem]()
    calibrate = simulations(setup, options.simulations, options.seed)
    rows, pairs = [], None
    for closure in options.closures:
        started = time.perf_counter()
        pairs = calibrate(partial(infer, setup=setup, closure=closure))
        rows.append(judged(f"ours {closure}", pairs, started))
    if options.python and pairs is not None:
        side = Deepinv(options.python)
        for method in METHODS:
            started = time.perf_counter()
            draws = iter(deepinv_draws(side, setup, method, pairs.data))
            rows.append(
                judged(f"deepinv {method}", calibrate(lambda *_, d=draws: next(d)), started)
            )
    content = {"machine": machine(), "problem": options.problem, "rows": rows}
    options.out.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
