r"""Do central intervals of draws hold the truth as often as they say? By ranks, without quantiles.

An interval between estimated quantiles is too short: `numpy.quantile` of 200 draws at 90 % covers
.891. The rank of a truth that has the law of its L draws is uniform on 0 .. L. So here a rank r
stands for the stretch :math:`[r, r + 1] / (L + 1)`, and its truth counts as covered by the share of
the stretch that lies within the central `level`: where the draws are right, the expected share of
covered truths is `level` exactly.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from neb_ppl._checks import check_share, least_draws
from neb_ppl.diagnostics._events import paired
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import ArrayLike

__all__ = ["Coverage", "coverage", "coverage_of_ranks"]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Shares of truths inside central intervals.

    The axes of `level` come first in every array; it has none where one level was asked for.

    Attributes
    ----------
    level : array
        What the intervals claim.
    share : array, shape (*level, *event)
        Share of the simulations whose truth is covered, for each number of an event.
    standard_error : array, shape (*level,)
        Of each share if the claim is right: the binomial one, or less where L is so small that
        stretches are cut.
    mean : array, shape (*level,)
        Share over all numbers of all events.
    mean_error : array, shape (*level,)
        Its standard error, from the spread between simulations, since the numbers of one event are
        not independent; NaN of one simulation.
    num_simulations, num_draws : int
    """

    level: np.ndarray
    share: np.ndarray
    standard_error: np.ndarray
    mean: np.ndarray
    mean_error: np.ndarray
    num_simulations: int
    num_draws: int

    @property
    def z(self) -> np.ndarray:
        """Standard errors between share and level, shaped as `share`."""
        extra = (1,) * (self.share.ndim - self.level.ndim)
        shape = self.level.shape + extra
        return (self.share - self.level.reshape(shape)) / self.standard_error.reshape(shape)

    def __str__(self) -> str:
        unknown = f"error unknown: {self.num_simulations} simulations without spread"
        lines = [
            f"{level:.0%} intervals hold {mean:.1%} of truths "
            f"({f'± {error:.1%}' if error > 0 else unknown})"
            for level, mean, error in zip(
                self.level.ravel(), self.mean.ravel(), self.mean_error.ravel(), strict=True
            )
        ]
        return "\n".join(lines)


def coverage(
    draws: ArrayLike, truth: ArrayLike, level: float | Sequence[float] | ArrayLike = 0.9
) -> Coverage:
    """Share of truths inside the central intervals of their draws.

    Parameters
    ----------
    draws : array, shape (S, L, *event)
        L draws for each of S simulations, nearly independent of each other.
    truth : array, shape (S, *event)
        A truth that equals draws counts at every place among them, evenly.
    level : float or array
        In (0, 1), and at most (L - 1) / (L + 1): 19 draws for .9, 39 for .95. Beyond that the
        interval would reach past all draws.

    Returns
    -------
    Coverage
        Print it.

    Raises
    ------
    EventShapeError, NonFiniteDataError
        Shapes that do not fit; numbers that are not finite, counted.
    InvalidArgumentError
        A level that L draws cannot give.
    """
    drawn, true = paired(draws, truth, simulations=True)
    below = (drawn < true[:, None]).sum(axis=1)
    equal = (drawn == true[:, None]).sum(axis=1)
    return coverage_of_ranks(below, equal, drawn.shape[1], level, np.shape(truth)[1:])


def coverage_of_ranks(
    below: np.ndarray,
    equal: np.ndarray,
    num_draws: int,
    level: float | Sequence[float] | ArrayLike,
    event_shape: tuple[int, ...],
) -> Coverage:
    """Coverage from the numbers of draws below and equal to each truth, both (S, n)."""
    levels = np.asarray(level, np.float64)
    for one in levels.ravel():
        _check_level(one, num_draws)
    places = np.arange(num_draws + 1)
    shares, errors, means, mean_errors = [], [], [], []
    for one in levels.ravel():
        covered = _covered(below, equal, num_draws, one)
        each = covered.mean(axis=1)
        spread = each.std(ddof=1) if len(each) > 1 else np.nan
        second = (_covered(places, 0, num_draws, one) ** 2).mean()
        shares.append(covered.mean(axis=0).reshape(event_shape))
        errors.append(np.sqrt(max(second - one**2, 0.0) / len(each)))
        means.append(each.mean())
        mean_errors.append(spread / np.sqrt(len(each)))
    return Coverage(
        level=levels,
        share=np.reshape(shares, levels.shape + event_shape),
        standard_error=np.reshape(errors, levels.shape),
        mean=np.reshape(means, levels.shape),
        mean_error=np.reshape(mean_errors, levels.shape),
        num_simulations=len(below),
        num_draws=num_draws,
    )


def _covered(
    below: np.ndarray, equal: np.ndarray | int, num_draws: int, level: float
) -> np.ndarray:
    """Share of each stretch of ranks inside the central level."""
    first, last = below / (num_draws + 1), (below + equal + 1) / (num_draws + 1)
    edge = (1 - level) / 2
    inside = np.minimum(last, 1 - edge) - np.maximum(first, edge)
    return np.clip(inside, 0, None) / (last - first)


def _check_level(level: float, num_draws: int) -> None:
    check_share("level", level)
    needed = least_draws(level)
    if num_draws < needed:
        raise InvalidArgumentError(
            f"level {level:g} needs at least {needed} draws for each truth; got {num_draws}. Draw "
            "more, or ask for a lower level."
        )
