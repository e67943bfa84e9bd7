"""From an energy and an observation to the posterior's energy with its matched jump."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl._checks import check_counts
from neb_ppl.energies import GaussianMixtureEnergy, NoiseConditionalEnergy
from neb_ppl.energies.base import SmoothedEnergy, check_sigma
from neb_ppl.errors import (
    ApproximationWarning,
    EventShapeError,
    InvalidArgumentError,
    NotAnEnergyError,
)
from neb_ppl.inverse.general import (
    MonteCarloPosterior,
    PluginPosterior,
    SmoothedVariablePosterior,
)
from neb_ppl.inverse.gram import DiagonalGram
from neb_ppl.inverse.linear import linear_gaussian, whiten
from neb_ppl.inverse.mixtures import (
    ProbitSplitPosterior,
    StudentTSplitPosterior,
    probit_bound,
    student_t_bound,
)
from neb_ppl.inverse.moments import IsotropicPosterior, MomentPosterior
from neb_ppl.inverse.observations import (
    BernoulliObservation,
    GaussianObservation,
    Observation,
    StudentTObservation,
    check_observation,
)
from neb_ppl.inverse.operators import LinearOperator, from_matrix
from neb_ppl.inverse.pairs import PosteriorEnergy
from neb_ppl.inverse.recalibrated import recalibrated
from neb_ppl.types import Array, ArrayLike, Scalar

__all__ = ["CLOSURES", "posterior_energy", "split_bound"]

CLOSURES = ("split", "moment", "isotropic", "plugin", "inflated", "direct", "monte_carlo")
MOMENT_SIZE = 256
SHARE_OF_BOUND = 0.9
LARGEST_SHARE = 0.99


def posterior_energy(
    energy: SmoothedEnergy | NoiseConditionalEnergy,
    observation: Observation,
    closure: str = "auto",
    *,
    sigma: float | None = None,
    num_points: int = 16,
    prior_variance: float | None = None,
    recalibration: float | ArrayLike | None = None,
) -> PosteriorEnergy:
    r"""The energy of y given data, and the jump that belongs to it, as one value.

    .. math:: \phi(y \mid o) = \phi(y) - \log p(o \mid y),
              \quad p(o \mid y) = E[\,p(o \mid X) \mid Y = y\,]

    The second factor is known in closed form in few cases; the closure says what stands for it.

    Parameters
    ----------
    energy : SmoothedEnergy, or NoiseConditionalEnergy
        The prior. With a range of noise levels, sigma is chosen below the bound of `split`.
    observation : Observation
        From `neb_ppl.inverse.gaussian` or one of its kin.
    closure : str
        - ``"split"``: exact. Gaussian noise and a linear operator, for sigma below
          :math:`\tau / \lVert A \rVert`; signs (probit) and Student-t noise with orthogonal rows.
        - ``"moment"``: Gaussian in both moments of x given y; Gaussian noise, any operator.
        - ``"isotropic"``: one variance for x given y; Gaussian noise, linear operator.
        - ``"monte_carlo"``: any likelihood, averaged over x given y.
        - ``"plugin"``: any likelihood, of the jump. Over-confident.
        - ``"inflated"``, ``"direct"``: any likelihood, of y. Too wide.
        - ``"auto"``: split where it exists, else moment up to 256 outputs, else isotropic; for
          other likelihoods monte_carlo. It warns where the choice is not exact.
    sigma : float, optional
        Which noise level of a range; default .9 of the bound, within the range.
    num_points : int
        Of ``"monte_carlo"``.
    prior_variance : float, optional
        Variance of one entry of x, for ``"isotropic"``; default the training data's.

    recalibration : float, or array of the event's shape, optional
        What stochastic jumps' deviations are multiplied with (`check_second_moment`); for split and
        inflated.

    Returns
    -------
    PosteriorEnergy
        ``.explain()`` prints target, exactness, bias, bound on sigma, and cost.

    Raises
    ------
    NotAnEnergyError
        A bare score: its posterior has no density.
    EventShapeError
        An operator for other events.
    InvalidArgumentError
        sigma above the bound of `split`, and other closures that do not fit the observation.

    References
    ----------
    Split: section on inverse problems of the documentation. Moment: Boys et al. (2023), Rozet et
    al. (2024), without the determinant; isotropic: Song et al. (2023); plugin: Chung et al. (2023).
    """
    check_observation(observation)
    if closure != "auto" and closure not in CLOSURES:
        raise InvalidArgumentError(
            f"closure must be 'auto' or one of {', '.join(CLOSURES)}; got {closure!r}."
        )
    bound = split_bound(observation)
    prior = one_level(energy, bound, sigma)
    _check_fit(prior, observation)
    if closure == "auto":
        closure = _choose(prior, observation, bound)
    if recalibration is not None:
        if closure not in ("split", "inflated"):
            raise InvalidArgumentError(
                f"recalibration is of the prior's jump, which closure={closure!r} does not use; "
                "'split' and 'inflated' do."
            )
        prior = recalibrated(prior, recalibration)
    make = {
        "split": lambda: _split(prior, observation, bound),
        "moment": lambda: _moment(prior, observation),
        "isotropic": lambda: _isotropic(prior, observation, prior_variance),
        "monte_carlo": lambda: _monte_carlo(prior, observation, num_points),
        "plugin": lambda: PluginPosterior(prior, observation),
        "inflated": lambda: _of_y(prior, observation, "inflated"),
        "direct": lambda: _of_y(prior, observation, "direct"),
    }
    return make[closure]()


def split_bound(observation: Observation) -> Scalar:
    """The sigma below which `split` exists for these data; 0 where it does for none."""
    nothing = jnp.zeros(())
    if not observation.is_linear:
        return nothing
    if isinstance(observation, GaussianObservation):
        return whiten(observation).bound()
    rows = _row_norms(observation)
    if rows is None:
        return nothing
    if isinstance(observation, BernoulliObservation) and observation.link == "probit":
        return probit_bound(observation, rows)
    if isinstance(observation, StudentTObservation):
        return student_t_bound(observation, rows)
    return nothing


def one_level(energy: Any, bound: Scalar, sigma: float | None = None) -> SmoothedEnergy:
    """The prior at one noise level: its own, the one asked for, or the best below the bound."""
    if isinstance(energy, NoiseConditionalEnergy):
        if sigma is None:
            low, high = (float(level) for level in energy.sigma_range)
            wanted = SHARE_OF_BOUND * float(bound)
            sigma = min(max(wanted, low), high) if wanted > 0 else low
        return energy.at(sigma)
    if isinstance(energy, PosteriorEnergy):
        raise InvalidArgumentError(
            "energy is a posterior already. Two observations share the smoothing noise of x: stack "
            "them into one (neb_ppl.inverse.stack) and start from the prior."
        )
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}, which has no density to multiply a likelihood "
            "with; expected an energy, such as neb_ppl.deen(...) after fit, or "
            "neb_ppl.from_energy(function, sigma)."
        )
    if sigma is None:
        return energy
    if not hasattr(energy, "at"):
        raise InvalidArgumentError(
            f"sigma can be chosen for energies of many noise levels; {type(energy).__name__} has "
            f"one, {float(energy.sigma):.4g}. Leave sigma out."
        )
    return energy.at(check_sigma(sigma))  # pyright: ignore[reportAttributeAccessIssue]


def _check_fit(prior: SmoothedEnergy, observation: Observation) -> None:
    """The operator must take events of the prior, and give what was observed."""
    shape = prior.event_shape
    operator = observation.operator
    if isinstance(operator, LinearOperator):
        if shape is not None and operator.in_shape != shape:
            raise EventShapeError(
                f"operator takes events {operator.in_shape}; the energy is of events {shape}."
            )
        return
    if shape is None:
        raise EventShapeError(
            f"{type(prior).__name__} has no event_shape: pass event_shape= where you build it."
        )
    seen = jax.eval_shape(operator, jax.ShapeDtypeStruct(shape, jnp.result_type(float)))
    if seen.shape != observation.value.shape:
        raise EventShapeError(
            f"operator gives shape {seen.shape} for events {shape}; value has shape "
            f"{observation.value.shape}."
        )


def _choose(prior: SmoothedEnergy, observation: Observation, bound: Scalar) -> str:
    """The most exact closure that fits, with a warning where it is not exact."""
    if isinstance(bound, Tracer) or isinstance(prior.sigma, Tracer):
        return "split"
    if float(prior.sigma) <= LARGEST_SHARE * float(bound):
        return "split"
    if not isinstance(observation, GaussianObservation):
        closure = "monte_carlo"
    else:
        small = observation.value.size <= MOMENT_SIZE or _event_size(prior) <= MOMENT_SIZE
        closure = "moment" if small else "isotropic"
        if not small and not observation.is_linear:
            closure = "plugin"
    limit = f"exact only for sigma below {float(bound):.4g}" if bound > 0 else "never exact here"
    warnings.warn(
        f"closure {closure!r} is an approximation: the split is {limit}, and sigma is "
        f"{float(prior.sigma):.4g}. An energy of a smaller sigma, or neb_ppl.noise_conditional, "
        "is the way to exact draws; .explain() says what this one is.",
        ApproximationWarning,
        stacklevel=3,
    )
    return closure


def _split(prior: SmoothedEnergy, observation: Observation, bound: Scalar) -> PosteriorEnergy:
    if not isinstance(bound, Tracer) and not isinstance(prior.sigma, Tracer):
        if not bound > 0:
            raise InvalidArgumentError(
                "closure='split' needs a LinearOperator with Gaussian noise, or one known to have "
                "orthogonal rows (identity, mask, downsample, fourier, weights before these) "
                f"with probit or Student-t noise; got {observation!r}. Use 'monte_carlo'."
            )
        if not float(prior.sigma) <= LARGEST_SHARE * float(bound):
            raise InvalidArgumentError(
                f"sigma is {float(prior.sigma):.4g}, and the split exists below "
                f"{float(bound):.4g} (noise_scale / ||A||). Two ways out: an energy of a smaller "
                f"sigma, such as {SHARE_OF_BOUND * float(bound):.3g} (neb_ppl.noise_conditional "
                "has a range), or closure='moment', which is approximate."
            )
    if isinstance(observation, GaussianObservation):
        return linear_gaussian(prior, observation, "split", -1.0)
    rows = _row_norms(observation)
    assert rows is not None
    if isinstance(observation, BernoulliObservation):
        return ProbitSplitPosterior(prior, observation, rows)
    assert isinstance(observation, StudentTObservation)
    return StudentTSplitPosterior(prior, observation, rows)


def _moment(prior: SmoothedEnergy, observation: Observation) -> PosteriorEnergy:
    if not isinstance(observation, GaussianObservation):
        raise InvalidArgumentError(
            f"closure='moment' needs Gaussian noise; got {observation!r}. Use 'monte_carlo'."
        )
    m, d = observation.value.size, _event_size(prior)
    if min(m, d) > MOMENT_SIZE:
        raise InvalidArgumentError(
            f"closure='moment' would need a {m} x {m} matrix and as many Hessian products a step; "
            f"at most {MOMENT_SIZE} are allowed. Use 'split' with a smaller sigma, or 'isotropic'."
        )
    constant = jnp.zeros((), observation.value.dtype)
    if not observation.is_linear:
        return MomentPosterior(prior, observation, None, constant)
    if m > d:
        observation, constant = _reduced(observation)
    return MomentPosterior(prior, observation, observation.operator.matrix(), constant)


def _reduced(observation: GaussianObservation) -> tuple[GaussianObservation, Scalar]:
    """As many outputs as x has entries say the same, but for a constant: whitened, then by QR."""
    white = whiten(observation)
    spread = jnp.sqrt(jnp.broadcast_to(white.c0, white.value.shape)).ravel()
    q, r = jnp.linalg.qr(white.operator.matrix() / spread[:, None])
    whole = jnp.ravel(white.value) / spread
    value = q.T @ whole
    rest = jnp.sum(whole**2) - jnp.sum(value**2)
    left_out = (whole.size - value.size) * jnp.log(2 * jnp.pi)
    constant = 0.5 * (rest + left_out) + jnp.sum(jnp.log(spread)) + white.constant
    operator = from_matrix(r, observation.operator.in_shape)
    return GaussianObservation(operator, value, jnp.ones((), value.dtype)), constant


def _isotropic(
    prior: SmoothedEnergy, observation: Observation, prior_variance: Any
) -> PosteriorEnergy:
    if not (isinstance(observation, GaussianObservation) and observation.is_linear):
        raise InvalidArgumentError(
            "closure='isotropic' needs Gaussian noise and a LinearOperator; got "
            f"{observation!r}. Use 'moment' or 'monte_carlo'."
        )
    if prior_variance is None:
        prior_variance = _variance(prior)
    return IsotropicPosterior(
        prior, observation, whiten(observation), check_sigma(prior_variance, "prior_variance")
    )


def _variance(prior: SmoothedEnergy) -> Any:
    """Variance of one entry of x: of the training data, or of the exact density."""
    if isinstance(prior, GaussianMixtureEnergy):
        return jnp.mean(jnp.diag(prior.covariance())) - prior.sigma**2
    scale = getattr(prior, "scale", None)
    if scale is None or not scale.is_fitted:
        raise InvalidArgumentError(
            f"prior_variance must be given: {type(prior).__name__} does not know the variance of x."
        )
    return scale.scale**2


def _monte_carlo(
    prior: SmoothedEnergy, observation: Observation, num_points: int
) -> PosteriorEnergy:
    check_counts(num_points=num_points)
    size = _event_size(prior)
    half = np.random.default_rng(0).normal(size=((num_points + 1) // 2, size))
    points = np.concatenate([half, -half])[:num_points]
    return MonteCarloPosterior(prior, observation, jnp.asarray(points, jnp.result_type(float)))


def _of_y(prior: SmoothedEnergy, observation: Observation, closure: str) -> PosteriorEnergy:
    if isinstance(observation, GaussianObservation) and observation.is_linear:
        return linear_gaussian(prior, observation, closure, 0.0)
    return SmoothedVariablePosterior(prior, observation, closure)


def _row_norms(observation: Observation) -> Array | None:
    """Squared norms of the operator's rows, where these are orthogonal."""
    gram = observation.operator.gram()
    return gram.eigenvalues if isinstance(gram, DiagonalGram) else None


def _event_size(prior: SmoothedEnergy) -> int:
    return int(np.prod(prior.event_shape or (1,), dtype=int))
