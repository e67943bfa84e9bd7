r"""Many noisy measurements of one x: sigma is left behind as sigma / sqrt(m).

:math:`y_k = x + \sigma \xi_k` for k = 1 .. m. Their mean has noise :math:`\sigma / \sqrt m` and
says all they say of x, while each y alone stays as smooth as at sigma.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_untraced
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import (
    CleanDraw,
    ConditionedEnergy,
    SmoothedEnergy,
    check_event,
    check_sigma,
)
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import bayes_estimator, clean_draw, stochastic_jump
from neb_ppl.inverse.bridge import has_levels
from neb_ppl.inverse.pairs import ON_SMOOTHED_POSTERIOR, PosteriorEnergy
from neb_ppl.inverse.recalibrated import RecalibratedEnergy
from neb_ppl.inverse.result import draw_many
from neb_ppl.progress import progress
from neb_ppl.types import Array, Event, PRNGKey, Scalar
from neb_ppl.walks import HMC, Walk, start_at_noise

__all__ = [
    "Measurements",
    "MeasurementsEnergy",
    "NextMeasurementEnergy",
    "all_at_once",
    "once_at_a_time",
]


@value
class Levels:
    """One posterior at every noise level of its prior's family; or the family alone."""

    family: Any
    posterior: PosteriorEnergy | None

    def at(self, sigma: float | Array) -> SmoothedEnergy:
        """At one level."""
        prior = self.family.at(sigma)
        if self.posterior is None:
            return prior
        if isinstance(self.posterior.prior, RecalibratedEnergy):
            prior = dataclasses.replace(self.posterior.prior, energy=prior)  # pyright: ignore
        return dataclasses.replace(self.posterior, prior=prior)  # pyright: ignore


class OnLevels(SmoothedEnergy):
    """What energies made of a posterior's levels have in common."""

    levels: Levels

    @property
    def force_is_gradient(self) -> bool:
        """As of the posterior."""
        return getattr(self.levels.posterior, "force_is_gradient", True)


@value
class MeasurementsEnergy(OnLevels, ConditionedEnergy):
    r"""Energy of m measurements together, events of shape ``(m, *event)``.

    .. math:: \phi(y_1, \ldots, y_m) = \phi_{\sigma/\sqrt m}(\bar y)
              + \frac{1}{2\sigma^2} \sum_k \lVert y_k - \bar y \rVert^2

    The jump is that of the mean; see `all_at_once`.
    """

    levels: Levels
    sigma: Scalar
    num_measurements: int = static()

    @property
    def event_shape(self) -> tuple[int, ...]:  # pyright: ignore
        """``(m, *event)``."""
        return (self.num_measurements, *self.mean_energy.event_shape)  # pyright: ignore

    @property
    def mean_energy(self) -> SmoothedEnergy:
        """The energy of the measurements' mean."""
        return self.levels.at(self.sigma / self.num_measurements**0.5)

    @property
    def jump(self) -> Any:
        """Draws of x."""
        return stochastic_jump

    def __call__(self, y: Event) -> Scalar:
        """Energy of one set of measurements."""
        check_event(self, y)
        mean = jnp.mean(y, axis=0)
        return self.mean_energy(mean) + 0.5 * jnp.sum((y - mean) ** 2) / self.sigma**2

    def clean_mean(self, y: Event) -> Event:
        """Of x given the mean."""
        return bayes_estimator(self.mean_energy, jnp.mean(y, axis=0))

    def clean_draw(self, rng_key: PRNGKey, y: Event) -> CleanDraw:
        """Of x given the mean."""
        return clean_draw(rng_key, self.mean_energy, jnp.mean(y, axis=0))


@value
class NextMeasurementEnergy(OnLevels):
    r"""Energy of the k-th measurement given the mean of those before it.

    .. math:: \phi(y \mid \bar y_{k-1}) = \phi_{\sigma/\sqrt k}(\bar y_k)
        + \frac{k - 1}{2 k \sigma^2} \lVert y - \bar y_{k-1} \rVert^2

    Each is closer to log-concave than the one before.
    """

    levels: Levels
    sigma: Scalar
    before: Array
    k: Scalar

    @property
    def event_shape(self) -> tuple[int, ...]:  # pyright: ignore
        """One measurement."""
        return self.before.shape

    def mean_with(self, y: Event) -> Event:
        """Mean of all k."""
        return self.before + (y - self.before) / self.k

    def __call__(self, y: Event) -> Scalar:
        """Energy of one measurement."""
        tie = (self.k - 1) / (2 * self.k * self.sigma**2) * jnp.sum((y - self.before) ** 2)
        return self.levels.at(self.sigma / jnp.sqrt(self.k))(self.mean_with(y)) + tie


class Measurements(NamedTuple):
    """What `once_at_a_time` returns.

    Attributes
    ----------
    x : array, shape ``(n, *event)``
        Stochastic jumps from the means of all measurements: draws.
    means : array, shape ``(n, m, *event)``
        Mean of the first k measurements, k = 1 .. m.
    acceptance : array, shape ``(m,)``
        Of the walk at each measurement.
    """

    x: np.ndarray
    means: np.ndarray
    acceptance: np.ndarray

    def __repr__(self) -> str:
        n, m, *event = self.means.shape
        rates = ", ".join(f"{rate:.2f}" for rate in self.acceptance)
        return f"Measurements({n} draws of {tuple(event)} from {m} each, acceptance {rates})"


def all_at_once(
    family: Any,
    sigma: float | Array,
    num_measurements: int,
    posterior: PosteriorEnergy | None = None,
) -> MeasurementsEnergy:
    """The joint energy of m measurements, for `neb_ppl.sample` and every walk.

    Parameters
    ----------
    family : NoiseConditionalEnergy, or an exact energy
        Known at ``sigma / sqrt(m)``.
    sigma : float
        Of one measurement.
    num_measurements : int
    posterior : PosteriorEnergy, optional
        Made of the family at any level: measurements of x given its data. A recalibration of its
        jump, measured at its own level, is kept at the others.

    References
    ----------
    Saremi and Srivastava, "Multimeasurement generative models" (2022).
    """
    check_counts(num_measurements=num_measurements)
    levels, sigma = _levels(family, posterior), check_sigma(sigma)
    if posterior is not None and posterior.closure == "split":
        level = float(sigma) / num_measurements**0.5
        if not level < float(posterior.bound):
            raise InvalidArgumentError(
                f"sigma / sqrt(m) is {level:.4g}; the split exists below "
                f"{float(posterior.bound):.4g}. Take more measurements, or a smaller sigma."
            )
    return MeasurementsEnergy(levels, sigma, num_measurements)


def once_at_a_time(
    rng_key: PRNGKey,
    family: Any,
    sigma: float | Array,
    num_measurements: int,
    num_draws: int,
    *,
    posterior: PosteriorEnergy | None = None,
    walk: Walk | None = None,
    num_steps: int = 50,
    progress_bar: bool = True,
) -> Measurements:
    """Draws of x by sampling one measurement after the other, many draws side by side.

    Parameters
    ----------
    rng_key, family, sigma, num_measurements, posterior
        As in `all_at_once`.
    num_draws : int
        Independent chains.
    walk : Walk, optional
        On each measurement; default `HMC` of 8 leapfrogs of sigma / 2.
    num_steps : int
        Walk steps for each measurement; four times as many for the first.
    progress_bar : bool

    Raises
    ------
    InvalidArgumentError
        An energy of one noise level; a posterior whose walk is not on the smoothed posterior, since
        the laws of y at two levels must differ by noise alone.

    Notes
    -----
    Cost: ``num_measurements * num_steps`` walk steps a draw, in one compiled program.

    Each measurement is drawn given those before and none is drawn again. With the prior alone that
    is exact. Given data, the first keeps the law that the closure has at `sigma`: its bias fades
    as further ones come, but more slowly than at the level ``sigma / sqrt(m)``, the one of
    `all_at_once`.

    Source: Saremi, Park and Bach, "Chain of log-concave Markov chains" (2023).
    """
    check_untraced("once_at_a_time", rng_key, family, sigma, posterior)
    check_key(rng_key)
    check_counts(num_measurements=num_measurements, num_draws=num_draws, num_steps=num_steps)
    levels, sigma = _levels(family, posterior), check_sigma(sigma)
    if posterior is not None and posterior.closure not in ON_SMOOTHED_POSTERIOR:
        raise InvalidArgumentError(
            f"the conditionals of {posterior.closure!r} at different noise levels are not of one "
            "law: one measurement after the other would settle elsewhere. Use 'moment', "
            "'isotropic' or 'monte_carlo' here, or all_at_once."
        )
    walk = HMC(step_size=sigma / 2, num_integration_steps=8) if walk is None else walk
    key_start, key_jump, *keys = jax.random.split(rng_key, num_measurements + 2)
    first = levels.at(sigma)
    y = start_at_noise(key_start, first, num_draws, event_shape=first.event_shape)
    mean = jnp.zeros_like(y, jnp.result_type(float))
    y, means, acceptance = y.astype(mean.dtype), [], []
    with progress(num_measurements, "measurements", show=progress_bar, unit="y") as bar:
        for k, key in enumerate(keys, start=1):
            steps = jnp.asarray(num_steps * (4 if k == 1 else 1))
            y, mean, rate = _measure(
                levels, walk, key, sigma, y, mean, jnp.asarray(k, mean.dtype), steps
            )
            means.append(np.asarray(mean))
            acceptance.append(float(rate))
            bar.update(1)
    last = levels.at(sigma / num_measurements**0.5)
    x = draw_many(last, jax.random.split(key_jump, num_draws), mean).x
    return Measurements(np.asarray(x), np.stack(means, axis=1), np.array(acceptance))


def _levels(family: Any, posterior: PosteriorEnergy | None) -> Levels:
    if not has_levels(family):
        raise InvalidArgumentError(
            f"family must be known at several noise levels; {type(family).__name__} has one. Use "
            "neb_ppl.noise_conditional, or an exact energy."
        )
    if posterior is not None and not isinstance(posterior, PosteriorEnergy):
        raise InvalidArgumentError(
            f"posterior must come from neb_ppl.posterior_energy; got {type(posterior).__name__}."
        )
    return Levels(family, posterior)


@jax.jit
def _measure(
    levels: Levels,
    walk: Walk,
    rng_key: PRNGKey,
    sigma: Scalar,
    last: Array,
    before: Array,
    k: Scalar,
    num_steps: Array,
) -> tuple[Array, Array, Scalar]:
    """The k-th measurement of every draw, walked to from where x seems to be, plus noise."""
    key_noise, key_walk = jax.random.split(rng_key)

    def start(y: Array, mean: Array, noise: Array) -> Array:
        known = levels.at(sigma / jnp.sqrt(jnp.maximum(k - 1, 1.0)))
        return jnp.where(k > 1, bayes_estimator(known, mean) + sigma * noise, y)

    def one(key: PRNGKey, y: Array, mean: Array, noise: Array) -> tuple[Array, Array, Scalar]:
        energy = NextMeasurementEnergy(levels, sigma, mean, k)
        walk.check(energy)
        algorithm = walk.resolve(sigma, y.size).algorithm(energy)
        key_init, key_steps = jax.random.split(key)

        def step(i: Array, carry: tuple) -> tuple:
            state, total = carry
            state, info = algorithm.step(jax.random.fold_in(key_steps, i), state)
            return state, total + walk.stats(info).get("acceptance_rate", 1.0)

        state = algorithm.init(start(y, mean, noise), key_init)
        state, total = jax.lax.fori_loop(0, num_steps, step, (state, jnp.zeros(())))
        y = state.position
        return y, energy.mean_with(y), total / num_steps

    noise = jax.random.normal(key_noise, last.shape, last.dtype)
    keys = jax.random.split(key_walk, len(last))
    y, mean, rate = jax.vmap(one)(keys, last, before, noise)
    return y, mean, jnp.mean(rate)
