"""Intervals with a guarantee, whatever made them: calibrated on pairs whose truth is known."""

import bisect
import dataclasses
import math
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from scipy.special import bdtr, rel_entr

from neb_ppl._checks import check_share
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.types import ArrayLike

__all__ = ["CalibratedIntervals", "calibrate_intervals"]

METHODS = ("crc", "k-rcps", "rcps", "split")
WIDENINGS = ("add", "multiply")
SMALLEST_UNIT = 0.01
NUM_GROUPS = 8
DELTA = 0.1
# Every fourth pair chooses the factors of groups; the others give the guarantee.
TUNING = 4

Method = Literal["crc", "k-rcps", "rcps", "split"]
Widening = Literal["add", "multiply"]


@dataclasses.dataclass(frozen=True, eq=False)
class CalibratedIntervals:
    """How far intervals must be widened, and what then holds. Made by `calibrate_intervals`.

    Attributes
    ----------
    factor : array, shape () or event_shape
        Multiplies half-widths; with ``widening="add"`` it is added to them, in data units.
    method, widening, level, delta
        As asked for; delta is None where the method has none.
    num_pairs : int
        Pairs behind the guarantee.
    event_shape : tuple of int
    """

    factor: np.ndarray
    method: str
    widening: str
    level: float
    delta: float | None
    num_pairs: int
    event_shape: tuple[int, ...]

    def __repr__(self) -> str:
        low, high = float(np.min(self.factor)), float(np.max(self.factor))
        factor = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        sign = "*" if self.widening == "multiply" else "+"
        return (
            f"CalibratedIntervals({self.method}, level={self.level:g}, half-widths {sign} "
            f"{factor}, {self.num_pairs} pairs)"
        )

    @property
    def guarantee(self) -> str:
        """What holds, in words."""
        pairs = f"draws of the {self.num_pairs} pairs"
        if self.method == "split":
            return (
                f"Each entry of a new truth lies in its interval with probability at least "
                f"{self.level:.4g}, over new truths and {pairs}, all exchangeable."
            )
        share = f"at most {1 - self.level:.4g} of a new truth's entries lie outside"
        if self.method == "crc":
            return f"On average over new truths and {pairs}, all exchangeable, {share}."
        return (
            f"With probability at least {1 - (self.delta or 0):.4g} over {pairs}, {share} on "
            "average over new truths. All are independent and from one law."
        )

    def apply(self, lower: ArrayLike, upper: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Widen (or narrow) new intervals made in the same way, about their midpoints.

        Parameters
        ----------
        lower, upper : arrays, shape ``(..., *event_shape)``

        Returns
        -------
        lower, upper : float64 arrays of the same shape
            Where narrowing would leave nothing, the midpoint.

        Raises
        ------
        EventShapeError, NonFiniteDataError, InvalidArgumentError
            Other events, NaN, lower above upper, or an event of width zero throughout, which no
            factor widens.
        """
        bounds = _check_bounds(lower, upper)
        shape, event = bounds[0].shape, self.event_shape
        if shape[len(shape) - len(event) :] != event:
            raise EventShapeError(
                f"lower has shape {shape}; expected events of shape {event} at its end, as in "
                "calibration."
            )
        centre, base, unit = _parts(*bounds, len(event), self.widening)
        reach = np.maximum(base + self.factor * unit, 0.0)
        # A truth on the very edge, as discrete ones are, must not fall out by rounding.
        reach = reach + 4 * np.spacing(np.abs(centre) + reach)
        return centre - reach, centre + reach


def calibrate_intervals(
    truth: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    level: float = 0.9,
    method: Method = "crc",
    widening: Widening = "multiply",
    delta: float | None = None,
    groups: int | ArrayLike | None = None,
) -> CalibratedIntervals:
    r"""Widen or narrow intervals to a finite-sample guarantee, whatever posterior made them.

    With midpoint c and half-width h, a truth x is inside at factor :math:`\lambda` where

    .. math:: \lvert x - c \rvert \le \lambda h, \quad \text{or} \quad
              \lvert x - c \rvert \le h + \lambda \quad \text{(widening="add")}.

    ``"split"``: each entry alone, at the order statistic :math:`\lceil (n + 1) level \rceil` of its
    n scores. For scalars and functionals.
    ``"crc"``: one factor, so that the mean share of entries outside is at most ``1 - level``.
    ``"rcps"``: so that this share is at most ``1 - level`` with probability ``1 - delta`` over the
    calibration pairs (Hoeffding-Bentkus bound).
    ``"k-rcps"``: as ``"rcps"``, with one factor for each group of entries. On every fourth pair
    they are chosen for the least mean length, by a convex problem; on the others all are raised
    or lowered together until the guarantee holds.

    Parameters
    ----------
    truth : array, shape ``(n, *event)``
        Truths that neither the prior nor the intervals have seen, in data units.
    lower, upper : arrays, shape ``(n, *event)``
        Intervals for each, of any quality, such as quantiles of posterior draws.
    level : float
        In (0, 1).
    method : "crc", "rcps", "k-rcps" or "split"
    widening : "multiply" or "add"
        Multiplied half-widths keep what the intervals tell of one place against another. Half-
        widths below a hundredth of the mean over their own event are first raised to that, so that
        entries of width zero can widen too; an event of width zero throughout needs "add".
    delta : float, optional
        In (0, 1), default .1; for ``"rcps"`` and ``"k-rcps"`` alone.
    groups : int, or int array of the event's shape, optional
        For ``"k-rcps"``: labels of entries, or how many groups of similar scores to form; at most
        8 by default.

    Raises
    ------
    EventShapeError, NonFiniteDataError, InvalidArgumentError
        Shapes that differ, NaN, lower above upper, a level outside (0, 1), settings of another
        method, or fewer pairs than the guarantee needs: the message says how many.

    Notes
    -----
    Cost: about a sort of all scores. The convex problem is that of Teneggi et al. with the lower
    convex hull of the share outside in place of their hinge above it: no parameter, and no solver.

    References
    ----------
    Romano, Patterson, Candes, "Conformalized quantile regression" (2019); Angelopoulos, Bates,
    Fisch, Lei, Schuster, "Conformal risk control" (2024); Bates, Angelopoulos, Lei, Malik, Jordan,
    "Distribution-free, risk-controlling prediction sets" (2021); Teneggi, Tivnan, Stayman, Sulam,
    "How to trust your diffusion model" (2023).
    """
    truth, bounds = _check(truth, lower, upper)
    _check_options(level, method, widening, delta, groups)
    delta = DELTA if delta is None else delta
    event_shape, num_pairs = truth.shape[1:], len(truth)
    centre, base, unit = _parts(*bounds, len(event_shape), widening)
    scores = ((np.abs(truth - centre) - base) / unit).reshape(num_pairs, -1)
    labels = _labels(groups, scores, event_shape, level) if method == "k-rcps" else None
    needed = _needed(method, level, delta)
    if num_pairs < needed:
        raise InvalidArgumentError(
            f"truth holds {num_pairs} pairs; expected at least {needed} for method={method!r} at "
            f"level={level:g}" + (f" and delta={delta:g}" if "rcps" in method else "") + ". "
            "Collect more, or lower the level."
        )
    if labels is not None:
        units = unit.reshape(num_pairs, -1)
        num_pairs, factor = _factors_of_groups(scores, units, labels, level, delta)
    elif method == "split":
        factor = _order_statistic(scores, _misses("split", (num_pairs, 1), level, delta))
    else:
        factor = _order_statistic(scores.ravel(), _misses(method, scores.shape, level, delta))
    return CalibratedIntervals(
        factor=factor.reshape(event_shape if factor.ndim else ()),
        method=method,
        widening=widening,
        level=float(level),
        delta=float(delta) if "rcps" in method else None,
        num_pairs=num_pairs,
        event_shape=event_shape,
    )


def _parts(
    lower: np.ndarray, upper: np.ndarray, event_ndim: int, widening: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Midpoint c, and b and u of the half-width b + factor u."""
    centre, half = 0.5 * lower + 0.5 * upper, 0.5 * upper - 0.5 * lower
    if widening == "add":
        return centre, half, np.ones_like(half)
    # The mean is over the pair's own event: looking at other pairs would end exchangeability.
    axes = tuple(range(half.ndim - event_ndim, half.ndim))
    unit = np.maximum(half, SMALLEST_UNIT * half.mean(axis=axes, keepdims=True))
    if not (unit > 0).all():
        raise InvalidArgumentError(
            f"{int((unit == 0).any(axis=axes).sum())} events have lower equal to upper in every "
            "entry: no factor widens them. Calibrate with widening='add'."
        )
    return centre, np.zeros_like(half), unit


def _order_statistic(scores: np.ndarray, misses: int) -> np.ndarray:
    """Along the first axis, the lowest score that at most `misses` others exceed."""
    rank = len(scores) - 1 - misses
    return np.asarray(np.partition(scores, rank, axis=0)[rank])


def _risk(level: float) -> Fraction:
    # As written: in binary 1 - .9 is less than a tenth, which costs an order statistic.
    return 1 - Fraction(str(float(level)))


def _misses(method: str, shape: tuple[int, ...], level: float, delta: float) -> int:
    """How many scores of shape (pairs, entries) may exceed the factor; the pairs suffice."""
    (num_pairs, size), risk = shape, _risk(level)
    if method in ("crc", "split"):
        # (misses / size + 1) / (n + 1) <= risk: the new pair is taken to miss altogether.
        return math.floor(size * ((num_pairs + 1) * risk - 1))
    counts = range(1, num_pairs * size)
    return bisect.bisect_right(counts, delta, key=lambda k: _tail(k, num_pairs, size, risk))


def _tail(misses: int, num_pairs: int, size: int, risk: Fraction) -> float:
    """Bound on the chance of so few misses, or fewer, if their mean share were `risk` or more.

    Of n independent shares in [0, 1], by Hoeffding or by Bentkus, whichever is less.
    """
    share, r = misses / (num_pairs * size), float(risk)
    if share >= r:
        return 1.0
    hoeffding = math.exp(-num_pairs * (rel_entr(share, r) + rel_entr(1 - share, 1 - r)))
    return min(hoeffding, math.e * float(bdtr(-(-misses // size), num_pairs, r)))


def _needed(method: str, level: float, delta: float) -> int:
    """Pairs with which the guarantee can hold if none of them misses."""
    risk = _risk(level)
    if method in ("crc", "split"):
        return math.ceil(1 / risk) - 1
    needed = math.ceil(math.log(delta) / math.log1p(-float(risk)))
    return needed if method == "rcps" else math.ceil(needed * TUNING / (TUNING - 1))


def _factors_of_groups(
    scores: np.ndarray, units: np.ndarray, labels: np.ndarray, level: float, delta: float
) -> tuple[int, np.ndarray]:
    """Pairs behind the guarantee, and the factor of each entry."""
    tuning = np.arange(len(scores)) % TUNING == 0
    rest = scores[~tuning]
    misses = _misses("rcps", rest.shape, level, delta)
    # At the share that will be asked for, so that little is left of the common step.
    aim = misses / rest.size * scores[tuning].size
    factors = shortest_factors(scores[tuning], units[tuning].sum(axis=0), labels, aim)[labels]
    return len(rest), factors + _order_statistic((rest - factors).ravel(), misses)


def shortest_factors(
    scores: np.ndarray, costs: np.ndarray, labels: np.ndarray, misses: float
) -> np.ndarray:
    r"""Factors of groups that let `misses` scores exceed them, at the least total length.

    .. math:: \min_\lambda \sum_k c_k \lambda_k \quad \text{with} \quad
              \sum_k \breve N_k(\lambda_k) \le misses

    where :math:`\breve N_k` is the convex hull, from below, of how many scores of group k exceed
    :math:`\lambda_k`. A linear program, solved by raising factors where it saves most misses for a
    unit of length.

    Parameters
    ----------
    scores : array, shape (n, entries)
    costs : array, shape (entries,)
        Length that a unit of the factor costs.
    labels : int array, shape (entries,)
        Group of each, 0, 1, ...
    misses : float
    """
    from scipy.optimize import isotonic_regression  # a third of a second: not at every import

    num_groups = labels.max() + 1
    start, excess, steps = np.zeros(num_groups), -misses, []
    for k in range(num_groups):
        values, counts = np.unique(scores[:, labels == k], return_counts=True)
        start[k], lengths = values[0], np.diff(values)
        excess += counts[1:].sum()
        if len(lengths):
            hull = isotonic_regression(-counts[1:] / lengths, weights=lengths).x
            rate = -hull / costs[labels == k].sum()
            steps.append(np.stack([rate, -hull * lengths, lengths, np.full_like(lengths, k)]))
    rate, saved, lengths, group = np.concatenate([*steps, np.zeros((4, 0))], axis=1)
    order = np.argsort(-rate, kind="stable")
    saved, lengths, group = saved[order], lengths[order], group[order].astype(int)
    taken = np.clip((excess - (np.cumsum(saved) - saved)) / saved, 0.0, 1.0)
    return start + np.bincount(group, taken * lengths, num_groups)


def _labels(
    groups: int | ArrayLike | None, scores: np.ndarray, event_shape: tuple[int, ...], level: float
) -> np.ndarray:
    """A group 0, 1, ... for each entry."""
    size = scores.shape[1]
    if groups is not None and np.ndim(groups) > 0:
        labels = np.asarray(groups)
        if labels.shape != event_shape:
            raise EventShapeError(
                f"groups has shape {labels.shape}; expected labels of the event's shape "
                f"{event_shape}, or one number of groups."
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise InvalidArgumentError(
                f"groups must be labels in whole numbers; got dtype {labels.dtype}."
            )
        return np.unique(labels.ravel(), return_inverse=True)[1]
    number = min(NUM_GROUPS, size) if groups is None else groups
    if not isinstance(number, int | np.integer) or not 1 <= number <= size:
        raise InvalidArgumentError(
            f"groups must be a whole number in 1 .. {size}, the entries of an event, or an array "
            f"of labels; got {number}."
        )
    # By tuning pairs alone: the others must not have a say in what they judge.
    needs = np.quantile(scores[::TUNING], level, axis=0)
    ranks = np.argsort(np.argsort(needs, kind="stable"))
    return ranks * int(number) // size


def _check(
    truth: ArrayLike, lower: ArrayLike, upper: ArrayLike
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    bounds = _check_bounds(lower, upper)
    x = _check_numbers(truth, "truth")
    if x.ndim == 0 or x.size == 0 or x.shape != bounds[0].shape:
        raise EventShapeError(
            f"truth has shape {x.shape} and lower {bounds[0].shape}; expected one shape "
            "(n, *event), with at least one pair."
        )
    return x, bounds


def _check_bounds(lower: ArrayLike, upper: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    low, high = _check_numbers(lower, "lower"), _check_numbers(upper, "upper")
    if low.shape != high.shape:
        raise EventShapeError(
            f"lower has shape {low.shape} and upper {high.shape}; expected the same."
        )
    if (low > high).any():
        first = tuple(int(i) for i in np.argwhere(low > high)[0])
        raise InvalidArgumentError(
            f"lower exceeds upper in {int((low > high).sum())} places, the first at index {first}: "
            f"{low[first]:g} > {high[first]:g}. Are they swapped?"
        )
    return low, high


def _check_numbers(x: ArrayLike, name: str) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if not np.isfinite(x).all():
        raise NonFiniteDataError(
            f"{name} holds {int((~np.isfinite(x)).sum())} values that are NaN or inf; expected "
            f"none of {x.size}. Leave out the pairs that hold them."
        )
    return x


def _check_options(
    level: float, method: str, widening: str, delta: float | None, groups: Any
) -> None:
    check_share("level", level)
    for name, word, known in (("method", method, METHODS), ("widening", widening, WIDENINGS)):
        if word not in known:
            raise InvalidArgumentError(f"{name} must be one of {known}; got {word!r}.")
    for name, setting, its in (
        ("delta", delta, ("rcps", "k-rcps")),
        ("groups", groups, ("k-rcps",)),
    ):
        if setting is not None and method not in its:
            raise InvalidArgumentError(
                f"{name} is a setting of method={' and '.join(map(repr, its))}, which "
                f"method={method!r} does not use. Leave it out."
            )
    if delta is not None:
        check_share("delta", delta)
