"""How far draws are from an exact posterior."""

from functools import lru_cache

import numpy as np

from neb_ppl.diagnostics import effective_sample_size, rhat
from tests.benchmarks.inverse.problems import Problem

__all__ = ["BUDGET_SECONDS", "energy_distance", "judge", "sliced_wasserstein"]

BUDGET_SECONDS = 10.0
REFERENCE = 3_000
INTERVAL = (0.05, 0.95)


def judge(
    draws: np.ndarray, problem: Problem, seconds: float | None = None, slices: int = 200
) -> dict[str, float]:
    r"""Compare draws with the exact posterior of a problem.

    Parameters
    ----------
    draws : array, shape (chains, n, d)
        Independent draws are chains of one draw each: (n, 1, d).
    problem : Problem
    seconds : float, optional
        Wall-clock time the draws took, for the numbers per time.
    slices : int
        Directions of the sliced Wasserstein distance; 0 leaves out all that does not choose
        between settings: this, R-hat and the effective number of draws.

    Returns
    -------
    dict of floats
        mean_error
            RMS error of the mean over the RMS exact deviation.
        sd_ratio
            Mean ratio of marginal deviations.
        coverage
            Exact posterior mass in the reported 90 % interval of a coordinate, mean over them.
        coverage_truth
            Share of coordinates of the true x in those intervals.
        energy, energy_floor
            Unbiased energy distance to 3,000 exact draws, and that of 3,000 other exact draws.
            Independent draws of any number have the same expectation: it measures bias.
        energy_10s
            Energy distance of the *set of draws* that ten seconds give, for which each draw
            counts: ``energy + m / n``, m the mean distance of two draws and n their number.
            Fewer independent draws are extrapolated by the draws a second; chains must run for
            the ten seconds.
        sliced, sliced_floor
            Sliced 2-Wasserstein distance to as many exact draws, and between exact draws.
        crps, crps_exact
            Continuous ranked probability score for the true x, mean over coordinates.
        psnr_gap
            PSNR of the mean minus that of the exact posterior mean, in dB.
        rhat, n_eff
            Largest split R-hat (NaN for independent draws); median bulk effective sample size,
            at most the number of draws.
        draws_per_second, seconds_to_500
            Effective draws a second, and seconds to 500 of them.
    """
    draws = np.asarray(draws, np.float64)
    flat = draws.reshape(-1, draws.shape[-1])
    if not np.isfinite(flat).all():
        return {"finite": float(np.isfinite(flat).all(axis=1).mean())}
    rng = np.random.default_rng(5)
    some = flat[rng.permutation(len(flat))[:REFERENCE]]
    exact, other, exact_within, floor, crps_exact = _reference(problem)
    within = _within(some)
    distance = 2 * _between(some, exact) - within - exact_within
    posterior, truth = problem.posterior, problem.truth
    low, high = np.quantile(flat, INTERVAL, axis=0)
    result = {
        "finite": 1.0,
        "mean_error": _rms(flat.mean(0) - posterior.mean) / _rms(posterior.sd),
        "sd_ratio": float(np.mean(flat.std(0) / posterior.sd)),
        "coverage": float(np.mean(posterior.marginal_cdf(high) - posterior.marginal_cdf(low))),
        "coverage_truth": float(np.mean((low <= truth) & (truth <= high))),
        "energy": distance,
        "energy_floor": floor,
        "crps": _crps(some, truth),
        "crps_exact": crps_exact,
        "psnr_gap": _decibel(posterior.mean - truth) - _decibel(flat.mean(0) - truth),
        "draws": float(len(flat)),
    }
    if slices:
        result["sliced"] = sliced_wasserstein(some, exact[: len(some)], slices)
        result["sliced_floor"] = sliced_wasserstein(other[: len(some)], exact[: len(some)], slices)
        result["n_eff"], result["rhat"] = _mixing(draws)
    if seconds is not None:
        obtainable = len(flat) * BUDGET_SECONDS / seconds
        result |= {
            "energy_10s": distance + within / max(obtainable, 1.0),
            "seconds": seconds,
        }
    if seconds is not None and slices:
        n_eff = result["n_eff"]
        result |= {"draws_per_second": n_eff / seconds, "seconds_to_500": 500 * seconds / n_eff}
    return result


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """``2 E|A - B| - E|A - A'| - E|B - B'|`` of two sets of independent draws, unbiased."""
    return 2 * _between(a, b) - _within(a) - _within(b)


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, slices: int) -> float:
    """Root of the mean squared 2-Wasserstein distance over random directions; equal sizes."""
    rng = np.random.default_rng(6)
    total = 0.0
    for start in range(0, slices, 500):
        directions = rng.standard_normal((a.shape[1], min(500, slices - start)))
        directions /= np.linalg.norm(directions, axis=0)
        gaps = np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)
        total += float((gaps**2).mean(0).sum())
    return (total / slices) ** 0.5


@lru_cache(maxsize=64)
def _reference(problem: Problem) -> tuple[np.ndarray, np.ndarray, float, float, float]:
    """Exact draws, others, mean distance among the first, the floor, and the exact CRPS."""
    exact, other = problem.exact(REFERENCE), problem.exact(REFERENCE, seed=1)
    floor = energy_distance(other, exact)
    return exact, other, _within(exact), floor, _crps(exact, problem.truth)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0.0))


def _between(a: np.ndarray, b: np.ndarray) -> float:
    return float(_distances(a, b).mean())


def _within(a: np.ndarray) -> float:
    distances = _distances(a, a)
    np.fill_diagonal(distances, 0.0)
    return float(distances.sum() / (len(a) * (len(a) - 1)))


def _mixing(draws: np.ndarray) -> tuple[float, float]:
    """Effective number of draws, and the largest R-hat."""
    total = draws.shape[0] * draws.shape[1]
    if draws.shape[1] < 4:
        return float(total), float("nan")
    effective = np.nanmedian(effective_sample_size(draws))
    worst = float(np.nanmax(rhat(draws))) if len(draws) > 1 else float("nan")
    return float(min(effective, total)), worst


def _crps(draws: np.ndarray, truth: np.ndarray) -> float:
    """``E|X - x| - E|X - X'| / 2``, the second by sorting, mean over coordinates."""
    n = len(draws)
    ranks = 2 * np.arange(1, n + 1) - n - 1
    spread = 2 * (ranks @ np.sort(draws, axis=0)) / (n * (n - 1))
    return float(np.mean(np.abs(draws - truth).mean(0) - spread / 2))


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def _decibel(error: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(error**2)))
