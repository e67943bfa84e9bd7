"""What ranks of truths say about draws: which quantities fail, and in which way."""

import dataclasses
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from neb_ppl._checks import check_share
from neb_ppl.diagnostics.coverage import Coverage, coverage_of_ranks
from neb_ppl.diagnostics.ranks import RankBand, check_ranks, rank_band, rank_p_values
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import ArrayLike, PyTree

__all__ = ["MIN_SIMULATIONS", "Calibration", "check_num_draws", "judge_ranks"]

MIN_SIMULATIONS = 20
MIN_DRAWS = 19
MAX_ROWS = 20
LEVEL = 0.9
CLEAR_Z = 3.0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Ranks of truths among posterior draws, and what they say.

    Attributes
    ----------
    names : tuple of str
        Of the quantities.
    ranks : int array, shape (S, quantities)
        Number of draws below the truth in each simulation, 0 .. L; uniform where all is right.
    num_draws : int
        L.
    alpha : float
        Chance of calling a right posterior wrong, over all quantities together.
    truth, draws, data : pytrees, leading axes (S,), (S, L) and (S,), or None
        What was simulated and inferred, for `tarp` and scores, where it was kept.
    is_complete : bool
        False if the run ended early: the ranks are valid, but fewer than asked for.
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    num_draws: int
    alpha: float = 0.01
    truth: PyTree = None
    draws: PyTree = None
    data: PyTree = None
    is_complete: bool = True

    @property
    def num_simulations(self) -> int:
        """Number of simulations, S."""
        return len(self.ranks)

    @property
    def p_values(self) -> dict[str, float]:
        """Chance of ranks that stray as far, for each quantity by itself; exact."""
        found = rank_p_values(self.ranks, self.num_draws)
        return dict(zip(self.names, found.tolist(), strict=True))

    @property
    def band(self) -> RankBand:
        """Where the ECDF of the ranks of one quantity stays, by its share of alpha."""
        share = self.alpha / len(self.names)
        return rank_band(self.num_simulations, self.num_draws, share)

    @property
    def failing(self) -> tuple[str, ...]:
        """Quantities with a p-value of at most alpha over their number (Bonferroni)."""
        share = self.alpha / len(self.names)
        return tuple(name for name, p in self.p_values.items() if p <= share)

    @property
    def ok(self) -> bool:
        """Whether no quantity fails."""
        return not self.failing

    def coverage(self, level: float | Sequence[float] | ArrayLike = LEVEL) -> Coverage:
        """Share of truths inside central intervals, an event being the quantities.

        Parameters
        ----------
        level : float or array
            In (0, 1).

        Raises
        ------
        InvalidArgumentError
            A level that so few draws cannot give.
        """
        equal = np.zeros_like(self.ranks)
        return coverage_of_ranks(self.ranks, equal, self.num_draws, level, (len(self.names),))

    def __str__(self) -> str:
        failing, p_values = set(self.failing), self.p_values
        lines = [
            f"{self.num_simulations} simulations, {self.num_draws} draws each, "
            f"{len(self.names)} quantities"
        ]
        if not self.is_complete:
            lines[0] += " (ended early)"
        shown = [name for name in self.names if name in failing or len(self.names) <= MAX_ROWS]
        width = max(map(len, shown), default=0)
        for name in shown:
            line = f"  {name:<{width}}  p = {p_values[name]:<7.2g}  "
            lines.append((line + (self._fault(name) if name in failing else "")).rstrip())
        if failing:
            lines.append(
                f"{len(failing)} of {len(self.names)} quantities fail (a right posterior fails "
                f"with chance {self.alpha:g}): do not trust these draws"
            )
        else:
            half = np.max(self.band.upper - self.band.points)
            lines.append(f"No quantity leaves its band, of at most ± {half:.2f} in the ECDF")
        if "log_likelihood" not in self.names:
            lines.append(
                "log_likelihood is not among the quantities: draws from the prior could pass"
            )
        return "\n".join(lines)

    def _fault(self, name: str) -> str:
        """What is wrong with the draws of a quantity, in words."""
        column = self.names.index(name)
        words = _fault_words(self.ranks[:, column], self.num_draws)
        return f"FAILS: {words} ({LEVEL:.0%} intervals hold {self.coverage().share[column]:.0%})"


def _fault_words(ranks: np.ndarray, num_draws: int) -> str:
    """Shift and width from the normal scores of ranks, which separate them where all is normal."""
    places = (np.arange(num_draws + 1) + 0.5) / (num_draws + 1)
    grid = np.array([NormalDist().inv_cdf(place) for place in places])
    scores = grid[ranks] / grid.std()
    shift, spread = -scores.mean(), scores.std()
    words = []
    if abs(shift) * np.sqrt(len(ranks)) > CLEAR_Z:
        words.append(f"shifted {'up' if shift > 0 else 'down'} by about {abs(shift):.1f} sd")
    # Scores end where the draws do, so a large shift takes their spread away.
    if abs(spread - 1) * np.sqrt(2 * len(ranks)) > CLEAR_Z and abs(shift) < 1:
        verdict = "too narrow" if spread > 1 else "too wide"
        words.append(f"{verdict}, about {1 / max(spread, 0.01):.2g} of the right width")
    return " and ".join(words) or "of another shape"


def judge_ranks(
    ranks: ArrayLike, num_draws: int, *, names: Sequence[str] | None = None, alpha: float = 0.01
) -> Calibration:
    """The verdict on ranks from a loop of your own, such as those of `truth_ranks`.

    Parameters
    ----------
    ranks : int array, shape (S, quantities)
        Draws below the truth, of `num_draws`, ties broken at random; at least 20 simulations.
    num_draws : int
        At least 19.
    names : sequence of str, optional
        Default ``quantity[0]``, ``quantity[1]``, ...
    alpha : float
        Chance of calling a right posterior wrong, over all quantities together.

    Raises
    ------
    InvalidArgumentError
        Ranks that are not whole numbers in 0 .. L of that shape; too few; names that do not fit.
    """
    ranks = check_ranks(ranks, num_draws)
    check_share("alpha", alpha)
    if len(ranks) < MIN_SIMULATIONS:
        raise InvalidArgumentError(
            f"ranks must come from at least {MIN_SIMULATIONS} simulations; got {len(ranks)}."
        )
    check_num_draws(num_draws)
    if names is None:
        names = [f"quantity[{i}]" for i in range(ranks.shape[1])]
    if len(names) != ranks.shape[1] or len(set(names)) != len(names):
        raise InvalidArgumentError(
            f"names must be {ranks.shape[1]} different names, one a quantity; got {list(names)}."
        )
    return Calibration(tuple(names), ranks, int(num_draws), alpha)


def check_num_draws(num_draws: int) -> None:
    """Enough for a rank and a 90 % interval."""
    if num_draws < MIN_DRAWS:
        raise InvalidArgumentError(
            f"at least {MIN_DRAWS} draws are needed for each truth; got {num_draws}."
        )
