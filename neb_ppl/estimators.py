"""From y back to x: the Bayes estimator, its covariance, and the jumps made of them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from neb_ppl._noise import standard_normal
from neb_ppl._precise import matmul
from neb_ppl.energies.base import (
    CleanDraw,
    ConditionedEnergy,
    SmoothedEnergy,
    SmoothedScore,
    check_event,
)
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.types import Array, Event, Float, Int, PRNGKey, Scalar

__all__ = [
    "Jump",
    "JumpNoise",
    "bayes_estimator",
    "clean_draw",
    "covariance_product",
    "covariance_root",
    "jump_noise",
    "jump_variances",
    "mean_jump",
    "posterior_covariance",
    "smooth",
    "smoothed_energies",
    "stochastic_jump",
]

DENSE_SIZE = 128
LANCZOS_STEPS = 20


class Jump(Protocol):
    """A way from y to x: ``(rng_key, model, y) -> x``, one event at a time."""

    def __call__(self, rng_key: PRNGKey, model: SmoothedScore, y: Event) -> Event:  # noqa: D102
        ...


def smooth(rng_key: PRNGKey, x: Array, sigma: float | Array) -> Array:
    """Smoothed variables ``y = x + sigma * noise``; the inverse of a jump in law.

    Parameters
    ----------
    rng_key : key
    x : array of any shape
        Floats in data units.
    sigma : float
        Standard deviation of the noise, in data units.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InvalidArgumentError(
            f"x must hold floats in data units; got dtype {x.dtype}. Divide by the data scale "
            "first, for example x / 255."
        )
    return x + jnp.asarray(sigma, x.dtype) * standard_normal(rng_key, x.shape, x.dtype)


@jax.jit
def smoothed_energies(rng_key: PRNGKey, energy: SmoothedEnergy, x: Array) -> Float[Array, " n"]:
    """Energies of ``x + sigma * noise``: what a walk's energies are judged against.

    Parameters
    ----------
    rng_key : key
    energy : SmoothedEnergy
    x : array, shape ``(n, *event)``
        Cost: n energies, a hundred at a time.
    """
    return jax.lax.map(energy, smooth(rng_key, x, energy.sigma), batch_size=100)


def bayes_estimator(model: SmoothedScore, y: Event, *, score: Event | None = None) -> Event:
    r"""Bayes estimator of the clean variable.

    .. math:: E[X | Y = y] = y + \sigma^2 \nabla_y \log p_\sigma(y)

    Of a posterior (`neb_ppl.posterior_energy`) it is the mean that belongs to the posterior.

    Parameters
    ----------
    model : SmoothedScore
    y : array, shape ``(*event,)``
    score : array, shape ``(*event,)``, optional
        The score at y where it is already known: then the jump costs nothing.

    Returns
    -------
    array, shape ``(*event,)``
        In data units. It is a posterior mean, **not** a posterior draw.

    Raises
    ------
    InvalidArgumentError, EventShapeError
        Something else than an energy or a score; a y that is not one event.

    Notes
    -----
    Cost: one gradient, or none. Source: Robbins (1956), Miyasawa (1961).
    """
    if not isinstance(model, SmoothedScore):
        raise InvalidArgumentError(
            f"model must be an energy or a score; got a {type(model).__name__}. Jumps take a key, "
            "the model, then y; a range of noise levels is asked at one: model.at(sigma)."
        )
    check_event(model, y)
    if isinstance(model, ConditionedEnergy):
        return model.clean_mean(y)
    score = model.score(y) if score is None else score
    return y + model.sigma**2 * score


def posterior_covariance(energy: SmoothedEnergy, y: Event) -> Float[Array, "d d"]:
    r"""Covariance of the clean variable given y.

    .. math:: Cov(X | Y = y) = \sigma^2 (I - \sigma^2 \nabla^2 \phi(y))

    Positive semi-definite for a true smoothed density; a learned one may violate it, which
    `jump_noise` counts. Cost: d Hessian-vector products; (d, d) numbers. Source: Miyasawa (1961).
    """
    _require_energy(energy, "posterior_covariance")
    if isinstance(energy, ConditionedEnergy):
        raise InvalidArgumentError(
            f"posterior_covariance is of X given y alone; {type(energy).__name__} is conditioned "
            "on data as well. Take its prior, or the covariance of stochastic jumps."
        )
    check_event(energy, y)
    _, _, product = covariance_product(energy, y)
    basis = jnp.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
    products = jax.vmap(lambda v: product(v).ravel())(basis)
    return 0.5 * (products + products.T)


def mean_jump(rng_key: PRNGKey, model: SmoothedScore, y: Event) -> Event:
    """The Bayes estimator as a jump. Deterministic; `rng_key` is not used.

    Its draws lack the variance of X given Y: intervals made of them are too narrow. Use
    `stochastic_jump` where uncertainty about x matters.
    """
    del rng_key
    return bayes_estimator(model, y)


def stochastic_jump(rng_key: PRNGKey, model: SmoothedScore, y: Event) -> Event:
    r"""Bayes estimator plus noise of the right covariance.

    .. math:: x = \hat x(y) + C^{1/2} \xi, \quad C = \sigma^2 (I - \sigma^2 \nabla^2 \phi(y))

    With y from the smoothed density, x has the mean and covariance of the clean variable. Give it
    to `neb_ppl.sample` as ``jump=neb_ppl.stochastic_jump``.

    Parameters
    ----------
    rng_key : key
    model : SmoothedEnergy
        A bare score has no symmetric Hessian.
    y : array, shape ``(*event,)``
        One event: batch with `jax.vmap`, over keys too.

    Notes
    -----
    Cost: see `jump_noise`, which also counts clamped eigenvalues. Outside `jax.jit` the loop of
    events beyond 128 dimensions compiles at every call: ``jax.jit(neb_ppl.stochastic_jump)``.
    """
    if not isinstance(model, SmoothedEnergy):
        raise _not_an_energy(model, "stochastic_jump")
    return clean_draw(rng_key, model, y).x


def clean_draw(
    rng_key: PRNGKey, energy: SmoothedEnergy, y: Event, *, score: Event | None = None
) -> CleanDraw:
    """`stochastic_jump` with what it clamped; `score` as in `bayes_estimator`."""
    if isinstance(energy, ConditionedEnergy):
        check_event(energy, y)
        return energy.clean_draw(rng_key, y)
    added = jump_noise(rng_key, energy, y)
    return CleanDraw(bayes_estimator(energy, y, score=score) + added.noise, *added[1:])


class JumpNoise(NamedTuple):
    """What `stochastic_jump` adds, and how far the energy is from a true smoothed density.

    Attributes
    ----------
    noise : array, shape ``(*event,)``
    num_clamped : int array
        Eigenvalues of C outside [0, inf) by more than rounding, set to zero. By Lanczos these are
        Ritz values: a lower bound of the true count.
    min_eigenvalue : scalar array
        Smallest eigenvalue (or Ritz value) of C / sigma**2 seen before clamping.
    """

    noise: Event
    num_clamped: Int[Array, ""]
    min_eigenvalue: Scalar


def jump_noise(
    rng_key: PRNGKey,
    energy: SmoothedEnergy,
    y: Event,
    *,
    dense_size: int = DENSE_SIZE,
    lanczos_steps: int = LANCZOS_STEPS,
) -> JumpNoise:
    r"""Noise of covariance :math:`C = \sigma^2 (I - \sigma^2 \nabla^2 \phi(y))`.

    Parameters
    ----------
    rng_key, energy, y
        As in `stochastic_jump`.
    dense_size : int
        Up to this many dimensions C is built and decomposed: d Hessian-vector products. Beyond
        it, Lanczos from the noise vector itself: `lanczos_steps` products, no (d, d) array.
    lanczos_steps : int

    Notes
    -----
    Lanczos source: Druskin and Knizhnerman (1989); basis fully reorthogonalised. Twenty steps leave
    a relative error of .003 in the noise where the eigenvalues of C are spread evenly, and of .024
    where they fall off fast: the smallest are then up to 1.9 times too large; 60 steps mend it.
    """
    _require_energy(energy, "jump_noise")
    check_event(energy, y)
    if isinstance(energy, ConditionedEnergy):
        drawn = energy.clean_draw(rng_key, y)
        return JumpNoise(drawn.x - energy.clean_mean(y), *drawn[1:])
    z = jax.random.normal(rng_key, (1, y.size), y.dtype)
    noise, num_clamped, lowest = covariance_root(
        energy, y, z, dense_size=dense_size, lanczos_steps=lanczos_steps
    )
    return JumpNoise(noise.reshape(y.shape), num_clamped, lowest)


def covariance_root(
    energy: SmoothedEnergy,
    y: Event,
    z: Float[Array, "k d"],
    *,
    dense_size: int = DENSE_SIZE,
    lanczos_steps: int = LANCZOS_STEPS,
) -> tuple[Float[Array, "k d"], Int[Array, ""], Scalar]:
    r""":math:`C^{1/2} z` for each row z, with what `JumpNoise` counts; see `jump_noise`."""
    unit = energy.sigma**2
    if y.size <= dense_size:
        eigenvalues, vectors = jnp.linalg.eigh(posterior_covariance(energy, y) / unit)
        root, clamped = _clamped_root(eigenvalues)
        noise = matmul(matmul(z, vectors) * root, vectors.T)
        return energy.sigma * noise, jnp.sum(clamped), jnp.min(eigenvalues)
    _, _, product = covariance_product(energy, y)

    def one(z: Float[Array, " d"]) -> tuple[Array, Array, Array]:
        # Unused rows have the eigenvalue of "no information", so as not to be counted as bad.
        eigenvalues, vectors, basis = lanczos(
            lambda v: product(v.reshape(y.shape)).ravel() / unit, z, lanczos_steps, filler=1.0
        )
        root, clamped = _clamped_root(eigenvalues)
        noise = matmul(basis.T, matmul(vectors, root * vectors[0])) * jnp.linalg.norm(z)
        return noise, jnp.sum(clamped), jnp.min(eigenvalues)

    noise, clamped, lowest = jax.vmap(one)(z)
    return energy.sigma * noise, jnp.max(clamped), jnp.min(lowest)


def jump_variances(
    energy: SmoothedEnergy, y: Event, index: Int[Array, " k"]
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Variances of entries of `jump_noise`; and of C itself, which falls below 0 where it is wrong.

    Cost: d Hessian-vector products up to 128 dimensions; beyond, 20 an entry, whose Ritz values and
    weights are Gauss's for the entry.
    """
    unit = energy.sigma**2
    if y.size <= DENSE_SIZE:
        eigenvalues, vectors = jnp.linalg.eigh(posterior_covariance(energy, y) / unit)
        squares = vectors[index] ** 2
    else:
        _, _, product = covariance_product(energy, y)

        def ritz(i: Array) -> tuple[Array, Array]:
            eigenvalues, vectors, _ = lanczos(
                lambda v: product(v.reshape(y.shape)).ravel() / unit,
                jnp.zeros(y.size, y.dtype).at[i].set(1.0),
                LANCZOS_STEPS,
            )
            return eigenvalues, vectors[0] ** 2

        eigenvalues, squares = jax.vmap(ritz)(index)
    drawn = jnp.sum(squares * jnp.maximum(eigenvalues, 0.0), axis=1)
    return unit * drawn, unit * jnp.sum(squares * eigenvalues, axis=1)


def covariance_product(
    energy: SmoothedEnergy, y: Event
) -> tuple[Scalar, Event, Callable[[Event], Event]]:
    """Energy and gradient at y, and the map ``v -> C v``: the gradient linearised once."""
    unit = energy.sigma**2
    (phi, gradient), product = jax.linearize(jax.value_and_grad(energy), y)
    return phi, gradient, lambda v: unit * (v - unit * product(v)[1])


def _clamped_root(eigenvalues: Array) -> tuple[Array, Array]:
    rounding = 1000 * jnp.finfo(eigenvalues.dtype).eps  # of a Hessian product: 5e-5 was seen
    return jnp.sqrt(jnp.maximum(eigenvalues, 0.0)), eigenvalues < -rounding


def lanczos(
    product: Callable[[Array], Array],
    start: Float[Array, " d"],
    num_steps: int,
    filler: float | None = None,
) -> tuple[Float[Array, " k"], Float[Array, "k k"], Float[Array, "k d"]]:
    """Ritz values and vectors of a symmetric map on ``(d,)``, and the (num_steps, d) basis.

    A breakdown (the Krylov space is exhausted) leaves zero rows, which change nothing; their Ritz
    value is `filler`, or the first Rayleigh quotient, which lies within the spectrum.
    """
    tiny = 10 * jnp.finfo(start.dtype).eps
    first = start / jnp.linalg.norm(start)
    basis = jnp.zeros((num_steps, start.size), start.dtype).at[0].set(first)

    def extend(carry, k):
        basis, previous, size = carry
        v = basis[k]
        w = product(v)
        alpha = jnp.dot(v, w)
        size = jnp.maximum(size, jnp.linalg.norm(w))
        for _ in range(2):
            w = w - matmul(basis.T, matmul(basis, w))
        beta = jnp.linalg.norm(w)
        alive = (beta > tiny * size) & (previous > 0)
        beta = jnp.where(alive, beta, 0.0)
        following = jnp.where(alive, w / jnp.where(alive, beta, 1.0), 0.0)
        basis = basis.at[jnp.minimum(k + 1, num_steps - 1)].add(
            jnp.where(k + 1 < num_steps, following, 0.0)
        )
        return (basis, beta, size), (alpha, beta, jnp.any(v != 0))

    carry = (basis, jnp.ones((), start.dtype), jnp.zeros((), start.dtype))
    (basis, *_), (alphas, betas, used) = jax.lax.scan(extend, carry, jnp.arange(num_steps))
    diagonal = jnp.where(used, alphas, alphas[0] if filler is None else filler)
    matrix = jnp.diag(diagonal) + jnp.diag(betas[:-1], 1) + jnp.diag(betas[:-1], -1)
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    return eigenvalues, vectors, basis


def _require_energy(model: SmoothedScore, who: str) -> None:
    if not isinstance(model, SmoothedEnergy):
        raise _not_an_energy(model, who)


def _not_an_energy(model: SmoothedScore, who: str) -> NotAnEnergyError:
    return NotAnEnergyError(
        f"{who} needs an energy (its Hessian is symmetric only then); got "
        f"{type(model).__name__}, which gives a score alone. Use mean_jump, or an energy."
    )
