"""neb_ppl's closures on the problems: annealed start, warm-up, then blocks of draws of x.

Draws come in blocks of one shape until the time is over, so that a run compiles nothing which an
earlier one has compiled. Sequential Monte Carlo is run again and again: each run is a "chain".
"""

import time
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np

import neb_ppl as neb
from neb_ppl.inverse import annealed_start, posterior_result
from tests.benchmarks.inverse.deepinv_client import SideError
from tests.benchmarks.inverse.problems import Problem

__all__ = ["SETTINGS", "run"]

BLOCK = 512  # draws of x, over all chains
KEPT = 2_000  # draws of one chain that are kept, as on deepinv's side
WALKS = {"NUTS": neb.NUTS, "GHMC": neb.GHMC}


def _nuts(*shares: float) -> list[dict]:
    """Sigma as a share of the bound of `split`; steps of warm-up, and steps between draws."""
    return [
        {"share": share, "walk": "NUTS", "chains": 32, "warmup": warmup, "thinning": 2}
        for share in shares
        for warmup in (150, 500)
    ]


def _ghmc(*shares: float, thinning: int = 10) -> list[dict]:
    return [
        {"share": share, "walk": "GHMC", "chains": chains, "warmup": 300, "thinning": thinning}
        for share in shares
        for chains in (128, 256)
    ]


# Eight settings each.
SETTINGS: dict[str, list[dict]] = {
    "split": [*_nuts(0.7, 0.9), *_ghmc(0.7, 0.9)],
    "moment": [*_nuts(0.9, 1.3), *_ghmc(0.9, 1.8)],
    "isotropic": [*_nuts(0.5, 0.9), *_ghmc(0.25, 0.5)],
    "plugin": [*_nuts(0.5, 0.9), *_ghmc(0.25, 0.5)],
    "inflated": [*_nuts(0.25, 0.5), *_ghmc(0.1, 0.25)],
    "direct": [*_nuts(0.25, 0.5), *_ghmc(0.1, 0.25, thinning=4)],  # at 10, every draw counts
    "smc": [
        {"share": share, "particles": particles, "moves": moves}
        for share, particles, moves in product((0.7, 0.9), (512, 2048), (3, 6))
    ],
}


class Start(NamedTuple):
    """Annealed start positions, and the seconds that they took."""

    position: jax.Array
    seconds: float


_compiled: set[tuple] = set()
_starts: dict[tuple, Start] = {}


def run(problem: Problem, setting: dict) -> tuple[np.ndarray, float, float]:
    """Draws (chains, n, d), seconds, and seconds of the run that compiled: 0 for the second run.

    Annealing and warm-up are never cut short: together they may take longer than
    ``setting["seconds"]``. One block of draws follows in any case.
    """
    if setting["method"] == "smc":
        return _runs_of_smc(problem, setting)
    try:
        family, posterior = _posterior(problem, setting)
        compile_seconds = _compile(problem, setting, family, posterior)
        key_start, key_draws = jax.random.split(jax.random.key(setting["seed"]))
        start = _start(key_start, problem, setting, family, posterior)
        began = time.perf_counter() - start.seconds
        draws = _draw(key_draws, setting, posterior, start, began + setting["seconds"])
        seconds = time.perf_counter() - began
    except (neb.NebPPLError, FloatingPointError) as error:
        raise SideError(f"{type(error).__name__}: {error}") from error
    return _thinned(draws), seconds, compile_seconds


def _runs_of_smc(problem: Problem, setting: dict) -> tuple[np.ndarray, float, float]:
    """Whole runs under `split` until the time is over, (runs, particles, d); one to compile."""
    family, posterior = _posterior(problem, setting | {"method": "split"})

    def once(i: int) -> np.ndarray:
        found = neb.inverse.smc(
            jax.random.fold_in(jax.random.key(setting["seed"]), i), family, posterior.observation,
            closure="split", sigma=posterior.sigma, num_particles=setting["particles"],
            num_moves=setting["moves"], progress_bar=False,
        )  # fmt: skip
        return found.x.reshape(len(found.x), -1)

    key = (problem.tier, problem.name, "smc", setting["particles"])
    compiling = time.perf_counter()
    if key not in _compiled:
        once(0)
        _compiled.add(key)
    began, runs = time.perf_counter(), []
    while not runs or time.perf_counter() < began + setting["seconds"]:
        runs.append(once(1 + len(runs)))
    return np.stack(runs), time.perf_counter() - began, began - compiling


def _posterior(problem: Problem, setting: dict) -> tuple[Any, Any]:
    """The prior at every noise level, and the posterior's energy at the setting's."""
    operator = neb.inverse.from_matrix(problem.matrix, problem.event_shape)
    observation = neb.inverse.gaussian(operator, problem.observation, problem.scale)
    sigma = setting["share"] * float(neb.inverse.split_bound(observation))
    family = problem.learned
    if family is None:
        family = problem.energy(sigma)
    else:
        sigma = float(np.clip(sigma, *family.sigma_range))
    closure = setting["method"]
    return family, neb.inverse.posterior_energy(family, observation, closure, sigma=sigma)


def _compile(problem: Problem, setting: dict, family: Any, posterior: Any) -> float:
    """Seconds of a whole run with other keys, where one of its shapes was never run before."""
    key = (problem.tier, problem.name, setting["method"], setting["walk"], setting["chains"])
    if key in _compiled:
        return 0.0
    started = time.perf_counter()
    key_start, key_draws = jax.random.split(jax.random.key(0))
    position = annealed_start(key_start, family, posterior, setting["chains"], progress_bar=False)
    _draw(key_draws, setting, posterior, Start(position, 0.0), until=0.0)
    _compiled.add(key)
    return time.perf_counter() - started


def _start(key: Any, problem: Problem, setting: dict, family: Any, posterior: Any) -> Start:
    """The annealed start: settings that differ in the walk alone begin at the same one.

    It is the same for the same key, so that it is computed once and its time counts every time.
    """
    known = (*(setting[name] for name in ("method", "share", "chains", "seed")), problem)
    if known not in _starts:
        began = time.perf_counter()
        position = annealed_start(key, family, posterior, setting["chains"], progress_bar=False)
        position.block_until_ready()
        _starts[known] = Start(position, time.perf_counter() - began)
    return _starts[known]


def _draw(key: Any, setting: dict, posterior: Any, start: Start, until: float) -> np.ndarray:
    """Warm up, then walk and jump, a block at a time, until that time; shape (chains, n, d)."""
    key_walk, key_jump = jax.random.split(key)
    chains = setting["chains"]
    length = BLOCK // chains
    walk = neb.sample(
        key_walk,
        posterior,
        WALKS[setting["walk"]](),
        start.position,
        num_samples=length,
        num_warmup=setting["warmup"],
        steps_per_jump=setting["thinning"],
        jump=neb.mean_jump,
        adapt_scale="auto",
        progress_bar=False,
    )
    blocks = []
    while not blocks or time.perf_counter() < until:
        if blocks:
            walk = neb.sample(
                None, posterior, None, walk.state, num_samples=length, progress_bar=False
            )
        key_block = jax.random.fold_in(key_jump, len(blocks))
        result = posterior_result(key_block, posterior, walk, num_draws=BLOCK)
        blocks.append(result.draws.reshape(chains, length, -1))
    return np.concatenate(blocks, axis=1)


def _thinned(draws: np.ndarray) -> np.ndarray:
    """At most `KEPT` evenly spaced draws of each chain."""
    length = draws.shape[1]
    kept = np.linspace(0, length - 1, min(KEPT, length)).round().astype(int)
    return draws[:, kept]
