"""NEBULA: a smoothed energy as an associative memory, whose memories are its attractors."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.data import check_data
from neb_ppl.descent import descend
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.neural import check_one_level, check_trained
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.estimators import bayes_estimator, lanczos
from neb_ppl.geometry import chi, sphere_radius
from neb_ppl.progress import progress
from neb_ppl.types import Array, ArrayLike, Bool, Event, Float, Scalar

__all__ = ["Memories", "Recall", "memories", "recall"]

TOLERANCE = 1e-3
LONGEST = 1e4
MAX_STEPS = 4_000
POLISH_STEPS = 100
BATCH = 64
DENSE_SIZE = 128
LANCZOS_STEPS = 40
MERGE = 0.05
FLAT = 1e-3


class Recall(NamedTuple):
    """Where the flow from each start ends.

    Attributes
    ----------
    memory : array, shape ``(n, *event)``
    energy : array, shape ``(n,)``
    gradient_norm : array, shape ``(n,)``
        Root mean square over entries, times sigma: without units.
    curvature : array, shape ``(n,)``
        Smallest eigenvalue of the Hessian, times sigma squared: at most 1 for a true smoothed
        density, below 0 at a saddle.
    time : array, shape ``(n,)``
        Of the flow, in units in which the Bayes estimator is one Euler step away.
    converged : bool array, shape ``(n,)``
    """

    memory: Float[Array, "n *event"]
    energy: Float[Array, " n"]
    gradient_norm: Float[Array, " n"]
    curvature: Float[Array, " n"]
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
        The flow itself, by an adaptive Runge-Kutta method of order 5, with L-BFGS for its last
        digits; or the jump iterated, :math:`y \leftarrow \hat x(y)`: the flow in Euler steps of
        length 1.
    tolerance : float
        On `Recall.gradient_norm`.
    progress_bar : bool

    Returns
    -------
    Recall

    Raises
    ------
    NotAnEnergyError, EventShapeError, NonFiniteDataError
    InvalidArgumentError
        Another method, or an energy that was not trained.

    Notes
    -----
    Needs ``pip install "neb-ppl[memory]"`` for the flow (diffrax). Cost: some ten to hundreds of
    gradients a start; for the curvature d Hessian products up to 128 dimensions, 40 beyond.

    References
    ----------
    Saremi and Hyvaerinen, "Neural Empirical Bayes" (2019): NEBULA. Robbins (1956) for the jump.
    """
    check_one_level(energy, "recall from")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}: a score alone has no attractors to speak of, "
            "since it may turn in circles. Use an energy."
        )
    check_trained(energy)
    if method not in ("flow", "robbins"):
        raise InvalidArgumentError(f'method must be "flow" or "robbins"; got {method!r}.')
    if not tolerance > 0:
        raise InvalidArgumentError(f"tolerance must be positive; got {tolerance}.")
    starts = jnp.asarray(check_data(y, energy.event_shape, name="y"), jnp.result_type(float))
    follow = _flow if method == "flow" else _robbins
    parts = []
    with progress(len(starts), "recall", show=progress_bar, unit="start") as bar:
        for first in range(0, len(starts), BATCH):
            rows = starts[first : first + BATCH]
            padded = jnp.concatenate([rows, jnp.repeat(rows[:1], BATCH - len(rows), axis=0)])
            ends = follow(energy, padded, jnp.asarray(tolerance, starts.dtype))
            parts.append(jax.tree.map(lambda leaf: leaf[: len(rows)], ends))  # noqa: B023
            bar.update(len(rows))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


@dataclasses.dataclass(frozen=True)
class Memories:
    """The attractors that a set of starts flows to.

    Attributes
    ----------
    y : array, shape ``(k, *event)``
        One for each, the largest basin first.
    basins : array, shape ``(k,)``
        Share of the starts that end there.
    energy, curvature : arrays, shape ``(k,)``
        As in `Recall`.
    owner : int array, shape ``(n,)``
        Which attractor each start flows to; -1 where the flow did not converge.
    distance : array, shape ``(k,)``, or None
        To the nearest point of the data, over sigma times the root of the event's size.
    nearest : int array, shape ``(k,)``, or None
        Which point that is.
    """

    y: np.ndarray
    basins: np.ndarray
    energy: np.ndarray
    curvature: np.ndarray
    owner: np.ndarray
    distance: np.ndarray | None
    nearest: np.ndarray | None

    @property
    def is_minimum(self) -> np.ndarray:
        """Which are minima; the others are saddles, or flat."""
        return self.curvature > FLAT

    def __len__(self) -> int:
        return len(self.y)

    def __str__(self) -> str:
        lost = int((self.owner < 0).sum())
        lines = [
            f"{len(self)} attractors of {len(self.owner)} starts, {int(self.is_minimum.sum())} of "
            f"them minima; the largest basin holds {self.basins.max(initial=0):.1%}"
        ]
        if self.distance is not None and len(self):
            lines.append(
                f"distance to the data: median {np.median(self.distance):.3g}, largest "
                f"{self.distance.max():.3g} radii of the noise"
            )
        if lost:
            lines.append(f"{lost} starts did not converge: they are in no basin")
        return "\n".join(lines)


def memories(
    energy: SmoothedEnergy,
    starts: ArrayLike,
    data: ArrayLike | None = None,
    *,
    method: str = "flow",
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
        As in `recall`.
    merge : float
        Ends closer than this times :math:`\sigma \sqrt d` are one attractor.
    progress_bar : bool

    Returns
    -------
    Memories
    """
    found = recall(energy, starts, method=method, progress_bar=progress_bar)
    ends = np.asarray(found.memory, np.float64).reshape(len(found.memory), -1)
    radius = float(sphere_radius(energy.sigma, ends.shape[1]))
    first, owner = _merged(ends, np.asarray(found.converged), merge * radius)
    count = np.bincount(owner[owner >= 0], minlength=len(first))
    order = np.argsort(-count, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = first[order]
    distance = nearest = None
    if data is not None and len(kept):
        points = check_data(data, energy.event_shape, name="data")
        gaps = 2 * np.asarray(chi(np.asarray(found.memory)[kept], points)) / float(energy.sigma)
        nearest, distance = gaps.argmin(axis=1), gaps.min(axis=1)
    return Memories(
        np.asarray(found.memory)[kept],
        count[order] / len(ends),
        np.asarray(found.energy)[kept],
        np.asarray(found.curvature)[kept],
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


def _rms(y: Event) -> Scalar:
    return jnp.sqrt(jnp.mean(y**2))


def _finish(energy: SmoothedEnergy, y: Event, time: Scalar, tolerance: Scalar) -> Recall:
    size = energy.sigma * _rms(energy.score(y))
    return Recall(y, energy(y), size, _curvature(energy, y), time, size <= tolerance)


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
            stepsize_controller=diffrax.PIDController(
                rtol=1e-4, atol=0.1 * tolerance * energy.sigma
            ),
            event=diffrax.Event(
                diffrax.steady_state_event(rtol=0.0, atol=10 * tolerance * energy.sigma, norm=_rms)
            ),
            max_steps=MAX_STEPS,
            throw=False,
        )
        end = descend(energy, solved.ys[-1], POLISH_STEPS, tolerance).y
        return _finish(energy, end, solved.ts[-1], tolerance)

    return jax.lax.map(one, starts, batch_size=BATCH)


@jax.jit
def _robbins(energy: SmoothedEnergy, starts: Array, tolerance: Scalar) -> Recall:
    def one(y: Event) -> Recall:
        def goes_on(carry: tuple) -> Array:
            _, gap, count = carry
            return (count < LONGEST) & (gap > tolerance)

        def jump(carry: tuple) -> tuple:
            y, _, count = carry
            x = bayes_estimator(energy, y)
            return x, _rms(x - y) / energy.sigma, count + 1

        y, _, count = jax.lax.while_loop(goes_on, jump, (y, jnp.full((), jnp.inf, y.dtype), 0))
        return _finish(energy, y, jnp.asarray(count, y.dtype), tolerance)

    return jax.lax.map(one, starts, batch_size=BATCH)


def _curvature(energy: SmoothedEnergy, y: Event) -> Scalar:
    """Smallest eigenvalue of sigma^2 times the Hessian; by Lanczos one not below it."""
    _, product = jax.linearize(jax.grad(energy), y)

    def flat(v: Float[Array, " d"]) -> Float[Array, " d"]:
        return energy.sigma**2 * jnp.ravel(product(v.reshape(y.shape)))

    if y.size <= DENSE_SIZE:
        hessian = jax.vmap(flat)(jnp.eye(y.size, dtype=y.dtype))
        return jnp.linalg.eigvalsh(0.5 * (hessian + hessian.T))[0]
    start = jax.random.normal(jax.random.key(0), (y.size,), y.dtype)
    return lanczos(flat, start, LANCZOS_STEPS)[0][0]


def _diffrax() -> Any:
    try:
        import diffrax  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            'the flow needs diffrax: pip install "neb-ppl[memory]"; or method="robbins".'
        ) from None
    return diffrax
