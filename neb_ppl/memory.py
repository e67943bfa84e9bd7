"""NEBULA: a smoothed energy as an associative memory, whose memories are its attractors."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_positive
from neb_ppl.data import check_data
from neb_ppl.descent import curvature_at, descend
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.neural import check_one_level, check_trained
from neb_ppl.energies.scale import warn_of_units
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.estimators import bayes_estimator
from neb_ppl.geometry import chi
from neb_ppl.progress import progress
from neb_ppl.types import Array, ArrayLike, Bool, Event, Float, Scalar

__all__ = ["Memories", "Recall", "memories", "recall"]

TOLERANCE = 0.01  # places, in sigma
MERGE = 0.1
FLOW = 1e-2  # gradients times sigma: where the flow hands over to L-BFGS, and where that ends
POLISHED = 1e-5
POLISH_STEPS = 200
NEWTON_STEPS, NEWTON_PRODUCTS = 2, 200
ERROR = 1e-4  # of a step of the flow, in sigma
LONGEST = 1e4
MAX_STEPS = 4_000
BATCH, FEW = 16, 4  # starts that wait for one another; other numbers are filled up to these


class Recall(NamedTuple):
    r"""Where the flow from each start ends.

    Attributes
    ----------
    memory : array, shape ``(n, *event)``
    energy : array, shape ``(n,)``
    curvature : array, shape ``(n,)``
        Smallest eigenvalue of the Hessian, times sigma squared: at most 1 for a true smoothed
        density, below 0 at a saddle. Beyond 128 dimensions Lanczos's, which is not below the true.
    error : array, shape ``(n,)``
        How far the minimum may be, in sigma: :math:`\sigma |\nabla\phi|` over `curvature`, by
        the quadratic there; infinite where the curvature is not positive.
    time : array, shape ``(n,)``
        Of the flow, in units in which the Bayes estimator is one Euler step away.
    converged : bool array, shape ``(n,)``
        A minimum, and its place known to the tolerance.
    """

    memory: Float[Array, "n *event"]
    energy: Float[Array, " n"]
    curvature: Float[Array, " n"]
    error: Float[Array, " n"]
    time: Float[Array, " n"]
    converged: Bool[Array, " n"]


def recall(
    energy: SmoothedEnergy,
    y: ArrayLike,
    *,
    method: str = "flow",
    tolerance: float = TOLERANCE,
    progress_bar: bool = True,
) -> Recall:
    r"""Follow the gradient flow from every start to its attractor.

    .. math:: \frac{dy}{dt} = -\sigma^2 \nabla\phi(y) = \hat x(y) - y

    Parameters
    ----------
    energy : SmoothedEnergy
    y : array, shape ``(n, *event)``
        Starts: corrupted events, data, noise.
    method : "flow" or "robbins"
        The flow itself, by an adaptive Runge-Kutta method of order 5; or the jump iterated,
        :math:`y \leftarrow \hat x(y)`: the flow in Euler steps of length 1. L-BFGS and Newton's
        method find the last digits of both, from where :math:`\sigma |\nabla\phi|` is .01.
    tolerance : float
        On `Recall.error`: a distance, in sigma.
    progress_bar : bool

    Returns
    -------
    Recall

    Raises
    ------
    NotAnEnergyError, EventShapeError, NonFiniteDataError
    InvalidArgumentError
        Another method, or an energy that was not trained.

    Warns
    -----
    DataRangeWarning
        Starts far outside the range that the energy was trained on.

    Notes
    -----
    Needs ``pip install "neb-ppl[memory]"`` for the flow (diffrax). Cost: ten to thousands of
    gradients a start, as one over its flattest direction's curvature; for the curvature d Hessian
    products up to 128 dimensions, 40 beyond. A start within about .01 over the curvature of the
    ridge between two basins may end on the ridge, a saddle, or beyond it.

    References
    ----------
    Saremi and Hyvaerinen, "Neural Empirical Bayes" (2019): NEBULA. Robbins (1956) for the jump.
    """
    return _recall(energy, y, method, tolerance, progress_bar, name="y")


def _recall(
    energy: SmoothedEnergy,
    y: ArrayLike,
    method: str,
    tolerance: float,
    progress_bar: bool,
    name: str,
) -> Recall:
    check_one_level(energy, "recall from")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}: a score alone has no attractors to speak of, "
            "since it may turn in circles. Use an energy."
        )
    check_trained(energy)
    if method not in ("flow", "robbins"):
        raise InvalidArgumentError(f'method must be "flow" or "robbins"; got {method!r}.')
    check_positive(tolerance=tolerance)
    starts = jnp.asarray(check_data(y, energy.event_shape, name=name), jnp.result_type(float))
    warn_of_units(energy, starts, name=name)
    follow = _flow if method == "flow" else _robbins
    size, parts = FEW if len(starts) <= FEW else BATCH, []
    with progress(len(starts), "recall", show=progress_bar, unit="start") as bar:
        for first in range(0, len(starts), size):
            rows = starts[first : first + size]
            padded = jnp.concatenate([rows, jnp.repeat(rows[:1], size - len(rows), axis=0)])
            ends = follow(energy, padded, jnp.asarray(tolerance, starts.dtype))
            parts.append(jax.tree.map(lambda leaf: leaf[: len(rows)], ends))  # noqa: B023
            bar.update(len(rows))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@dataclasses.dataclass(frozen=True)
class Memories:
    """The minima that a set of starts flows to.

    Attributes
    ----------
    y : array, shape ``(k, *event)``
        One for each, the largest basin first.
    basins : array, shape ``(k,)``
        Share of the starts that end there.
    energy, curvature : arrays, shape ``(k,)``
        As in `Recall`.
    error : array, shape ``(k,)``
        As in `Recall`: the largest of the starts that end there.
    owner : int array, shape ``(n,)``
        Which attractor each start flows to; -1 where it ended at no minimum that can be told: a
        saddle, a flat valley, an unfinished flow.
    distance : array, shape ``(k,)``, or None
        To the nearest point of the data, over sigma times the root of the event's size.
    nearest : int array, shape ``(k,)``, or None
        Which point that is.
    """

    y: np.ndarray
    basins: np.ndarray
    energy: np.ndarray
    curvature: np.ndarray
    error: np.ndarray
    owner: np.ndarray
    distance: np.ndarray | None
    nearest: np.ndarray | None

    def __len__(self) -> int:
        return len(self.y)

    def __str__(self) -> str:
        lost = int((self.owner < 0).sum())
        lines = [
            f"{len(self)} attractors of {len(self.owner)} starts; the largest basin holds "
            f"{self.basins.max(initial=0):.1%}"
        ]
        if self.distance is not None and len(self):
            lines.append(
                f"distance to the data: median {np.median(self.distance):.3g}, largest "
                f"{self.distance.max():.3g} radii of the noise"
            )
        if lost:
            lines.append(
                f"{lost} starts ended at no minimum that can be told (a saddle, a flat valley, an "
                "unfinished flow): they are in no basin"
            )
        return "\n".join(lines)


def memories(
    energy: SmoothedEnergy,
    starts: ArrayLike,
    data: ArrayLike | None = None,
    *,
    method: str = "flow",
    tolerance: float = TOLERANCE,
    merge: float = MERGE,
    progress_bar: bool = True,
) -> Memories:
    r"""The distinct attractors of many starts, with their basins.

    Parameters
    ----------
    energy : SmoothedEnergy
    starts : array, shape ``(n, *event)``
        From data: whose memories there are. From data + noise or noise: how large basins are.
    data : array, shape ``(m, *event)``, optional
        To which distances are told: memories far from all are "creative".
    method : "flow" or "robbins"
    tolerance : float
        As in `recall`.
    merge : float
        Ends closer than this, in sigma, are one attractor; at least twice the tolerance.
    progress_bar : bool

    Returns
    -------
    Memories

    Raises
    ------
    NotAnEnergyError, EventShapeError, NonFiniteDataError, InvalidArgumentError
        As `recall`; a `merge` that is too small.

    Warns
    -----
    DataRangeWarning
        As `recall`.
    """
    check_positive(merge=merge, tolerance=tolerance)
    if merge < 2 * tolerance:
        raise InvalidArgumentError(
            f"merge must be at least twice the tolerance, {tolerance}, or one attractor may count "
            f"as two; got {merge}."
        )
    points = None if data is None else check_data(data, energy.event_shape, name="data")
    found = _recall(energy, starts, method, tolerance, progress_bar, name="starts")
    ends = np.asarray(found.memory, np.float64).reshape(len(found.memory), -1)
    first, owner = _merged(ends, np.asarray(found.converged), merge * float(energy.sigma))
    count = np.bincount(owner[owner >= 0], minlength=len(first))
    order = np.argsort(-count, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = first[order]
    error = np.zeros(len(first))
    np.maximum.at(error, owner[owner >= 0], np.asarray(found.error)[owner >= 0])
    distance = nearest = None
    if points is not None:
        distance, nearest = _nearest(np.asarray(found.memory)[kept], points, float(energy.sigma))
    return Memories(
        np.asarray(found.memory)[kept],
        count[order] / len(ends),
        np.asarray(found.energy)[kept],
        np.asarray(found.curvature)[kept],
        error[order],
        np.append(rank, -1)[owner],
        distance,
        nearest,
    )


def _merged(ends: np.ndarray, good: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """First end of each attractor, and the attractor of each end."""
    first: list[int] = []
    owner = np.full(len(ends), -1)
    for i in np.flatnonzero(good):
        gaps = np.linalg.norm(ends[first] - ends[i], axis=1) if first else np.empty(0)
        if len(gaps) and gaps.min() < radius:
            owner[i] = gaps.argmin()
        else:
            owner[i] = len(first)
            first.append(int(i))
    return np.array(first, int), owner


def _nearest(y: np.ndarray, points: ArrayLike, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each memory to the nearest point, in radii of the noise, and which that is."""
    gaps = [2 * np.asarray(chi(one[None], points))[0] / sigma for one in y]
    return np.array([gap.min() for gap in gaps]), np.array([gap.argmin() for gap in gaps], int)


def _norm(y: Event) -> Scalar:
    return jnp.sqrt(jnp.sum(y**2))


def _finish(energy: SmoothedEnergy, y: Event, time: Scalar, tolerance: Scalar) -> Recall:
    """Down to the bottom of the basin that the flow has found, and what is known of it."""
    # `descend` takes the root of the mean square.
    y = descend(energy, y, POLISH_STEPS, POLISHED / math.sqrt(y.size)).y
    y = jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, y: _newton(energy, y), y)
    size, curvature = energy.sigma * _norm(energy.score(y)), curvature_at(energy, y)[0]
    error = jnp.where(curvature > 0, size / jnp.where(curvature > 0, curvature, 1.0), jnp.inf)
    return Recall(y, energy(y), curvature, error, time, error <= tolerance)


def _newton(energy: SmoothedEnergy, y: Event) -> Event:
    """A step of Newton's, by conjugate gradients, where it is short and lowers the gradient.

    In a flat valley rounding of the energy ends a descent long before rounding of its gradient.
    """
    gradient, product = jax.linearize(jax.grad(energy), y)
    step, _ = jax.scipy.sparse.linalg.cg(product, gradient, maxiter=NEWTON_PRODUCTS, tol=1e-3)
    good = (_norm(step) < energy.sigma) & (_norm(energy.score(y - step)) < _norm(gradient))
    return jnp.where(good, y - step, y)


@jax.jit
def _flow(energy: SmoothedEnergy, starts: Array, tolerance: Scalar) -> Recall:
    diffrax = _diffrax()

    def one(y: Event) -> Recall:
        solved = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, energy: bayes_estimator(energy, y) - y),
            diffrax.Tsit5(),
            t0=0.0,
            t1=LONGEST,
            dt0=0.1,
            y0=y,
            args=energy,
            # Errors well below where it stops, or stiff directions would keep it from stopping.
            stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=ERROR * energy.sigma),
            event=diffrax.Event(
                diffrax.steady_state_event(rtol=0.0, atol=FLOW * energy.sigma, norm=_norm)
            ),
            max_steps=MAX_STEPS,
            throw=False,
        )
        return _finish(energy, solved.ys[-1], solved.ts[-1], tolerance)

    return jax.lax.map(one, starts, batch_size=BATCH)


@jax.jit
def _robbins(energy: SmoothedEnergy, starts: Array, tolerance: Scalar) -> Recall:
    def one(y: Event) -> Recall:
        def goes_on(carry: tuple) -> Array:
            _, gap, count = carry
            return (count < LONGEST) & (gap > FLOW)

        def jump(carry: tuple) -> tuple:
            y, _, count = carry
            x = bayes_estimator(energy, y)
            return x, _norm(x - y) / energy.sigma, count + 1

        y, _, count = jax.lax.while_loop(goes_on, jump, (y, jnp.full((), jnp.inf, y.dtype), 0))
        return _finish(energy, y, jnp.asarray(count, y.dtype), tolerance)

    return jax.lax.map(one, starts, batch_size=BATCH)


def _diffrax() -> Any:
    try:
        import diffrax  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            'the flow needs diffrax: pip install "neb-ppl[memory]"; or method="robbins".'
        ) from None
    return diffrax
