r"""TARP: is the truth as far from a reference point as the draws are? One test for a whole event.

In simulation i, with a reference that depends on the data but not on the truth, let f_i be the
share of draws nearer to the reference than the truth is. Where the draws are right the f_i are
uniform, and the expected coverage at credibility c, the share of :math:`f_i < c`, is c.
"""

import dataclasses

import jax
import numpy as np

from neb_ppl._checks import check_key, check_share
from neb_ppl.diagnostics._events import check_finite, flatten, paired
from neb_ppl.diagnostics.ranks import random_ranks, rank_band, rank_counts, rank_p_values
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import PRNGKey, PyTree

__all__ = ["Tarp", "tarp"]

NUM_BLIND = 16


@dataclasses.dataclass(frozen=True)
class Tarp:
    """Expected coverage of the balls around reference points.

    Attributes
    ----------
    credibility : array, shape (points,)
        What balls claim to hold of the posterior.
    coverage : array, shape (points,)
        Share of truths inside them.
    lower, upper : arrays, shape (points,)
        The band that the whole curve leaves with a chance of `alpha` where the draws are right.
    p_value : float
        Chance of a curve that strays as far; exact.
    alpha : float
    num_simulations, num_draws : int
    """

    credibility: np.ndarray
    coverage: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p_value: float
    alpha: float
    num_simulations: int
    num_draws: int

    @property
    def ok(self) -> bool:
        """Whether the curve stays inside its band."""
        return self.p_value > self.alpha

    def __str__(self) -> str:
        told = f"{self.num_simulations} simulations, {self.num_draws} draws each"
        if self.ok:
            return f"TARP, {told}: inside its band (p = {self.p_value:.2g})"
        worst = np.abs(self.coverage - self.credibility).argmax()
        return (
            f"TARP, {told}: leaves its band (p = {self.p_value:.2g}). Balls around the references "
            f"that hold {self.credibility[worst]:.0%} of the draws hold {self.coverage[worst]:.0%} "
            "of the truths"
        )


def tarp(
    rng_key: PRNGKey,
    draws: PyTree,
    truth: PyTree,
    *,
    data: PyTree = None,
    references: PyTree = None,
    alpha: float = 0.01,
) -> Tarp:
    """Test of accuracy with random points.

    References that do not depend on the data cannot see draws from the prior instead of the
    posterior, so there are none by default: give the data, or references of your own.

    From data, a reference is a prediction of the truth by ridge regression on the data of earlier
    simulations, plus normal noise as large as its residuals. It has not seen the truth that it is
    compared with, so ranks stay exactly uniform and independent. The fit is redone whenever the
    number of simulations has doubled; the first 16 references ignore their data. The regression
    is linear: where the data predict only a magnitude of the truth, say, give references.

    Distances are Euclidean, after every number of an event is divided by its standard deviation
    over truths and draws together, which favours neither. Wrong widths are seen well, and better
    the larger the event; shifts poorly, and better by the ranks of each number (`calibrate`).

    Parameters
    ----------
    rng_key : key
        For references and ties.
    draws : array, shape (S, L, *event), or a pytree of them
        Thinned until they are nearly independent.
    truth : array, shape (S, *event), or a pytree of them
    data : array, shape (S, ...), or a pytree of them
        What each posterior was given.
    references : array, shape (S, *event), or a pytree of them
        Functions of the data and of chance alone: never of the truth, nor of the draws that are
        judged.
    alpha : float
        Chance of leaving the band where the draws are right.

    Returns
    -------
    Tarp
        Print it, or see `neb_ppl.plots.tarp_curve`.

    Raises
    ------
    EventShapeError, NonFiniteDataError
        Shapes that do not fit; numbers that are not finite, counted.
    InvalidArgumentError
        Both or neither of data and references.

    References
    ----------
    Lemos et al., "Sampling-based accuracy testing of posterior estimators for general inference"
    (2023).
    """
    check_key(rng_key)
    check_share("alpha", alpha)
    drawn, true = paired(draws, truth, simulations=True)
    if (data is None) == (references is None):
        raise InvalidArgumentError(
            "give exactly one of data and references: reference points that do not depend on the "
            "data cannot tell the posterior from the prior."
        )
    key_references, key_ties = jax.random.split(rng_key)
    centre, scale = _moments(drawn, true)
    if references is None:
        rows = _rows("data", data, len(true))
        points = _predictions(key_references, rows, (true - centre) / scale)
    else:
        points = (_rows("references", references, len(true), true.shape[1]) - centre) / scale
    apart = np.stack(
        [
            np.linalg.norm((np.vstack([one, many]) - centre) / scale - point, axis=1)
            for one, many, point in zip(true, drawn, points, strict=True)
        ]
    )
    ranks = random_ranks(key_ties, apart[:, 1:, None], apart[:, :1])
    return _verdict(ranks, drawn.shape[1], alpha)


def _verdict(ranks: np.ndarray, num_draws: int, alpha: float) -> Tarp:
    band = rank_band(len(ranks), num_draws, alpha)
    return Tarp(
        credibility=band.points,
        coverage=rank_counts(ranks, num_draws)[:, 0] / len(ranks),
        lower=band.lower,
        upper=band.upper,
        p_value=float(rank_p_values(ranks, num_draws)[0]),
        alpha=alpha,
        num_simulations=len(ranks),
        num_draws=num_draws,
    )


def _predictions(rng_key: PRNGKey, data: np.ndarray, truth: np.ndarray) -> np.ndarray:
    points = np.asarray(jax.random.normal(rng_key, truth.shape), np.float64)
    start = NUM_BLIND
    while start < len(truth):
        later = slice(start, min(2 * start, len(truth)))
        means, residuals = _ridge(data[:start], truth[:start], data[later])
        points[later] = means + residuals * points[later]
        start *= 2
    return points


def _ridge(data: np.ndarray, truth: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions from fresh data, and residual standard deviations of the fit, (numbers,).

    The mean of a linear Gaussian model, weights of variance 1 / m for m standardised columns and
    unit noise, in its dual form: a system of as many equations as there are simulations.
    """
    centre, scale = data.mean(axis=0), data.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0) * np.sqrt(data.shape[1])
    rows, fresh = (data - centre) / scale, (fresh - centre) / scale
    mean = truth.mean(axis=0)
    weights = rows.T @ np.linalg.solve(rows @ rows.T + np.eye(len(rows)), truth - mean)
    residuals = (truth - mean - rows @ weights).std(axis=0)
    return mean + fresh @ weights, residuals


def _moments(drawn: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over truths and draws alike, each of shape (numbers,)."""
    count = len(true) * (drawn.shape[1] + 1)
    mean = (drawn.sum(axis=(0, 1), dtype=np.float64) + true.sum(axis=0, dtype=np.float64)) / count
    squares = ((true - mean) ** 2).sum(axis=0)
    for one in drawn:
        squares = squares + ((one - mean) ** 2).sum(axis=0)
    scale = np.sqrt(squares / count)
    return mean, np.where(scale > 0, scale, 1.0)


def _rows(name: str, tree: PyTree, count: int, width: int | None = None) -> np.ndarray:
    rows = flatten(tree, 1).astype(np.float64)
    if len(rows) != count:
        raise EventShapeError(
            f"{name} must have a row for each of {count} truths; got {len(rows)}."
        )
    if width is not None and rows.shape[1] != width:
        raise EventShapeError(
            f"{name} must hold {width} numbers for each truth, as an event does; got "
            f"{rows.shape[1]}."
        )
    check_finite(name, rows)
    return rows
