"""Whether an energy knows how uncertain x is: its curvature was never trained for."""

import dataclasses
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key
from neb_ppl.data.checks import check_data
from neb_ppl.energies.base import ConditionedEnergy, SmoothedEnergy
from neb_ppl.energies.neural import check_one_level
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.estimators import bayes_estimator, jump_variances, smooth
from neb_ppl.inverse.recalibrated import RecalibratedEnergy
from neb_ppl.types import Array, ArrayLike, PRNGKey

__all__ = ["SecondMoment", "check_second_moment"]

TOLERANCE = 0.05
SPREADS = 3.0
WIDEST = 0.15
COVERAGE_TOLERANCE = 0.02
LEVEL, INSIDE = 0.9, 1.6448536
FALSE_ALARM = 0.0027  # of the normal law beyond three deviations, over all entries together
LEAST_LOOKS = 30
SMALL_VARIANCE = 0.01
BATCH = 64


@dataclasses.dataclass(frozen=True)
class SecondMoment:
    """Errors of the Bayes estimator on held-out data against the covariance of stochastic jumps.

    Attributes
    ----------
    factor : float
        Root of (mean squared error over mean variance): what the deviations of x given y should be
        multiplied with. 1 where the energy is right.
    standard_error : float
        Of the factor, events taken as independent.
    per_entry : array, shape ``(*event,)``
        The same for each entry; NaN where none was looked at.
    entries_off : bool array, shape ``(*event,)``
        Entries whose factor is more than 15 % from 1 beyond doubt: by z standard errors, z such
        that one of all entries is told falsely with probability .003. Left out are entries looked
        at fewer than 30 times, or with errors and variances below a hundredth of the mean variance.
    coverage, coverage_error : float
        Share of errors within 1.645 deviations, and its standard error: .9 where jumps are right,
        in law and not only in variance.
    num_negative : int
        Entries whose variance in C is not positive, of `num_errors`: jumps count such parts as 0.
    num_errors : int
    """

    factor: float
    standard_error: float
    per_entry: np.ndarray
    entries_off: np.ndarray
    coverage: float
    coverage_error: float
    num_negative: int
    num_errors: int

    @property
    def decided(self) -> bool:
        """Whether three standard errors are below 15 %: else take more events."""
        return SPREADS * self.standard_error <= WIDEST

    @property
    def factor_ok(self) -> bool:
        """Whether deviations are right on average within 5 %, or within three standard errors."""
        return abs(self.factor - 1) <= max(TOLERANCE, SPREADS * self.standard_error)

    @property
    def coverage_ok(self) -> bool:
        """Whether intervals hold .9 within .02, or within three standard errors."""
        gap = abs(self.coverage - LEVEL)
        return gap <= max(COVERAGE_TOLERANCE, SPREADS * self.coverage_error)

    @property
    def ok(self) -> bool:
        """Decided, and right on average, entry by entry and in the share that intervals hold."""
        right = self.factor_ok and self.coverage_ok and not self.entries_off.any()
        return bool(self.decided and right)

    def __str__(self) -> str:
        lines = [
            f"errors of the Bayes estimator are {self.factor:.3f} +- {self.standard_error:.3f} of "
            f"what the energy's curvature says; {self.coverage:.1%} +- {self.coverage_error:.1%} "
            "lie in 90 % intervals"
        ]
        if self.num_negative:
            lines.append(
                f"{self.num_negative} of {self.num_errors} variances are not positive; jumps count "
                "such parts as 0"
            )
        if not self.decided:
            lines.append("UNDECIDED: the standard error is too large. Pass more held-out events")
        elif self.ok:
            lines.append(
                f"stochastic jumps may be trusted with intervals, within {COVERAGE_TOLERANCE:.0%} "
                "of their level or three standard errors"
            )
        else:
            lines.append(f"PROBLEM: {self._problem()}")
            lines.append(
                "or train longer, or widen intervals on held-out pairs (calibrate_intervals)"
            )
        return "\n".join(lines)

    def _problem(self) -> str:
        if self.entries_off.any():
            return (
                f"deviations of {int(self.entries_off.sum())} entries are off by more than 15 % "
                "(.entries_off). Pass this check's .per_entry as recalibration= to posterior_energy"
            )
        if not self.factor_ok:
            return (
                "intervals from stochastic jumps would not hold their share. Pass recalibration="
                f"{self.factor:.3f} (or .per_entry) to posterior_energy"
            )
        return (
            "variances are right on average, but not from one y to another, or errors are far "
            "from Gaussian: intervals do not hold their share, and no factor mends it. Take a "
            "smaller sigma"
        )


def check_second_moment(
    rng_key: PRNGKey,
    energy: SmoothedEnergy,
    x: ArrayLike,
    *,
    entries_per_event: int = 32,
) -> SecondMoment:
    r"""Compare errors on held-out data with :math:`C(y) = \sigma^2 (I - \sigma^2 \nabla^2 \phi)`.

    Denoising trains :math:`\hat x`, the first moment; stochastic jumps also use C, without what a
    learned one has below 0, and so does this.

    Parameters
    ----------
    rng_key : key
    energy : SmoothedEnergy
        Of one noise level; a `recalibrated` one is checked with its factor.
    x : array, shape ``(n, *event)``
        Clean data that the energy was **not** trained on.
    entries_per_event : int
        Random entries at which C is looked at. It costs a Hessian product for each dimension up to
        128, and 20 for each entry beyond.

    Raises
    ------
    NotAnEnergyError, InvalidArgumentError, EventShapeError, NonFiniteDataError
        Among them a posterior, whose errors are not those of held-out data, and an energy whose C
        is nowhere positive.

    Notes
    -----
    The factor is one number: an energy whose curvature is too large here and too small there can
    have it right. Hence the share that intervals hold, and the entries, are judged as well.
    """
    check_key(rng_key)
    check_counts(entries_per_event=entries_per_event)
    check_one_level(energy, "check")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}, whose score has no symmetric derivative."
        )
    factor = jnp.ones(())
    if isinstance(energy, RecalibratedEnergy):
        energy, factor = energy.energy, energy.factor
    if isinstance(energy, ConditionedEnergy):
        raise InvalidArgumentError(
            f"energy is a {type(energy).__name__}, conditioned on data as well: errors on held-out "
            "events say nothing of it. Take its prior."
        )
    x = jnp.asarray(check_data(x, energy.event_shape))
    if len(x) < 2:
        raise InvalidArgumentError(f"x must hold at least 2 events; got {len(x)}.")
    key_noise, key_entries = jax.random.split(rng_key)
    y = smooth(key_noise, x, energy.sigma)
    size = x[0].size
    count = min(entries_per_event, size)
    keys = jax.random.split(key_entries, len(x))
    index = jax.vmap(lambda key: jax.random.choice(key, size, (count,), replace=False))(keys)
    index = np.asarray(index)
    errors, variances, own = (np.asarray(a, np.float64) for a in _errors(energy, x, y, index))
    variances *= np.broadcast_to(np.asarray(factor) ** 2, x.shape[1:]).ravel()[index]
    return _judged(index, errors, variances, x.shape[1:], int((own <= 0).sum()))


@jax.jit
def _errors(energy: SmoothedEnergy, x: Array, y: Array, index: Array) -> tuple[Array, Array, Array]:
    """At the entries asked for: errors of the Bayes estimator, variances of jumps, and of C."""

    def one(pair: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, y, index = pair
        error = jnp.ravel(x - bayes_estimator(energy, y))[index]
        return error, *jump_variances(energy, y, index)

    return jax.lax.map(one, (x, y, index), batch_size=BATCH)


def _judged(
    index: np.ndarray,
    errors: np.ndarray,
    variances: np.ndarray,
    shape: tuple[int, ...],
    num_negative: int,
) -> SecondMoment:
    """Of errors and their variances, shape ``(n, entries)``, at entries ``index`` of the events."""
    if not variances.mean() > 0:
        raise InvalidArgumentError(
            "energy leaves x no variance: C is nowhere positive at the entries that were looked "
            "at. It is not trained, or of another sigma."
        )
    ratio = (errors**2).mean() / variances.mean()
    spread = (errors**2 - ratio * variances).mean(axis=1).std(ddof=1) / np.sqrt(len(errors))
    factor = float(np.sqrt(max(ratio, 0.0)))
    per_entry, off = _entries(index.ravel(), errors.ravel() ** 2, variances.ravel(), shape)
    inside = (np.abs(errors) < INSIDE * np.sqrt(np.maximum(variances, 0))).mean(axis=1)
    return SecondMoment(
        factor=factor,
        standard_error=float(spread / variances.mean() / (2 * max(factor, 1e-12))),
        per_entry=per_entry.reshape(shape),
        entries_off=off.reshape(shape),
        coverage=float(inside.mean()),
        coverage_error=float(inside.std(ddof=1) / np.sqrt(len(inside))),
        num_negative=num_negative,
        num_errors=errors.size,
    )


def _entries(
    index: np.ndarray, squares: np.ndarray, variances: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Factor of each entry, and which are off beyond doubt."""
    size = int(np.prod(shape, dtype=int))

    def total(each: np.ndarray) -> np.ndarray:
        return np.bincount(index, each, size)

    looks, seen, said = np.bincount(index, minlength=size), total(squares), total(variances)
    with np.errstate(all="ignore"):
        factor = np.sqrt(np.where(said > 0, seen / said, np.nan))
    small = np.maximum(seen, said) <= SMALL_VARIANCE * variances.mean() * looks
    judged = (looks >= LEAST_LOOKS) & ~small
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / 2 / max(int(judged.sum()), 1))

    def beyond_doubt(gaps: np.ndarray) -> np.ndarray:
        return total(gaps) > z * np.sqrt(total(gaps**2))

    more = beyond_doubt(squares - (1 + WIDEST) ** 2 * variances)
    less = beyond_doubt((1 - WIDEST) ** 2 * variances - squares)
    return factor, judged & (more | less)
