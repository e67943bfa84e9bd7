"""Scores of draws against a truth, and a distance between two sets of draws. Small is good.

All are built from mean distances between draws and are unbiased: a pair of one draw with itself,
whose distance is 0, is never counted.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from neb_ppl.diagnostics._events import check_finite, flatten, paired
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import ArrayLike, PyTree

__all__ = ["EnergyDistance", "crps", "energy_distance", "energy_score"]

BLOCK_NUMBERS = 2**22


class EnergyDistance(NamedTuple):
    """An energy distance and its error.

    Attributes
    ----------
    value : float
        Unbiased, so below 0 about half the time where the laws are equal.
    standard_error : float
        By the jackknife: never too small in the mean, and about a root of two too large where the
        laws are equal.
    """

    value: float
    standard_error: float


def crps(draws: ArrayLike, truth: ArrayLike) -> np.ndarray:
    r"""Continuous ranked probability score of each number of one event, fair.

    .. math:: \frac1L \sum_j |x_j - x| - \frac{1}{2 L (L - 1)} \sum_{j \ne k} |x_j - x_k|

    Its expectation is smallest where the draws have the law of the truth x, for any number of
    draws: it does not reward draws that are too narrow because they are few.

    Parameters
    ----------
    draws : array, shape (L, *event)
        At least 2.
    truth : array, shape (*event,)

    Returns
    -------
    array, shape (*event,)
        In the units of the draws.

    References
    ----------
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation" (2007); Ferro,
    "Fair scores for ensemble forecasts" (2014).
    """
    drawn, true = _pair(draws, truth)
    count = len(drawn)
    weights = 2 * np.arange(count) - count + 1
    spread = (weights[:, None] * np.sort(drawn, axis=0)).sum(axis=0)  # of pairs j < k
    score = np.abs(drawn - true).mean(axis=0) - spread / (count * (count - 1))
    return score.reshape(np.shape(truth))


def energy_score(draws: PyTree, truth: PyTree) -> float:
    r"""Energy score of one event, fair: `crps` with the Euclidean distance of whole events.

    .. math:: \frac1L \sum_j \|x_j - x\| - \frac{1}{2 L (L - 1)} \sum_{j \ne k} \|x_j - x_k\|

    Unlike the scores of each number it sees the dependence between them.

    Parameters
    ----------
    draws : array, shape (L, *event), or a pytree of them
        At least 2.
    truth : array, shape (*event,), or a pytree of them

    Returns
    -------
    float
        In the units of the draws. Cost L^2 distances, in blocks of bounded memory.

    References
    ----------
    Gneiting and Raftery (2007), section 4.2; Ferro (2014).
    """
    drawn, true = _pair(draws, truth)
    count = len(drawn)
    within = _distance_sums(drawn, drawn).sum() / (count * (count - 1))
    return float(np.linalg.norm(drawn - true, axis=1).mean() - within / 2)


def energy_distance(first: PyTree, second: PyTree) -> EnergyDistance:
    r"""Energy distance of the laws of two sets of independent draws, with its error.

    .. math:: 2\, E\|X - Y\| - E\|X - X'\| - E\|Y - Y'\|

    It is 0 where the laws are equal and positive elsewhere. Estimated without bias, by means over
    all pairs of different draws.

    Parameters
    ----------
    first, second : arrays, shapes (n, *event) and (m, *event), or pytrees of them
        At least 3 draws each.

    Returns
    -------
    EnergyDistance
        In the units of the draws. Cost (n + m)^2 distances, in blocks of bounded memory.

    Raises
    ------
    EventShapeError, InvalidArgumentError, NonFiniteDataError
        Events of different shapes; too few draws; numbers that are not finite.

    References
    ----------
    Szekely and Rizzo, "Energy statistics" (2013); Efron and Stein, "The jackknife estimate of
    variance" (1981).
    """
    x, y = (_matrix(name, tree) for name, tree in (("first", first), ("second", second)))
    if x.shape[1] != y.shape[1]:
        raise EventShapeError(
            f"first and second must have events of one size; got {x.shape[1]} and {y.shape[1]} "
            "numbers."
        )
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    x_to_y, y_to_x = _distance_sums(x, y), _distance_sums(y, x)
    within_x, within_y = _distance_sums(x, x), _distance_sums(y, y)
    n, m = len(x), len(y)
    across = 2 * x_to_y.sum() / (n * m)
    spreads = within_x.sum() / (n * (n - 1)), within_y.sum() / (m * (m - 1))
    variance = _jackknife(x_to_y, within_x, m) + _jackknife(y_to_x, within_y, n)
    return EnergyDistance(float(across - sum(spreads)), float(np.sqrt(variance)))


def _jackknife(across: np.ndarray, within: np.ndarray, others: int) -> float:
    """Variance from the distance without each draw of one set, by its sums of distances."""
    n = len(across)
    left = 2 * (across.sum() - across) / ((n - 1) * others)
    left -= (within.sum() - 2 * within) / ((n - 1) * (n - 2))
    return (n - 1) * left.var()


def _distance_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum of the distances of each x to all y, shape (n,)."""
    return np.concatenate([block.sum(axis=1) for block in _distances(x, y)])


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Distances of all pairs, some rows at a time."""
    size = max(1, BLOCK_NUMBERS // len(y))
    squares = (y**2).sum(axis=1)
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        squared = (rows**2).sum(axis=1)[:, None] + squares - 2 * rows @ y.T
        yield np.sqrt(np.maximum(squared, 0.0))


def _pair(draws: PyTree, truth: PyTree) -> tuple[np.ndarray, np.ndarray]:
    """Float64, at least 2 draws, centred: distances from squares lose digits far from 0."""
    drawn, true = paired(draws, truth, simulations=False)
    if len(drawn) < 2:
        raise InvalidArgumentError(f"draws must be at least 2; got {len(drawn)}.")
    centre = drawn.mean(axis=0, dtype=np.float64)
    return drawn - centre, true - centre


def _matrix(name: str, tree: PyTree) -> np.ndarray:
    draws = flatten(tree, 1).astype(np.float64)
    if len(draws) < 3:
        raise InvalidArgumentError(f"{name} must hold at least 3 draws; got {len(draws)}.")
    check_finite(name, draws)
    return draws
