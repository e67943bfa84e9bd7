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
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import (
    ApproximationWarning,
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NotAnEnergyError,
)
from neb_ppl.estimators import DENSE_SIZE
from neb_ppl.inverse.bridge import has_levels
from neb_ppl.inverse.general import (
    MonteCarloPosterior,
    PluginPosterior,
    SmoothedVariablePosterior,
)
from neb_ppl.inverse.gram import KRYLOV_STEPS, DenseGram, DiagonalGram, KrylovGram
from neb_ppl.inverse.linear import SplitPosterior, Whitened, whiten
from neb_ppl.inverse.mixtures import (
    ProbitSplitPosterior,
    StudentTSplitPosterior,
    probit_bound,
    student_t_bound,
)
from neb_ppl.inverse.moments import IsotropicPosterior, MomentPosterior, in_noise_units
from neb_ppl.inverse.observations import (
    BernoulliObservation,
    GaussianObservation,
    Observation,
    StudentTObservation,
    check_observation,
)
from neb_ppl.inverse.operators import LinearOperator
from neb_ppl.inverse.pairs import PosteriorEnergy
from neb_ppl.inverse.recalibrated import recalibrated
from neb_ppl.types import Array, ArrayLike, Scalar

__all__ = ["CLOSURES", "posterior_energy", "split_bound"]

CLOSURES = ("split", "moment", "isotropic", "plugin", "inflated", "direct", "monte_carlo")
MOMENT_SIZE = 256
SHARE_OF_BOUND = 0.9
LARGEST_SHARE = 0.99
MANY_POINTS, FEW_POINTS = 512, 16
ORTHOGONALITY = 1e-5
UNSOLVED = 1e-3
FAR, LOUD = 5, 20


def posterior_energy(
    energy: SmoothedEnergy | NoiseConditionalEnergy,
    observation: Observation,
    closure: str = "auto",
    *,
    sigma: float | None = None,
    num_points: int | None = None,
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
    num_points : int, optional
        Of ``"monte_carlo"``, whose error falls as their root: default 512 up to 128 dimensions,
        where they share one decomposition, and 16 beyond.
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

    Warns
    -----
    ApproximationWarning
        Where ``"auto"`` is not exact, and where the equations of ``"isotropic"`` are not solved.
    DataRangeWarning
        Linear-Gaussian data 5 times as far off as events in the training data's range can give, or
        noise 20 times as large.

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
    white = _whitened(observation)
    bound = split_bound(observation) if white is None else white.bound()
    prior = one_level(energy, bound, sigma)
    _check_fit(prior, observation)
    if white is not None:
        _warn_of_units(prior, observation, white)
    if closure == "auto":
        closure = _choose(energy, prior, observation, bound)
    else:
        _refuse_unused(
            closure,
            monte_carlo=("num_points", num_points),
            isotropic=("prior_variance", prior_variance),
        )
    if recalibration is not None:
        if closure not in ("split", "inflated"):
            raise InvalidArgumentError(
                f"recalibration is of the prior's jump, which closure={closure!r} does not use; "
                "'split' and 'inflated' do."
            )
        prior = recalibrated(prior, recalibration, name="recalibration")
    make = {
        "split": lambda: _split(prior, observation, white, bound),
        "moment": lambda: _moment(prior, observation, white),
        "isotropic": lambda: _isotropic(prior, observation, white, prior_variance),
        "monte_carlo": lambda: _monte_carlo(prior, observation, num_points),
        "plugin": lambda: PluginPosterior(prior, observation),
        "inflated": lambda: SmoothedVariablePosterior(prior, observation, "inflated"),
        "direct": lambda: SmoothedVariablePosterior(prior, observation, "direct"),
    }
    return make[closure]()


def split_bound(observation: Observation) -> Scalar:
    """The sigma below which `split` exists for these data; 0 where it does for none."""
    check_observation(observation)
    nothing = jnp.zeros(())
    if not observation.is_linear:
        return nothing
    white = _whitened(observation)
    if white is not None:
        return white.bound()
    rows = _rows_to_split(observation)
    if rows is None:
        return nothing
    if isinstance(observation, BernoulliObservation):
        return probit_bound(observation, rows)
    assert isinstance(observation, StudentTObservation)
    return student_t_bound(observation, rows)


def _rows_to_split(observation: Observation) -> Array | None:
    """Squared norms of orthogonal rows, for mixtures of Gaussians, whose components then split."""
    probit = isinstance(observation, BernoulliObservation) and observation.link == "probit"
    mixture = probit or isinstance(observation, StudentTObservation)
    return _row_norms(observation) if mixture and observation.is_linear else None


def _whitened(observation: Observation) -> Whitened | None:
    """Linear-Gaussian data in white coordinates; None for others."""
    if isinstance(observation, GaussianObservation) and observation.is_linear:
        return whiten(observation)
    return None


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
    if not has_levels(energy):
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
            turned = " Is the matrix transposed?" if operator.out_shape == shape else ""
            raise EventShapeError(
                f"operator takes events {operator.in_shape}; the energy is of events {shape}."
                f"{turned}"
            )
        return
    if shape is None:
        raise EventShapeError(
            f"{type(prior).__name__} has no event_shape: pass event_shape= where you build it."
        )
    try:
        seen: Any = jax.eval_shape(operator, jax.ShapeDtypeStruct(shape, jnp.result_type(float)))
    except jax.errors.TracerArrayConversionError as error:
        raise InvalidArgumentError(
            "operator must be JAX code of one event to an array: jax.numpy, not numpy, functions. "
            f"It failed with {type(error).__name__}."
        ) from error
    if not hasattr(seen, "shape"):
        raise InvalidArgumentError(
            f"operator must return one array; got a {type(seen).__name__}. Use jnp.stack."
        )
    if seen.shape != observation.value.shape:
        raise EventShapeError(
            f"operator gives shape {seen.shape} for events {shape}; value has shape "
            f"{observation.value.shape}."
        )


def _warn_of_units(prior: SmoothedEnergy, observation: Observation, white: Whitened) -> None:
    """Data that no event near the training data's range gives, such as bytes for a prior of 0..1.

    Of such events ``|o - A shift|`` is at most ``||A|| |x - shift|``, and the noise; of noise as
    loud as bytes are, nothing is left to say of them.
    """
    scale = getattr(prior, "scale", None)
    if not isinstance(scale, DataScale):
        return
    operator, o = white.operator, white.value
    seen = jnp.linalg.norm(jnp.ravel(o - operator(jnp.full(operator.in_shape, scale.shift))))
    reach = jnp.maximum(scale.high - scale.shift, scale.shift - scale.low)
    signal = jnp.sqrt(white.gram.norm() * operator.in_size) * reach
    noise = jnp.sqrt(jnp.sum(jnp.broadcast_to(white.c0, o.shape)))
    quietest = jnp.sqrt(jnp.min(white.c0) * o.size)  # loud entries may stand for hidden ones
    far, loud = seen / (signal + noise), jnp.where(signal > 0, quietest / signal, 0.0)
    if isinstance(far, Tracer) or not (far > FAR or loud > LOUD):  # NaN before training
        return
    value = observation.value
    given = (
        f"events in the training data's range, [{float(scale.low):.4g}, {float(scale.high):.4g}], "
        "can give through this operator"
    )
    found = f"the noise is {float(loud):.3g} times as large as all that {given}"
    if far > FAR:
        found = (
            f"value, from {float(value.min()):.4g} to {float(value.max()):.4g}, is "
            f"{float(far):.3g} times as far off as {given} with this noise"
        )
    warnings.warn(
        f"{found}. Is it in other units? Bytes are divided by 255, and their noise_scale too.",
        DataRangeWarning,
        stacklevel=3,
    )


def _refuse_unused(closure: str, **settings: tuple[str, Any]) -> None:
    """Settings of another closure than the one asked for, as ``closure=(name, setting)``."""
    for its, (name, setting) in settings.items():
        if setting is not None and its != closure:
            raise InvalidArgumentError(
                f"{name} is a setting of closure={its!r}, which closure={closure!r} does not use. "
                "Leave it out."
            )


def _choose(energy: Any, prior: SmoothedEnergy, observation: Observation, bound: Scalar) -> str:
    """The most exact closure that fits, with a warning where it is not exact."""
    if isinstance(bound, Tracer) or isinstance(prior.sigma, Tracer):
        gaussian = isinstance(observation, GaussianObservation) and observation.is_linear
        return "split" if gaussian or _rows_to_split(observation) is not None else "monte_carlo"
    if float(prior.sigma) <= LARGEST_SHARE * float(bound):
        return "split"
    if not isinstance(observation, GaussianObservation):
        closure = "monte_carlo"
    else:
        small = (
            observation.value.size <= MOMENT_SIZE or _event_size(prior, observation) <= MOMENT_SIZE
        )
        closure = "moment" if small else "isotropic"
        if not small and not observation.is_linear:
            closure = "plugin"
        if closure == "moment" and observation.is_linear and _is_gaussian(prior):
            return closure
    limit, way = "no split exists here", f"The bias of {closure!r} falls with sigma"
    if bound > 0:
        limit = f"the split exists only up to sigma = {LARGEST_SHARE * float(bound):.4g}"
        way = _way_to_split(energy, SHARE_OF_BOUND * float(bound))
    warnings.warn(
        f"closure {closure!r} is an approximation: {limit}, and sigma is "
        f"{float(prior.sigma):.4g}. {way}; .explain() says what this one is.",
        ApproximationWarning,
        stacklevel=3,
    )
    return closure


def _way_to_split(energy: Any, sigma: float) -> str:
    """What to do about a prior whose noise is too much for the split."""
    wanted = f"sigma={sigma:.3g}"
    if not has_levels(energy):
        return f"The way to exact draws is a prior of {wanted} (noise_conditional has a range)"
    low = float(energy.sigma_range[0]) if isinstance(energy, NoiseConditionalEnergy) else 0.0
    if low > sigma * LARGEST_SHARE / SHARE_OF_BOUND:
        return f"The way to exact draws is a prior of {wanted}: train with a sigma_range from there"
    wanted = f"sigma={max(low, sigma):.3g}"
    return f"The way to exact draws is {wanted}, which this energy is known at"


def _is_gaussian(prior: SmoothedEnergy) -> bool:
    """A mixture of one, for which `moment` is exact."""
    return isinstance(prior, GaussianMixtureEnergy) and len(prior.log_weights) == 1


def _split(
    prior: SmoothedEnergy, observation: Observation, white: Whitened | None, bound: Scalar
) -> PosteriorEnergy:
    if not isinstance(bound, Tracer) and not isinstance(prior.sigma, Tracer):
        if not bound > 0:
            raise InvalidArgumentError(
                "closure='split' needs a LinearOperator with Gaussian noise, or one of orthogonal "
                "rows (identity, mask, downsample, fourier, weights before these, a matrix) "
                f"with probit or Student-t noise; got {observation!r}. Use 'monte_carlo'."
            )
        if not float(prior.sigma) <= LARGEST_SHARE * float(bound):
            raise InvalidArgumentError(
                f"sigma is {float(prior.sigma):.4g}, and the split exists below "
                f"{float(bound):.4g} (noise_scale / ||A||), up to {LARGEST_SHARE:.0%} of that. Two "
                "ways out: an energy of a smaller sigma, such as "
                f"{SHARE_OF_BOUND * float(bound):.3g} (neb_ppl.noise_conditional has a range), or "
                "closure='moment', which is approximate."
            )
    if white is not None:
        assert isinstance(observation, GaussianObservation)
        return SplitPosterior(prior, observation, white)
    rows = _rows_to_split(observation)
    assert rows is not None
    if isinstance(observation, BernoulliObservation):
        return ProbitSplitPosterior(prior, observation, rows)
    assert isinstance(observation, StudentTObservation)
    return StudentTSplitPosterior(prior, observation, rows)


def _moment(
    prior: SmoothedEnergy, observation: Observation, white: Whitened | None
) -> PosteriorEnergy:
    if not isinstance(observation, GaussianObservation):
        raise InvalidArgumentError(
            f"closure='moment' needs Gaussian noise; got {observation!r}. Use 'monte_carlo'."
        )
    m, d = observation.value.size, _event_size(prior, observation)
    if min(m, d) > MOMENT_SIZE:
        raise InvalidArgumentError(
            f"closure='moment' would need a {m} x {m} matrix and as many Hessian products a step; "
            f"at most {MOMENT_SIZE} are allowed. Use 'split' with a smaller sigma, or 'isotropic'."
        )
    return MomentPosterior(prior, observation, in_noise_units(observation, white))


def _isotropic(
    prior: SmoothedEnergy, observation: Observation, white: Whitened | None, prior_variance: Any
) -> PosteriorEnergy:
    if white is None:
        raise InvalidArgumentError(
            "closure='isotropic' needs Gaussian noise and a LinearOperator; got "
            f"{observation!r}. Use 'moment' or 'monte_carlo'."
        )
    if prior_variance is None:
        prior_variance = _variance(prior)
    assert isinstance(observation, GaussianObservation)
    variance = check_sigma(prior_variance, "prior_variance")
    posterior = IsotropicPosterior(prior, observation, white, variance)
    if isinstance(white.gram, KrylovGram):
        _warn_of_krylov(white.gram, white.c0, posterior.remaining, white.value)
    return posterior


def _warn_of_krylov(gram: KrylovGram, c0: Array, c1: Scalar, like: Array) -> None:
    """Try the equations on numbers of no structure."""
    r = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    solved = gram.solve(c0, c1, r)
    gap = jnp.linalg.norm(c0 * solved + c1 * gram.product(solved) - r) / jnp.linalg.norm(r)
    if isinstance(gap, Tracer) or gap <= UNSOLVED:
        return
    left = f"leave {float(gap):.1%} of" if gap < 1 else "do not solve"
    warnings.warn(
        f"conjugate gradients {left} the equations of closure='isotropic' in "
        f"{KRYLOV_STEPS} steps: the noise is too small against {float(c1) ** 0.5:.3g} ||A||. Use "
        "'split' with a smaller sigma, or 'plugin'.",
        ApproximationWarning,
        stacklevel=4,
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
    prior: SmoothedEnergy, observation: Observation, num_points: int | None
) -> PosteriorEnergy:
    size = _event_size(prior, observation)
    if num_points is None:
        num_points = MANY_POINTS if size <= DENSE_SIZE else FEW_POINTS
    check_counts(num_points=num_points)
    half = np.random.default_rng(0).normal(size=((num_points + 1) // 2, size))
    if len(half) >= 2 * size:  # exactly white, as well as of mean 0
        half = half @ np.linalg.inv(np.linalg.cholesky(half.T @ half / len(half))).T
    points = np.concatenate([half, -half])[:num_points]
    return MonteCarloPosterior(prior, observation, jnp.asarray(points, jnp.result_type(float)))


def _row_norms(observation: Observation) -> Array | None:
    """Squared norms of the operator's rows, where these are known to be orthogonal."""
    gram = observation.operator.gram()
    if isinstance(gram, DiagonalGram):
        return gram.eigenvalues
    matrix = observation.operator.matrix() if isinstance(gram, DenseGram) else None
    if matrix is None or isinstance(matrix, Tracer):
        return None
    rows = np.asarray(matrix, np.float64)
    products = rows @ rows.T
    norms = np.diag(products)
    lengths = np.sqrt(norms)
    if (np.abs(products - np.diag(norms)) > ORTHOGONALITY * np.outer(lengths, lengths)).any():
        return None
    return jnp.asarray(norms.reshape(gram.shape), matrix.dtype)


def _event_size(prior: SmoothedEnergy, observation: Observation) -> int:
    """Of the prior's events, or where it does not say, of the operator's."""
    shape = prior.event_shape
    if shape is None:
        shape = observation.operator.in_shape
    return int(np.prod(shape, dtype=int))
