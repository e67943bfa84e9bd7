"""Whether a score is the gradient of something: its Jacobian, and its work around loops."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_positive
from neb_ppl.data import check_data
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.energies.neural import check_one_level
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Array, ArrayLike, Event, PRNGKey, Scalar

__all__ = ["Asymmetry", "Circulation", "asymmetry", "circulation"]

MIN_POINTS = 8


class Asymmetry(NamedTuple):
    r"""How far the Jacobian J of a score is from symmetric.

    Attributes
    ----------
    ratio : float
        :math:`\lVert J - J^T \rVert_F / \lVert J + J^T \rVert_F`, root of the ratio of mean
        squares over places and probes: 0 for a gradient, about 1 for a random matrix, infinite
        for an antisymmetric one. A constant score, whose J is 0, is a gradient: 0.
    standard_error : float
        Over places, the probes' included; infinite where the ratio is.
    """

    ratio: float
    standard_error: float


class Circulation(NamedTuple):
    """Work of a score around loops, in nats.

    Attributes
    ----------
    work : array, shape ``(n,)``
    error : array, shape ``(n,)``
        How far the work is from that by every second point of the loop, beside rounding. A work
        below its error means nothing: take more points, or a smaller radius.
    """

    work: np.ndarray
    error: np.ndarray


def asymmetry(
    rng_key: PRNGKey, model: SmoothedScore, y: ArrayLike, *, num_probes: int = 8
) -> Asymmetry:
    r"""The antisymmetric part of a score's Jacobian, against its symmetric part.

    Hutchinson: :math:`\lVert A \rVert_F^2 = E \lVert A v \rVert^2` over random signs v.

    Parameters
    ----------
    rng_key : key
    model : SmoothedScore
        An energy's is 0 but for rounding.
    y : array, shape ``(n, *event)``
        Places, such as ``data + noise``; at least 2.
    num_probes : int
        A forward and a backward product with J each.
    """
    y = _places(rng_key, model, y)
    check_counts(num_probes=num_probes)
    if len(y) < 2:
        raise InvalidArgumentError(f"y must hold at least 2 places; got {len(y)}.")
    odd, even = (np.asarray(a, np.float64) for a in _parts(rng_key, model, y, num_probes))
    if not even.any():
        return Asymmetry(np.inf, np.inf) if odd.any() else Asymmetry(0.0, 0.0)
    ratio = odd.mean() / even.mean()
    spread = (odd - ratio * even).std(ddof=1) / len(y) ** 0.5 / even.mean()
    root = float(np.sqrt(ratio))
    return Asymmetry(root, float(spread / (2 * max(root, 1e-12))))


def circulation(
    rng_key: PRNGKey, model: SmoothedScore, y: ArrayLike, radius: float, *, num_points: int = 64
) -> Circulation:
    r"""Work of the score around a circle through each place, in nats.

    .. math:: \oint s \cdot dl

    of `radius` in a random plane. It is what "energy" would drift by in one turn: 0 for a
    gradient. The trapezium rule is spectrally exact for fields that are smooth between its points;
    where the score bends more sharply the error says so, and a work below it means nothing.

    Parameters
    ----------
    rng_key : key
    model : SmoothedScore
    y : array, shape ``(n, *event)``
        Centres.
    radius : float
        In data units.
    num_points : int
        Scores a loop: even, and at least 8.

    Returns
    -------
    Circulation
        The work around each loop, and its error by quadrature.
    """
    y = _places(rng_key, model, y)
    check_counts(num_points=num_points)
    if y[0].size < 2:
        raise InvalidArgumentError("a loop needs two dimensions; events have one.")
    if num_points < MIN_POINTS or num_points % 2:
        raise InvalidArgumentError(
            f"num_points must be even and at least {MIN_POINTS}; got {num_points}."
        )
    check_positive(radius=radius)
    angles = 2 * jnp.pi * jnp.arange(num_points) / num_points
    keys = jax.random.split(rng_key, len(y))
    whole, half = (np.asarray(a, np.float64) for a in _work(model, keys, y, angles, radius))
    return Circulation(whole, np.abs(whole - half))


def _places(rng_key: PRNGKey, model: SmoothedScore, y: ArrayLike) -> Array:
    check_key(rng_key)
    check_one_level(model, "look at", name="model")
    if not isinstance(model, SmoothedScore):
        raise InvalidArgumentError(
            f"model must be a score or an energy; got {type(model).__name__}."
        )
    return jnp.asarray(check_data(y, model.event_shape, name="y"))


@partial(jax.jit, static_argnames="num_probes")
def _parts(
    rng_key: PRNGKey, model: SmoothedScore, y: Array, num_probes: int
) -> tuple[Array, Array]:
    """Mean squares of ``(J - J^T) v`` and ``(J + J^T) v`` at each place."""

    def at(arguments: tuple) -> tuple[Scalar, Scalar]:
        key, y = arguments
        _, back = jax.vjp(model.score, y)

        def probe(v: Event) -> tuple[Scalar, Scalar]:
            forward = jax.jvp(model.score, (y,), (v,))[1]
            (backward,) = back(v)
            return jnp.sum((forward - backward) ** 2), jnp.sum((forward + backward) ** 2)

        odd, even = jax.vmap(probe)(jax.random.rademacher(key, (num_probes, *y.shape), y.dtype))
        return jnp.mean(odd), jnp.mean(even)

    return jax.lax.map(at, (jax.random.split(rng_key, len(y)), y))


@jax.jit
def _work(
    model: SmoothedScore, keys: PRNGKey, y: Array, angles: Array, radius: float
) -> tuple[Array, Array]:
    """Work around each loop by all of the angles, and by every second."""

    def around(arguments: tuple) -> tuple[Scalar, Scalar]:
        key, y = arguments
        plane, _ = jnp.linalg.qr(jax.random.normal(key, (y.size, 2), y.dtype))
        a, b = (axis.reshape(y.shape) for axis in plane.T)

        def power(angle: Scalar) -> Scalar:
            place = y + radius * (jnp.cos(angle) * a + jnp.sin(angle) * b)
            along = radius * (-jnp.sin(angle) * a + jnp.cos(angle) * b)
            return jnp.vdot(model.score(place), along)

        powers = 2 * jnp.pi * jax.vmap(power)(angles)
        return jnp.mean(powers), jnp.mean(powers[::2])

    return jax.lax.map(around, (keys, y))
