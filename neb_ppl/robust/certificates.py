"""What votes under noise prove: Clopper-Pearson bounds, certified radii, certified accuracy."""

import dataclasses

import numpy as np
from scipy import special

from neb_ppl._checks import check_share
from neb_ppl.errors import EventShapeError, InvalidArgumentError
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

    References
    ----------
    Clopper and Pearson (1934).
    """
    check_share("alpha", alpha)
    k = np.asarray(successes)
    if not (np.all(k >= 0) and np.all(k <= trials)):
        raise InvalidArgumentError(
            f"successes must lie in 0 .. {trials}; got {k.min()}, {k.max()}."
        )
    bound = special.betaincinv(np.maximum(k, 1), trials - k + 1.0, alpha)
    return np.where(k > 0, bound, 0.0)


def certified_radius(probability: ArrayLike, sigma: float) -> np.ndarray:
    r""":math:`\sigma \Phi^{-1}(p)`: no change of x shorter than that moves the majority's vote.

    0 where p is at most a half. In the l2 norm, in data units.

    References
    ----------
    Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing" (2019).
    """
    p = np.asarray(probability, np.float64)
    return sigma * special.ndtri(np.maximum(p, 0.5))


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
        truth = np.asarray(labels)
        if truth.shape != self.labels.shape:
            raise EventShapeError(f"labels must have shape {self.labels.shape}; got {truth.shape}.")
        held = np.where(self.labels == truth, self.radii, -1.0)
        return (held[:, None] >= np.ravel(radii)).mean(axis=0).reshape(np.shape(radii))

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
