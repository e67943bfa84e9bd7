"""What votes under noise prove: Clopper-Pearson bounds, certified radii, certified accuracy."""

import dataclasses

import numpy as np
from scipy import special

from neb_ppl._checks import as_numbers, check_counts, check_share
from neb_ppl.energies.base import check_sigma
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.robust.checks import check_labels, check_radii
from neb_ppl.types import ArrayLike

__all__ = ["ABSTAIN", "Certificates", "certified_radius", "lower_bound"]

ABSTAIN = -1


def lower_bound(successes: ArrayLike, trials: int, alpha: float) -> np.ndarray:
    r"""One-sided Clopper-Pearson bound: below the true probability but for a share alpha of tries.

    .. math:: \sup\{p : P(\mathrm{Bin}(n, p) \ge k) \le \alpha\}

    the alpha quantile of Beta(k, n - k + 1), and 0 for k = 0.

    Parameters
    ----------
    successes : int array
        k, of `trials` independent tries each.
    trials : int
    alpha : float

    Raises
    ------
    InvalidArgumentError

    References
    ----------
    Clopper and Pearson (1934).
    """
    check_share("alpha", alpha)
    check_counts(trials=trials)
    k = as_numbers("successes", successes)
    bad = k[~((k >= 0) & (k <= trials) & (k == np.round(k)))]
    if bad.size:
        raise InvalidArgumentError(
            f"successes must be whole numbers in 0 .. {trials}, the trials; got {bad[0]:g}."
        )
    bound = special.betaincinv(np.maximum(k, 1), trials - k + 1.0, alpha)
    return np.where(k > 0, bound, 0.0)


def certified_radius(probability: ArrayLike, sigma: float) -> np.ndarray:
    r""":math:`\sigma \Phi^{-1}(p)`: no change of x shorter than that moves the majority's vote.

    0 where p is at most a half. In the l2 norm, in data units.

    Parameters
    ----------
    probability : array
        p, a lower bound of the probability of the majority's class.
    sigma : float

    Raises
    ------
    InvalidArgumentError

    References
    ----------
    Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing" (2019).
    """
    check_sigma(sigma)
    p = as_numbers("probability", probability)
    bad = p[~((p >= 0) & (p <= 1))]
    if bad.size:
        raise InvalidArgumentError(f"probability must lie in [0, 1]; got {bad[0]:g}.")
    return float(sigma) * special.ndtri(np.maximum(p, 0.5))


@dataclasses.dataclass(frozen=True)
class Certificates:
    """What is proven of each event.

    Attributes
    ----------
    labels : int array, shape ``(n,)``
        The majority's vote; `ABSTAIN` where it is not proven to be one.
    radii : array, shape ``(n,)``
        No change shorter than this moves the label, each with probability ``1 - alpha`` over the
        noise that was drawn; 0 where it abstains.
    probability : array, shape ``(n,)``
        Lower bound of the share of votes for the class that was chosen.
    num_invalid : int
        Votes that were not finite, and count for no class.
    alpha, sigma : float
    """

    labels: np.ndarray
    radii: np.ndarray
    probability: np.ndarray
    num_invalid: int
    alpha: float
    sigma: float

    def accuracy(self, labels: ArrayLike, radii: float | ArrayLike = 0.0) -> np.ndarray:
        """Share of events that are classified rightly within each radius; abstaining is wrong."""
        truth = check_labels(labels, len(self.labels))
        radii = check_radii("radii", radii)
        held = np.where(self.labels == truth, self.radii, -1.0)
        return (held[:, None] >= radii.ravel()).mean(axis=0).reshape(radii.shape)

    def __str__(self) -> str:
        abstained = int((self.labels == ABSTAIN).sum())
        lines = [
            f"{len(self.labels)} events at sigma = {self.sigma:.4g}: {abstained} abstained; "
            f"median certified radius {np.median(self.radii):.4g}, each with probability "
            f"{1 - self.alpha:g}"
        ]
        if self.num_invalid:
            lines.append(f"{self.num_invalid} votes were not finite and counted for no class")
        return "\n".join(lines)
