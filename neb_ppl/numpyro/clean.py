"""Models that speak of the clean variable x, sampled through y."""

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer

from neb_ppl._precise import matmul
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.errors import ApproximationWarning, EventShapeError, InvalidArgumentError
from neb_ppl.estimators import bayes_estimator
from neb_ppl.inverse import LinearOperator
from neb_ppl.inverse.gram import DenseGram, DiagonalGram, KrylovGram
from neb_ppl.numpyro.distributions import SmoothedDensity
from neb_ppl.numpyro.split import SplitNormal
from neb_ppl.types import Array, ArrayLike, Event, Scalar

__all__ = ["CleanVariable", "sample_clean"]


@dataclasses.dataclass(frozen=True)
class CleanVariable:
    """A clean variable of a model: known through its smoothed y.

    Attributes
    ----------
    name : str
    y : array, shape ``(*event,)``
        The latent site that is sampled, ``name + "_y"``.
    energy : SmoothedEnergy
    looks : list
        One entry for each call of `observed`: there may be one.
    """

    name: str
    y: Event
    energy: SmoothedEnergy
    looks: list = dataclasses.field(default_factory=list, repr=False)

    def observed(
        self, noise_scale: Any, operator: LinearOperator | ArrayLike | None = None
    ) -> dist.Distribution:
        r"""The law of :math:`o = A x + \tau\,\xi`, exact although the model holds y, not x.

        .. math:: o \mid y \sim N(A y,\ \tau^2 I - \sigma^2 A A^T)

        Part of the observation's noise is read as the smoothing noise, which is possible for
        :math:`\sigma \le \tau / \|A\|`. Then o and x are independent given y, so that the jumps
        of the walk are E[x | o] in mean and, stochastic ones, x given o in law.

        Once for each x, and not in a plate: two observations share the smoothing noise of x, so
        that they are not independent given y. Stack them into one operator; n looks with the same
        operator are one look at their mean with ``noise_scale / sqrt(n)``.

        Parameters
        ----------
        noise_scale : float or scalar site, or array of the shape of o
            tau, standard deviations; an array where the rows of A are orthogonal. A latent one
            needs a prior that keeps above `smallest_noise_scale`, such as ``TruncatedNormal(0, 1,
            low=...)``: below it there is no such law, and the density is NaN, which walks reject.
        operator : LinearOperator or array, optional
            A: from `neb_ppl.inverse`, whose own numbers (a gain, the width of a periodic blur) may
            be latent; a boolean array of the event's shape, True where it is seen (o has the
            event's shape too; what it holds elsewhere is ignored, but must be finite); or a matrix
            ``(m, d)`` on the raveled event. Default: everything is seen.

        Returns
        -------
        numpyro.distributions.Distribution
            Of o: the operator's output shape, which of `inverse.mask` is the seen entries alone.
            Cost: that of A, and a Cholesky factor of (m, m) where A A^T has no structure.

        Raises
        ------
        InvalidArgumentError
            A number below sigma ||A||; a second observation, or one in a plate.
        EventShapeError
            An operator for another event.
        """
        self._look_once()
        if isinstance(operator, LinearOperator):
            return self._alone(self._through(operator, noise_scale))
        if jnp.ndim(noise_scale) > 0:
            raise InvalidArgumentError(
                f"noise_scale must be one number for all of o; got shape {jnp.shape(noise_scale)}."
            )
        low = self.smallest_noise_scale(operator)
        known = not isinstance(noise_scale, jax.Array) and not isinstance(low, Tracer)
        if known:
            self._check_scale(float(noise_scale), float(low))
        mean, matrix = self._forward(operator)
        sigma = self.energy.sigma
        if matrix is None:
            seen = True if operator is None else jnp.asarray(operator)
            variance = noise_scale**2 - sigma**2
            spread = jnp.sqrt(jnp.where(variance > 0, variance, jnp.nan))
            return self._alone(dist.Normal(mean, spread).mask(seen).to_event(mean.ndim))
        return self._alone(self._dense(mean, matrix, noise_scale))

    def smallest_noise_scale(self, operator: LinearOperator | ArrayLike | None = None) -> Scalar:
        """``sigma * ||A||``: noise scales above it are exact."""
        if isinstance(operator, LinearOperator):
            return self.energy.sigma * operator.norm()
        _, matrix = self._forward(operator)
        norm = 1.0 if matrix is None else jnp.linalg.norm(matrix, 2)
        return self.energy.sigma * norm

    @property
    def x(self) -> Event:
        """The jump from y, for likelihoods that `observed` does not cover. Approximate.

        A likelihood of the jump is the exact posterior for the law of the jumps, which is narrower
        than that of x by E[Cov(X | Y)]: an error of order sigma^2, towards too much confidence.
        """
        warnings.warn(
            f"a likelihood of the jump of {self.name!r} is over-confident, by an error of order "
            f"sigma^2: for Gaussian noise use {self.name}.observed(noise_scale, operator), which "
            "is exact; else an energy of a small sigma.",
            ApproximationWarning,
            stacklevel=2,
        )
        return bayes_estimator(self.energy, self.y)

    def _look_once(self) -> None:
        self.looks.append(1)
        if len(self.looks) > 1:
            raise InvalidArgumentError(
                f"{self.name}.observed was called twice. The smoothing noise of {self.name!r} is "
                "shared by all that is seen of it, so that two observations are not independent "
                "given y: stack them into one operator, or average repeated looks and divide "
                "noise_scale by the root of their number."
            )

    def _alone(self, law: dist.Distribution) -> dist.Distribution:
        """The same law, which refuses to be repeated in a plate."""

        def expand(batch_shape: tuple[int, ...]) -> dist.Distribution:
            if tuple(batch_shape) == law.batch_shape:
                return law
            raise InvalidArgumentError(
                f"{self.name}.observed cannot be repeated in a plate {tuple(batch_shape)}: the "
                "smoothing noise is shared. Stack the observations into one operator, or average "
                "them and divide noise_scale by the root of their number."
            )

        log_prob = law.log_prob

        def of_one(value: Any, *args: Any, **kwargs: Any) -> Any:
            if jnp.shape(value) != law.event_shape:
                raise EventShapeError(
                    f"{self.name}.observed is of data of shape {law.event_shape}; got "
                    f"{jnp.shape(value)}. Repeated looks share the smoothing noise: average them "
                    "and divide noise_scale by the root of their number."
                )
            return log_prob(jnp.asarray(value), *args, **kwargs)

        law.of_clean = self.name  # pyright: ignore[reportAttributeAccessIssue]
        law.expand = expand  # pyright: ignore[reportAttributeAccessIssue]
        law.log_prob = of_one  # pyright: ignore[reportAttributeAccessIssue]
        return law

    def _through(self, operator: LinearOperator, noise_scale: Any) -> dist.Distribution:
        if operator.in_shape != self.y.shape:
            raise EventShapeError(
                f"operator takes events {operator.in_shape}; the event is {self.y.shape}."
            )
        gram, sigma = operator.gram(), self.energy.sigma
        scale = jnp.asarray(noise_scale, self.y.dtype)
        one_each = isinstance(gram, DiagonalGram) and scale.shape == operator.out_shape
        if scale.ndim > 0 and not one_each:
            raise InvalidArgumentError(
                f"noise_scale has shape {scale.shape}; expected a number, or the output's shape "
                f"{operator.out_shape} for operators with orthogonal rows."
            )
        if isinstance(gram, KrylovGram) and isinstance(scale, Tracer):
            raise InvalidArgumentError(
                f"noise_scale cannot be latent under {operator!r}: the determinant of A A^T is "
                "unknown. Operators that can: identity, mask, downsample, fourier, a periodic "
                "blur, a gain before these, and any with at most 256 outputs."
            )
        least = self.smallest_noise_scale(operator) if scale.ndim == 0 else None
        if least is not None and not isinstance(scale, Tracer) and not isinstance(least, Tracer):
            self._check_scale(float(scale), float(least))
        if isinstance(gram, DenseGram):
            matrix = operator.matrix()
            law = self._dense(jnp.ravel(operator(self.y)), matrix, scale)
            if len(operator.out_shape) == 1:
                return law
            return dist.TransformedDistribution(
                law, dist.transforms.ReshapeTransform(operator.out_shape, (len(matrix),))
            )
        return SplitNormal(operator(self.y), gram, scale**2, -(sigma**2))

    def _dense(self, mean: Array, matrix: Array, scale: Any) -> dist.Distribution:
        """By a Cholesky factor, which is NaN below the bound."""
        identity = jnp.eye(len(matrix), dtype=mean.dtype)
        covariance = scale**2 * identity - self.energy.sigma**2 * matmul(matrix, matrix.T)
        return dist.MultivariateNormal(mean, covariance)

    def _check_scale(self, scale: float, low: float) -> None:
        if not scale > low:
            raise InvalidArgumentError(
                f"noise_scale must lie above sigma * ||A|| = {low:.4g} for {self.name!r}; "
                f"got {scale:.4g}. Use an energy of a smaller sigma."
            )

    def _forward(self, operator: ArrayLike | None) -> tuple[Array, Array | None]:
        """``A y``, and A where it is a matrix."""
        if operator is None:
            return self.y, None
        shape = jnp.shape(operator)
        if jnp.result_type(operator) == jnp.bool_:
            if shape != self.y.shape:
                raise EventShapeError(f"operator is a mask {shape}; the event is {self.y.shape}.")
            return self.y, None
        matrix = jnp.asarray(operator, self.y.dtype)
        if matrix.ndim != 2 or shape[1] != self.y.size:
            raise EventShapeError(
                f"operator has shape {shape}; expected a mask {self.y.shape} of booleans or a "
                f"matrix (m, {self.y.size}) on the raveled event."
            )
        return matmul(matrix, jnp.ravel(self.y)), matrix


def sample_clean(name: str, energy: SmoothedEnergy) -> CleanVariable:
    r"""A latent clean variable with the law that `energy` was learned from.

    Two sites: ``name + "_y"``, drawn from `SmoothedDensity`, and the deterministic ``name``, its
    Bayes estimator. Given y the rest of the model must see x through `CleanVariable.observed`.

    Parameters
    ----------
    name : str
    energy : SmoothedEnergy

    Notes
    -----
    The deterministic site has the posterior mean of x as its mean, and too small a spread. For
    draws of x: ``SmoothedDensity(energy).jump(samples[name + "_y"], rng_key)``.
    """
    y = numpyro.sample(f"{name}_y", SmoothedDensity(energy))
    assert isinstance(y, jax.Array)
    numpyro.deterministic(name, bayes_estimator(energy, y))
    return CleanVariable(name, y, energy)
