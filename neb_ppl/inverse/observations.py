"""What is seen of x: the forward operator, the data and their noise as one value.

Each says how likely its data are given x, and draws data for another x.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.scipy import stats

from neb_ppl._checks import as_floats, check_key
from neb_ppl._precise import matmul
from neb_ppl._pytree import static, value
from neb_ppl.errors import (
    EventShapeError,
    InvalidArgumentError,
    NonFiniteDataError,
)
from neb_ppl.inverse.operators import LinearOperator
from neb_ppl.types import Array, ArrayLike, Event, Float, PRNGKey, Scalar

__all__ = [
    "BernoulliObservation",
    "GaussianObservation",
    "LaplaceObservation",
    "LikelihoodObservation",
    "Observation",
    "PoissonObservation",
    "StudentTObservation",
    "bernoulli",
    "gaussian",
    "laplace",
    "likelihood",
    "poisson",
    "student_t",
]

Forward = LinearOperator | Callable[[Event], Array]


class Observation(abc.ABC):
    """Observed data with the operator and the noise that made them.

    Attributes
    ----------
    operator : LinearOperator, or a function of one event
        The mean of the data given x, before any link.
    value : array
        The data o, in the operator's output shape.
    """

    operator: Any
    value: Array

    @abc.abstractmethod
    def log_density(self, seen: Array) -> Scalar:
        """Log density of the data given ``operator(x)``, normalised over the data."""

    @abc.abstractmethod
    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """Data given ``operator(x)``."""

    def log_likelihood(self, x: Event) -> Scalar:
        """``log p(o | x)``."""
        return self.log_density(self.operator(x))

    def simulate(self, rng_key: PRNGKey, x: Event) -> Array:
        """Data that might have been seen of x, in the shape of `value`."""
        check_key(rng_key)
        return self.draw(rng_key, self.operator(x))

    def check_value(self, o: Array) -> None:
        """Refuse data that cannot be, such as counts that are not whole numbers."""
        del o

    def with_value(self, o: ArrayLike) -> Self:
        """The same look at other data."""
        o = _data(self.operator, o)
        if o.shape != self.value.shape:
            raise EventShapeError(f"o has shape {o.shape}; expected {self.value.shape}.")
        self.check_value(o)
        return dataclasses.replace(self, value=o)  # pyright: ignore[reportArgumentType]

    @property
    def is_linear(self) -> bool:
        """Whether the operator is a `LinearOperator`."""
        return isinstance(self.operator, LinearOperator)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.operator!r}, value of shape {self.value.shape})"


@value
class GaussianObservation(Observation):
    r""":math:`o = A x + L (\tau\,\xi)`; see `gaussian`."""

    operator: Any
    value: Array
    noise_scale: Array
    factor: Float[Array, "m m"] | None = None

    def log_density(self, seen: Array) -> Scalar:
        """Independent or correlated Gaussian errors."""
        r = self.value - seen
        jacobian = 0.0
        if self.factor is not None:
            r = jax.scipy.linalg.solve_triangular(self.factor, jnp.ravel(r), lower=True)
            jacobian = jnp.sum(jnp.log(jnp.diag(self.factor)))
        return jnp.sum(stats.norm.logpdf(r, 0.0, self.noise_scale)) - jacobian

    def noise_covariance(self) -> Float[Array, "m m"]:
        """Of the raveled output."""
        if self.factor is not None:
            return matmul(self.factor, self.factor.T)
        return jnp.diag(jnp.broadcast_to(self.noise_scale, self.value.shape).ravel() ** 2)

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """The mean plus noise."""
        noise = self.noise_scale * jax.random.normal(rng_key, seen.shape, seen.dtype)
        if self.factor is not None:
            noise = matmul(self.factor, jnp.ravel(noise)).reshape(seen.shape)
        return seen + noise


@value
class StudentTObservation(Observation):
    """Errors with heavy tails; see `student_t`."""

    operator: Any
    value: Array
    noise_scale: Array
    df: Scalar

    def log_density(self, seen: Array) -> Scalar:
        """Independent Student-t errors."""
        return jnp.sum(stats.t.logpdf(self.value, self.df, seen, self.noise_scale))

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """The mean plus noise."""
        return seen + self.noise_scale * jax.random.t(rng_key, self.df, seen.shape, seen.dtype)


@value
class LaplaceObservation(Observation):
    """Double-exponential errors; see `laplace`."""

    operator: Any
    value: Array
    noise_scale: Array

    def log_density(self, seen: Array) -> Scalar:
        """Independent Laplace errors of standard deviation `noise_scale`."""
        return jnp.sum(stats.laplace.logpdf(self.value, seen, self.noise_scale / 2**0.5))

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """The mean plus noise."""
        noise = jax.random.laplace(rng_key, seen.shape, seen.dtype)
        return seen + self.noise_scale / 2**0.5 * noise


@value
class PoissonObservation(Observation):
    """Counts; see `poisson`."""

    operator: Any
    value: Array
    exposure: Array
    background: Array

    def check_value(self, o: Array) -> None:
        """Whole numbers from 0 on."""
        if not isinstance(o, Tracer) and not (np.all(o >= 0) and np.all(o == np.round(o))):
            raise InvalidArgumentError(
                f"value must hold counts 0, 1, 2, ...; got {float(o.min()):g} to "
                f"{float(o.max()):g}."
            )

    def log_density(self, seen: Array) -> Scalar:
        """Independent counts; minus infinity where a rate is negative, or 0 and something seen."""
        rate = self.exposure * seen + self.background
        safe = jnp.where(rate > 0, rate, 1.0)
        each = self.value * jnp.log(safe) - rate - jax.scipy.special.gammaln(self.value + 1)
        possible = (rate > 0) | ((rate == 0) & (self.value == 0))
        return jnp.where(jnp.all(possible), jnp.sum(each), -jnp.inf)

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """Counts, as floats; NaN where the rate is negative."""
        rate = self.exposure * seen + self.background
        counts = jax.random.poisson(rng_key, jnp.maximum(rate, 0.0)).astype(seen.dtype)
        return jnp.where(rate >= 0, counts, jnp.nan)


@value
class BernoulliObservation(Observation):
    """Zeros and ones; see `bernoulli`."""

    operator: Any
    value: Array
    noise_scale: Array
    link: str = static()

    def check_value(self, o: Array) -> None:
        """Zeros and ones."""
        if not isinstance(o, Tracer) and not np.isin(np.asarray(o), (0, 1)).all():
            raise InvalidArgumentError(
                f"value must hold zeros and ones; got {float(o.min()):g} to {float(o.max()):g}."
            )

    def log_density(self, seen: Array) -> Scalar:
        """Independent zeros and ones."""
        u = (2 * self.value - 1) * seen / self.noise_scale
        return jnp.sum(stats.norm.logcdf(u) if self.link == "probit" else jax.nn.log_sigmoid(u))

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """Zeros and ones, as floats."""
        noise = jax.random.normal if self.link == "probit" else jax.random.logistic
        latent = seen + self.noise_scale * noise(rng_key, seen.shape, seen.dtype)
        return (latent > 0).astype(seen.dtype)


@value
class LikelihoodObservation(Observation):
    """Any likelihood; see `likelihood`."""

    operator: Any
    value: Array
    function: Callable[[Array, Array], Scalar] = static()
    sampler: Callable[[PRNGKey, Array], Array] | None = static()

    def log_density(self, seen: Array) -> Scalar:
        """What the function says."""
        return self.function(seen, self.value)

    def draw(self, rng_key: PRNGKey, seen: Array) -> Array:
        """What the sampler says."""
        if self.sampler is None:
            raise InvalidArgumentError("likelihood(..., sampler=...) is needed to simulate data.")
        return self.sampler(rng_key, seen)


def gaussian(
    operator: Forward,
    value: ArrayLike,
    noise_scale: float | ArrayLike | None = None,
    *,
    noise_covariance: ArrayLike | None = None,
) -> GaussianObservation:
    r"""Gaussian noise, :math:`o = A x + \tau\,\xi`.

    Parameters
    ----------
    operator : LinearOperator, or a function of one event
    value : array
        o, in the operator's output shape; under a `mask` a whole event does, too.
    noise_scale : float, or array of that shape
        tau: standard deviations, in the units of o.
    noise_covariance : array, shape ``(m, m)``, optional
        Instead of `noise_scale`, for correlated noise of the raveled output.

    Raises
    ------
    InvalidArgumentError
        Not exactly one of the two; deviations or a covariance that are not positive.
    EventShapeError, NonFiniteDataError
    """
    if (noise_scale is None) == (noise_covariance is None):
        given = "neither" if noise_scale is None else "both"
        raise InvalidArgumentError(
            f"give exactly one of noise_scale and noise_covariance; got {given}."
        )
    o = _data(operator, value)
    if noise_covariance is None:
        return GaussianObservation(_forward(operator), o, _scale(noise_scale, operator, o))
    covariance = as_floats("noise_covariance", noise_covariance, o.dtype)
    if covariance.shape != (o.size, o.size):
        raise EventShapeError(
            f"noise_covariance has shape {covariance.shape}; expected ({o.size}, {o.size})."
        )
    factor = jnp.linalg.cholesky(covariance)
    if not isinstance(factor, Tracer):
        gap = float(np.abs(covariance - covariance.T).max() / np.abs(covariance).max())
        if not gap <= 1e-6:
            raise InvalidArgumentError(
                f"noise_covariance must be symmetric; entries differ by {gap:.2g} of the largest."
            )
        if not np.isfinite(factor).all():
            lowest = float(np.linalg.eigvalsh(covariance)[0])
            raise InvalidArgumentError(
                f"noise_covariance must be positive definite; its lowest eigenvalue: {lowest:.3g}."
            )
    return GaussianObservation(_forward(operator), o, jnp.ones((), o.dtype), factor)


def student_t(
    operator: Forward, value: ArrayLike, noise_scale: float | ArrayLike, *, df: float
) -> StudentTObservation:
    """Student-t errors of scale `noise_scale` with `df` degrees of freedom: outliers."""
    o = _data(operator, value)
    return StudentTObservation(
        _forward(operator), o, _scale(noise_scale, operator, o), _positive(df, "df", o.dtype)
    )


def laplace(
    operator: Forward, value: ArrayLike, noise_scale: float | ArrayLike
) -> LaplaceObservation:
    """Double-exponential errors of **standard deviation** `noise_scale`."""
    o = _data(operator, value)
    return LaplaceObservation(_forward(operator), o, _scale(noise_scale, operator, o))


def poisson(
    operator: Forward,
    value: ArrayLike,
    *,
    exposure: float | ArrayLike = 1.0,
    background: float | ArrayLike = 0.0,
) -> PoissonObservation:
    r"""Counts, :math:`o \sim Poisson(exposure \cdot A x + background)`.

    Where a rate is negative there is no law, and no likelihood: walks reject such places and count
    them. A `background` above zero keeps them away.

    Raises
    ------
    InvalidArgumentError
        Data that are not whole numbers from 0 on.
    """
    o = _data(operator, value)
    exposure = _each(_positive(exposure, "exposure", o.dtype), "exposure", operator, o)
    background = _each(as_floats("background", background, o.dtype), "background", operator, o)
    if not isinstance(background, Tracer) and not np.all(background >= 0):
        raise InvalidArgumentError(f"background must not be negative; got {background.min()}.")
    observation = PoissonObservation(_forward(operator), o, exposure, background)
    observation.check_value(o)
    return observation


def bernoulli(
    operator: Forward,
    value: ArrayLike,
    *,
    noise_scale: float | ArrayLike = 1.0,
    link: str = "probit",
) -> BernoulliObservation:
    r"""Signs of noisy looks, :math:`o = 1[A x + \tau\,\xi > 0]`.

    Parameters
    ----------
    operator, value
        Zeros and ones.
    noise_scale : float or array
    link : "probit" or "logit"
        Normal or logistic noise.
    """
    o = _data(operator, value)
    if link not in ("probit", "logit"):
        raise InvalidArgumentError(f'link must be "probit" or "logit"; got {link!r}.')
    observation = BernoulliObservation(
        _forward(operator), o, _scale(noise_scale, operator, o), link
    )
    observation.check_value(o)
    return observation


def likelihood(
    function: Callable[[Array, Array], Scalar],
    value: ArrayLike,
    operator: Forward,
    *,
    sampler: Callable[[PRNGKey, Array], Array] | None = None,
) -> LikelihoodObservation:
    """Any log likelihood, ``function(operator(x), o) -> scalar``.

    Parameters
    ----------
    function : callable
        JAX code; the same function object compiles once.
    value : array
    operator : LinearOperator, or a function of one event
    sampler : callable, optional
        ``(rng_key, operator(x)) -> o``, for `Observation.simulate`.
    """
    o = _data(operator, value)
    if not callable(function) or isinstance(function, LinearOperator):
        raise InvalidArgumentError(
            f"function must be (seen, o) -> log likelihood; got {type(function).__name__}."
        )
    if isinstance(operator, LinearOperator):
        out = jax.eval_shape(function, jax.ShapeDtypeStruct(operator.out_shape, o.dtype), o)
        if out.shape != ():
            raise EventShapeError(f"function must return one number; got shape {out.shape}.")
    return LikelihoodObservation(_forward(operator), o, function, sampler)


def check_observation(observation: object) -> None:
    """An observation, and not its data alone."""
    if not isinstance(observation, Observation):
        raise InvalidArgumentError(
            "observation must be made by neb_ppl.inverse.gaussian(operator, value, noise_scale) "
            f"or one of its kin; got {type(observation).__name__}."
        )


def _forward(operator: Any) -> Any:
    """The operator as a pytree; functions stay functions."""
    if isinstance(operator, LinearOperator):
        return operator
    if not callable(operator):
        raise InvalidArgumentError(
            "operator must be a LinearOperator (neb_ppl.inverse.identity, mask, blur, "
            f"from_matrix, ...) or a function of one event; got {type(operator).__name__}."
        )
    if jax.tree_util.all_leaves([operator]):
        return jax.tree_util.Partial(operator)
    return operator


def _data(operator: Any, o: Any) -> Array:
    """o as finite floats in the operator's output shape."""
    if isinstance(o, LinearOperator):
        raise InvalidArgumentError(
            f"value is an operator, {o!r}; expected the data. Are operator and value swapped?"
        )
    o = as_floats("value", o)
    if isinstance(operator, LinearOperator):
        o = operator.select(o)
        if o.shape != operator.out_shape:
            raise EventShapeError(
                f"value has shape {o.shape}; {operator!r} gives {operator.out_shape}."
            )
    if not isinstance(o, Tracer) and not np.isfinite(o).all():
        raise NonFiniteDataError(
            f"value holds {int((~np.isfinite(o)).sum())} numbers that are not finite. Leave them "
            "out: with neb_ppl.inverse.mask, or of a matrix by dropping its rows."
        )
    return o


def _scale(noise_scale: Any, operator: Any, o: Array) -> Array:
    return _each(_positive(noise_scale, "noise_scale", o.dtype), "noise_scale", operator, o)


def _each(numbers: Array, name: str, operator: Any, o: Array) -> Array:
    """One number, or one for each output; a mask picks its own of a whole event's."""
    if numbers.ndim > 0 and isinstance(operator, LinearOperator):
        numbers = operator.select(numbers)
    if numbers.shape not in ((), o.shape):
        raise EventShapeError(
            f"{name} must be a number or have the shape of value, {o.shape}; got {numbers.shape}."
        )
    return numbers


def _positive(number: Any, name: str, dtype: Any) -> Array:
    if isinstance(number, str | bytes) or number is None:
        raise InvalidArgumentError(f"{name} must be a positive number; got {number!r}.")
    array = as_floats(name, number, dtype)
    if not isinstance(array, Tracer) and not (np.isfinite(array).all() and np.all(array > 0)):
        square = array.ndim == 2 and array.shape[0] == array.shape[1]
        hint = " A covariance is given as noise_covariance=." if square else ""
        raise InvalidArgumentError(f"{name} must be positive and finite; got {number}.{hint}")
    return array
