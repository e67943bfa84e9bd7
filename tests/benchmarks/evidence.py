"""Weights of modes and evidence by particles: carried by the prior's flow, or by energies.

``learned``: two modes at distance 6, four to one before the data and about even after them, known
to a learned energy by samples. ``digits``: an exact prior of 64 dimensions, half the pixels hidden.
``lattice``: one of 80 dimensions, whose 25 modes stand apart. ``steps``: mixtures of one and two
dimensions and many particles, for the error of the flow's steps, and steps of a third. ``errors``:
what runs tell of their error beside their scatter, from data that say nearly nothing to data that
say much. Errors are against the exact posterior.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax
import numpy as np
from scipy import stats

import neb_ppl as neb
from neb_ppl import inverse
from neb_ppl.inverse import particles
from tests.benchmarks.inverse.problems import groups
from tests.benchmarks.timing import report
from tests.inverse.by_energies import by_energies

RUNS, PARTICLES, MANY = 6, 512, 16_384
SCATTER_RUNS, FEW = 24, 64
TRAININGS, STEPS = 3, 4_000
IMAGES = 2
LEVEL = 0.2


@contextmanager
def short_steps() -> Iterator[None]:
    """Inside, steps of the flow are a third as long."""
    particles.resample.clear_cache()
    with mock.patch.object(particles, "LONGEST_FLOW", particles.LONGEST_FLOW / 3):
        try:
            yield
        finally:
            particles.resample.clear_cache()


def row(
    name: str, energy, observation, exact, sigma=None, num_particles=PARTICLES, num_runs=RUNS
) -> dict:
    """Some runs beside the exact answer; shares of modes, too, where sigma is given."""
    started = time.perf_counter()
    runs = [
        inverse.smc(
            jax.random.key(i), energy, observation, sigma=sigma, num_particles=num_particles,
            progress_bar=False,
        )
        for i in range(num_runs)
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
        "told": float(np.median([run.standard_error for run in runs])),
        "exact": float(exact.log_evidence),
        "levels": len(runs[0].levels),
        "seconds a run, with compiling": round(seconds / num_runs, 1),
    }


def exact_share(exact) -> float:
    """Of the posterior of x, where the first coordinate is positive."""
    density = exact.density
    variances = np.sum(np.asarray(density.eigenvectors)[:, 0] ** 2 * density.eigenvalues, axis=1)
    right = stats.norm.cdf(np.asarray(density.means)[:, 0] / np.sqrt(variances))
    return float(np.exp(density.log_weights) @ right)


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
        with by_energies():
            rows.append(row(f"{name}, by energies", energy, look, exact, LEVEL))
    return rows


def both(name: str, prior, look, *sizes) -> list[dict]:
    """An exact prior, with both sorts of weights."""
    exact = inverse.exact_posterior(prior, look)
    rows = [row(f"{name}, carried", prior, look, exact, *sizes)]
    with by_energies():
        return [*rows, row(f"{name}, by energies", prior, look, exact, *sizes)]


def digits() -> list[dict]:
    """64 dimensions, the exact prior."""
    found = groups("A", "inpaint", "test", None)[0][:IMAGES]
    return [row for p in found for row in both(f"digits {p.seed}", *_at_the_bound(p, 0.8))]


def lattice() -> list[dict]:
    """80 dimensions, two measurements."""
    problem = groups("D", "d80 m2", "validation", None)[0][0]
    return both("lattice", *_at_the_bound(problem, 0.7))


def steps() -> list[dict]:
    """Modes of one width and of several, even and uneven; the share is of x beyond 0."""
    even = neb.gaussian_mixture([0.5, 0.5], [[-3.0, 0.0], [3.0, 0.0]], [0.09, 0.09], 0.3)
    uneven = neb.gaussian_mixture([0.9, 0.1], [[-3.0, 0.0], [3.0, 0.0]], [0.01, 1.0], 0.1)
    three = neb.gaussian_mixture([0.6, 0.3, 0.1], [[-4.0], [0.0], [5.0]], [0.04, 0.25, 0.01], 0.1)
    looks = {
        "even": (even, inverse.gaussian(inverse.from_matrix([[0.1, 1.0]]), [0.17], 0.5)),
        "uneven": (uneven, inverse.gaussian(inverse.from_matrix([[0.3, 1.0]]), [0.7], 0.3)),
        "three": (three, inverse.gaussian(inverse.from_matrix([[0.2]]), [0.6], 0.5)),
    }
    rows = []
    for name, (prior, look) in looks.items():
        rows += both(name, prior, look, prior.sigma, MANY)
        with short_steps():
            exact = inverse.exact_posterior(prior, look)
            rows.append(row(f"{name}, steps of a third", prior, look, exact, prior.sigma, MANY))
    return rows


def errors() -> list[dict]:
    """Two modes in the plane, five in 8 dimensions, four in 60 of which half is seen."""
    rng = np.random.default_rng(0)
    two = neb.gaussian_mixture([0.5, 0.5], [[-3.0, 0.0], [3.0, 0.0]], [0.09, 0.09], 0.3)
    five = neb.gaussian_mixture(np.ones(5) / 5, 2 * rng.normal(size=(5, 8)), np.full(5, 0.3), 0.08)
    four = neb.gaussian_mixture(np.ones(4) / 4, rng.normal(size=(4, 60)), np.full(4, 0.2), 0.15)
    across, seen = inverse.from_matrix([[0.1, 1.0]]), inverse.from_matrix(rng.normal(size=(2, 8)))
    half, shown = inverse.mask(np.arange(60) < 30), rng.normal(size=30) / 2
    problems = {f"two modes, noise {s}": (two, across, [0.17], s) for s in (50.0, 10.0, 1.0, 0.5)}
    problems |= {f"five modes, noise {s}": (five, seen, [1.0, -1.0], s) for s in (6.0, 0.3)}
    problems["four modes, half of 60 seen"] = (four, half, shown, 0.2)
    rows = []
    for name, (prior, look, value, noise) in problems.items():
        observation = inverse.gaussian(look, value, noise)
        exact = inverse.exact_posterior(prior, observation)
        for count in (FEW, PARTICLES):
            told = f"{name}, {count} particles"
            rows.append(row(told, prior, observation, exact, None, count, SCATTER_RUNS))
    return rows


def _at_the_bound(problem, share: float) -> tuple:
    """The exact prior at a share of the split's bound, and the data."""
    operator = inverse.from_matrix(problem.matrix, problem.event_shape)
    look = inverse.gaussian(operator, problem.observation, problem.scale)
    return problem.energy(share * float(inverse.split_bound(look))), look


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--parts", nargs="+", help="as above; all if absent")
    given = parser.parse_args()
    parts = {part.__name__: part for part in (learned, digits, lattice, steps, errors)}
    report([row for name in given.parts or parts for row in parts[name]()], given.json)


if __name__ == "__main__":
    main()
