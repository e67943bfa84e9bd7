"""Whether an energy knows how uncertain x is: its curvature was never trained for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key
from neb_ppl.data.checks import check_data
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.neural import check_one_level
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.estimators import bayes_estimator, covariance_product, smooth
from neb_ppl.types import Array, ArrayLike, PRNGKey

__all__ = ["SecondMoment", "check_second_moment"]

TOLERANCE = 0.05
SPREADS = 3.0
WIDEST = 0.15
INSIDE = 1.6448536
BATCH = 64


@dataclasses.dataclass(frozen=True)
class SecondMoment:
    """Errors of the Bayes estimator on held-out data against the covariance it comes with.

    Attributes
    ----------
    factor : float
        Root of (mean squared error over mean variance): what the deviations of x given y should be
        multiplied with. 1 where the energy is right.
    standard_error : float
        Of the factor, events taken as independent.
    per_entry : array, shape ``(*event,)``
        The same for each entry; NaN where none was looked at.
    coverage : float
        Share of errors within 1.645 deviations: .9 where these are right and errors are Gaussian.
    num_negative : int
        Entries with a variance that is not positive, of `num_errors`.
    num_errors : int
    """

    factor: float
    standard_error: float
    per_entry: np.ndarray
    coverage: float
    num_negative: int
    num_errors: int

    @property
    def decided(self) -> bool:
        """Whether three standard errors are below 15 %: else take more events."""
        return SPREADS * self.standard_error <= WIDEST

    @property
    def ok(self) -> bool:
        """Whether deviations are right within 5 %, or within three standard errors; decided."""
        error = abs(self.factor - 1)
        return self.decided and error <= max(TOLERANCE, SPREADS * self.standard_error)

    def __str__(self) -> str:
        lines = [
            f"errors of the Bayes estimator are {self.factor:.3f} +- {self.standard_error:.3f} of "
            f"what the energy's curvature says; {self.coverage:.1%} lie in 90 % intervals"
        ]
        if self.num_negative:
            lines.append(f"{self.num_negative} of {self.num_errors} variances are not positive")
        if not self.decided:
            lines.append("UNDECIDED: the standard error is too large. Pass more held-out events")
        elif self.ok:
            lines.append("stochastic jumps may be trusted with intervals")
        else:
            lines.append(
                "PROBLEM: intervals from stochastic jumps would not hold their share. Pass "
                f"recalibration={self.factor:.3f} (or .per_entry) to posterior_energy, train "
                "longer, or widen intervals on held-out pairs (calibrate_intervals)"
            )
        return "\n".join(lines)


def check_second_moment(
    rng_key: PRNGKey,
    energy: SmoothedEnergy,
    x: ArrayLike,
    *,
    entries_per_event: int = 32,
) -> SecondMoment:
    r"""Compare errors on held-out data with :math:`C(y) = \sigma^2 (I - \sigma^2 \nabla^2 \phi)`.

    Denoising trains :math:`\hat x`, the first moment; stochastic jumps also use C.

    Parameters
    ----------
    rng_key : key
    energy : SmoothedEnergy
        Of one noise level.
    x : array, shape ``(n, *event)``
        Clean data that the energy was **not** trained on.
    entries_per_event : int
        Random entries at which C is looked at, one Hessian product each.

    Raises
    ------
    NotAnEnergyError, InvalidArgumentError, EventShapeError, NonFiniteDataError
    """
    check_key(rng_key)
    check_counts(entries_per_event=entries_per_event)
    check_one_level(energy, "check")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}, whose score has no symmetric derivative."
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
    errors, variances = (np.asarray(a, np.float64) for a in _errors(energy, x, y, index))
    ratio = (errors**2).mean() / variances.mean()
    spread = (errors**2 - ratio * variances).mean(axis=1).std(ddof=1) / np.sqrt(len(x))
    factor = float(np.sqrt(max(ratio, 0.0)))
    return SecondMoment(
        factor,
        float(spread / variances.mean() / (2 * max(factor, 1e-12))),
        _per_entry(np.asarray(index), errors, variances, x.shape[1:]),
        float((np.abs(errors) < INSIDE * np.sqrt(np.maximum(variances, 0))).mean()),
        int((variances <= 0).sum()),
        errors.size,
    )


@jax.jit
def _errors(energy: SmoothedEnergy, x: Array, y: Array, index: Array) -> tuple[Array, Array]:
    """Errors of the Bayes estimator and their variances, at the entries asked for."""

    def one(pair: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        x, y, index = pair
        _, _, product = covariance_product(energy, y)

        def variance(i: Array) -> Array:
            unit = jnp.zeros(y.size, y.dtype).at[i].set(1.0)
            return jnp.ravel(product(unit.reshape(y.shape)))[i]

        error = jnp.ravel(x - bayes_estimator(energy, y))[index]
        return error, jax.vmap(variance)(index)

    return jax.lax.map(one, (x, y, index), batch_size=BATCH)


def _per_entry(
    index: np.ndarray, errors: np.ndarray, variances: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    size = int(np.prod(shape, dtype=int))
    squares = np.bincount(index.ravel(), (errors**2).ravel(), size)
    total = np.bincount(index.ravel(), variances.ravel(), size)
    with np.errstate(all="ignore"):
        return np.sqrt(np.where(total > 0, squares / total, np.nan)).reshape(shape)
