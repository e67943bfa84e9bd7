"""Mixing seen by a classifier: which classes the jumps of each chain visit, and how often."""

import dataclasses

import numpy as np

from neb_ppl.diagnostics.arviz import effective_sample_size, rhat
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import ArrayLike

__all__ = ["ClassMixing", "class_mixing"]

MAX_RHAT = 1.1


@dataclasses.dataclass(frozen=True)
class ClassMixing:
    """Visits of chains to classes.

    Attributes
    ----------
    visits : int array, shape (chains, classes)
        Draws of each chain in each class.
    changes_per_1000 : float
        Class changes per 1,000 jumps, mean over chains.
    frequencies, reference : arrays, shape (classes,)
        Share of each class among the jumps and in the reference.
    standard_errors : array, shape (classes,)
        Of the frequencies, by effective sample size; 0 for a class never visited, of which they
        say nothing.
    total_variation : float
        Half the summed difference between frequencies and reference.
    rhat : array, shape (classes,)
        Of the class indicators; NaN for a class that is never, or always, visited.
    """

    visits: np.ndarray
    changes_per_1000: float
    frequencies: np.ndarray
    reference: np.ndarray
    standard_errors: np.ndarray
    total_variation: float
    rhat: np.ndarray

    @property
    def num_visited(self) -> np.ndarray:
        """Number of classes each chain visited."""
        return (self.visits > 0).sum(axis=1)

    @property
    def ok(self) -> bool:
        """Whether every chain visited every class of the reference, and the chains agree.

        They agree when no class indicator has an R-hat above 1.1.
        """
        return bool((self.visits[:, self.reference > 0] > 0).all()) and not self.disagree

    @property
    def disagree(self) -> bool:
        """Whether an R-hat is above 1.1."""
        return bool((self.rhat > MAX_RHAT).any())

    @property
    def expected_variation(self) -> float:
        """The total variation that noise alone would leave, by the standard errors."""
        return 0.5 * float(np.sqrt(2 / np.pi) * np.nansum(self.standard_errors))

    def __str__(self) -> str:
        total = int((self.reference > 0).sum())
        missing = np.flatnonzero(~(self.visits[:, self.reference > 0] > 0).all(axis=1))
        lines = []
        if len(missing) == 0:
            lines.append(f"every one of {len(self.visits)} chains visits all {total} classes")
        else:
            worst = self.num_visited.min()
            lines.append(
                f"{len(missing)} of {len(self.visits)} chains miss classes (the worst visits "
                f"{worst} of {total}): the walk does not cross between modes in this time. Try a "
                "larger sigma, more steps_per_jump, a larger step_size, or more chains"
            )
        lines.append(f"{self.changes_per_1000:.0f} class changes per 1,000 jumps")
        lines.append(
            f"distance of class frequencies from the data's: {self.total_variation:.1%} (noise "
            f"alone: {self.expected_variation:.1%})"
        )
        finite = self.rhat[np.isfinite(self.rhat)]
        if len(finite):
            lines.append(f"largest R-hat of a class indicator: {finite.max():.3f}")
        if self.disagree:
            lines.append("the chains disagree about the classes: run longer")
        return "\n".join(lines)


def class_mixing(
    labels: ArrayLike, reference: ArrayLike | None = None, num_classes: int | None = None
) -> ClassMixing:
    """Judge the mixing of labelled jumps.

    Parameters
    ----------
    labels : int array, shape (chains, draws)
        Class of each jump, by any classifier.
    reference : int array, shape (n,), optional
        Labels of the data, for the frequencies to be compared with; default uniform.
    num_classes : int, optional
        Default: one more than the largest label.

    Raises
    ------
    InvalidArgumentError
        Labels that are not non-negative whole numbers in two dimensions.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise InvalidArgumentError(
            f"labels must be whole numbers of shape (chains, draws); got {labels.dtype} of shape "
            f"{labels.shape}."
        )
    given = np.zeros(0, int) if reference is None else np.asarray(reference)
    top = max(labels.max(), given.max(initial=0))
    if labels.min() < 0 or top >= (num_classes or top + 1):
        raise InvalidArgumentError(
            f"labels must lie in 0 .. {(num_classes or top + 1) - 1}; got {labels.min()} .. {top}."
        )
    classes = np.arange(num_classes or top + 1)
    indicators = (labels[..., None] == classes).astype(float)
    frequencies = indicators.mean(axis=(0, 1))
    shares = np.bincount(given, minlength=len(classes)) if len(given) else np.ones(len(classes))
    shares = shares / shares.sum()
    if labels.shape[1] >= 4:
        ess, ratio = effective_sample_size(indicators), rhat(indicators)
    else:
        ess = ratio = np.full(len(classes), np.nan)
    seen = (frequencies > 0) & (frequencies < 1)
    return ClassMixing(
        visits=indicators.sum(axis=1).astype(int),
        changes_per_1000=1000 * float((labels[:, 1:] != labels[:, :-1]).mean())
        if labels.shape[1] > 1
        else 0.0,
        frequencies=frequencies,
        reference=shares,
        standard_errors=np.sqrt(frequencies * (1 - frequencies) / ess),
        total_variation=0.5 * float(np.abs(frequencies - shares).sum()),
        rhat=np.where(seen, ratio, np.nan),
    )
