"""Weights of modes and evidence by particles: carried by the prior's flow, or weighed by energies.

``learned``: two modes at distance 6, four to one before the data and about even after them, known
to a learned energy by samples. ``digits``: an exact prior of 64 dimensions, half the pixels hidden.
Errors are against the exact posterior.
"""

import argparse
import importlib
import time
from unittest import mock

import jax
import numpy as np

import neb_ppl as neb
from neb_ppl import inverse
from tests.benchmarks.inverse.problems import groups
from tests.benchmarks.timing import report

RUNS, PARTICLES = 4, 512
TRAININGS, STEPS = 3, 4_000
IMAGES = 2
LEVEL = 0.2
smc = importlib.import_module("neb_ppl.inverse.smc")


def weighed():
    """Particles weighed by ratios of energies, as those of priors of one level are."""
    return mock.patch.object(smc, "carried", smc.weighed)


def row(name: str, energy, observation, exact, sigma: float | None = None) -> dict:
    """Some runs beside the exact answer; shares of modes, too, where sigma is given."""
    started = time.perf_counter()
    runs = [
        inverse.smc(
            jax.random.key(i), energy, observation, sigma=sigma, num_particles=PARTICLES,
            progress_bar=False,
        )
        for i in range(RUNS)
    ]  # fmt: skip
    seconds = time.perf_counter() - started
    evidence = np.array([run.log_evidence for run in runs])
    shares = {}
    if sigma is not None:
        shares["share"] = float(np.mean([(run.x[:, 0] > 0).mean() for run in runs]))
        shares["exact share"] = exact_share(exact)
    return {
        "prior": name,
        **shares,
        "log evidence": float(evidence.mean()),
        "sd of a run": float(evidence.std(ddof=1)),
        "told": float(np.mean([run.standard_error for run in runs])),
        "exact": float(exact.log_evidence),
        "levels": len(runs[0].levels),
        "seconds a run, with compiling": round(seconds / RUNS, 1),
    }


def exact_share(exact) -> float:
    """Of posterior draws whose first coordinate is positive."""
    x = np.asarray(exact.density.sample_clean(jax.random.key(0), (100_000,)))
    return float((x[:, 0] > 0).mean())


def offset(energy, true) -> float:
    """What the energy has wrong from mode to mode at the lowest level."""
    at_modes = [np.asarray(jax.vmap(e)(true.means)) for e in (energy.at(LEVEL), true)]
    return float(np.subtract(*[each[0] - each[1] for each in at_modes]))


def learned() -> list[dict]:
    """Some trainings, with both sorts of weights."""
    true = neb.gaussian_mixture([0.8, 0.2], [[-3.0, 0.0], [3.0, 0.0]], [0.09, 0.09], LEVEL)
    x = np.asarray(true.sample_clean(jax.random.key(0), (20_000,)))
    look = inverse.gaussian(inverse.from_matrix([[0.1, 1.0]]), [0.4], 0.3)
    exact, rows = inverse.exact_posterior(true, look), []
    network = neb.MLP(hidden=128, blocks=2, conditional=True)
    for seed in range(TRAININGS):
        energy = neb.noise_conditional(jax.random.key(seed), (2,), (0.1, 6.0), network=network)
        key = jax.random.key(10 + seed)
        energy, _ = neb.fit(key, energy, x, num_steps=STEPS, progress_bar=False)
        name = f"learned {seed}, modes off by {offset(energy, true):.2f}"
        rows.append(row(f"{name}, carried", energy, look, exact, LEVEL))
        with weighed():
            rows.append(row(f"{name}, weighed", energy, look, exact, LEVEL))
    return rows


def digits() -> list[dict]:
    """64 dimensions, the exact prior."""
    rows = []
    for problem in groups("A", "inpaint", "test", None)[0][:IMAGES]:
        operator = inverse.from_matrix(problem.matrix, problem.event_shape)
        look = inverse.gaussian(operator, problem.observation, problem.scale)
        prior = problem.energy(0.8 * float(inverse.split_bound(look)))
        exact = inverse.exact_posterior(prior, look)
        rows.append(row(f"digits {problem.seed}, carried", prior, look, exact))
        with weighed():
            rows.append(row(f"digits {problem.seed}, weighed", prior, look, exact))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    given = parser.parse_args()
    report([*learned(), *digits()], given.json)


if __name__ == "__main__":
    main()
