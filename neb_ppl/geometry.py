r"""Geometry of smoothed data: the spheres on which the noise concentrates, and when they overlap.

In d dimensions ``y = x_i + sigma * noise`` lies near the i-sphere, the sphere of radius
:math:`\sigma \sqrt d` around :math:`x_i`. Source: Saremi and Hyvarinen (2019).
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl._checks import as_numbers, check_counts
from neb_ppl._precise import matmul
from neb_ppl.data.checks import check_data
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.types import Array, Float, PRNGKey

__all__ = [
    "OverlapGraph",
    "SigmaSuggestion",
    "chi",
    "critical_sigma",
    "median_chi",
    "overlap_graph",
    "sphere_radius",
    "sphere_thickness",
    "suggest_sigma",
]

MAX_PAIRS = 2**27
NUM_POINTS = 3_000
MIN_DIMENSIONS = 16
MANY_DIMENSIONS = 1_000
BLOCK_SIZE = 1_024


class SigmaSuggestion(NamedTuple):
    """A value of sigma and why.

    Attributes
    ----------
    sigma : float
        In data units.
    critical_sigma : float
        `critical_sigma` of the data.
    fraction : float
        ``sigma / critical_sigma``.
    reason : str
        The same in words.
    """

    sigma: float
    critical_sigma: float
    fraction: float
    reason: str


def sphere_radius(sigma: float | Array, event_size: int) -> float | Array:
    r"""Radius of the i-spheres, :math:`\sigma \sqrt d`.

    Parameters
    ----------
    sigma : float or array
        Data units.
    event_size : int
        d, how many numbers one event has.

    Returns
    -------
    float or array, like `sigma`
        Data units.
    """
    check_counts(event_size=event_size)
    if not isinstance(sigma, Tracer):
        values = as_numbers("sigma", sigma)
        if not np.all(np.isfinite(values) & (values > 0)):
            raise InvalidArgumentError(f"sigma must be positive and finite; got {sigma}.")
    return sigma * math.sqrt(event_size)


def sphere_thickness(sigma: float, event_size: int) -> float:
    r"""Standard deviation of the noise's norm: how sharp an i-sphere is.

    .. math:: \sigma \sqrt{d - 2\, \Gamma(\tfrac{d+1}{2})^2 / \Gamma(\tfrac d2)^2}
              \to \sigma / \sqrt 2

    which does not grow with d, while the radius does.

    Parameters
    ----------
    sigma, event_size
        As in `sphere_radius`.
    """
    radius = float(sphere_radius(sigma, event_size))
    if event_size > MANY_DIMENSIONS:  # the difference below would cancel; the next term is 1e-9
        return sigma * math.sqrt(0.5 - 1 / (8 * event_size) - 1 / (16 * event_size**2))
    ratio = math.exp(2 * (math.lgamma((event_size + 1) / 2) - math.lgamma(event_size / 2)))
    return math.sqrt(radius**2 - 2 * sigma**2 * ratio)


class OverlapGraph(NamedTuple):
    """Which spheres of noise overlap, and what they join.

    Attributes
    ----------
    index : int array, shape ``(n,)``
        The points it is of, where only some were taken.
    labels : int array, shape ``(n,)``
        Component of each: points joined by a chain of overlapping spheres.
    degree : int array, shape ``(n,)``
        With how many others each overlaps.
    connecting_sigma : float
        Beyond it all points are one component: the longest edge of the minimum spanning tree.
    """

    index: np.ndarray
    labels: np.ndarray
    degree: np.ndarray
    connecting_sigma: float

    @property
    def num_components(self) -> int:
        """How many parts the data fall into."""
        return int(self.labels.max()) + 1


def overlap_graph(
    x: Any, sigma: float, *, num_points: int = NUM_POINTS, rng_key: PRNGKey | None = None
) -> OverlapGraph:
    r"""Points joined where their i-spheres overlap, :math:`\chi_{ij} \le \sigma`.

    Where it falls into parts, no noise leads from one to another: a walk on the exact energy
    crosses seldom, and a learned one does not know their weights. That points are joined says less:
    two alone at :math:`\chi_{ij} = \sigma` have a barrier of about d / 2 nats between them, and are
    one basin only where their distance is below :math:`2 \sigma`.

    Parameters
    ----------
    x : array, shape ``(n, *event)``
    sigma : float
        In data units.
    num_points, rng_key
        As in `critical_sigma`. Memory: a matrix of ``num_points**2`` numbers.
    """
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    sphere_radius(sigma, 1)
    index, points = _subset(x, num_points, rng_key)
    distances = np.asarray(chi(points), np.float64)
    # Points that are one and the same still have an edge: zeros would be none.
    tree = minimum_spanning_tree(np.maximum(distances, np.finfo(float).tiny))
    near = (distances <= sigma) & ~np.eye(len(points), dtype=bool)
    _, labels = connected_components(near, directed=False)
    return OverlapGraph(index, labels, near.sum(axis=1), float(tree.data.max()))


def chi(
    x: Float[Array | np.ndarray, "n ..."],
    z: Float[Array | np.ndarray, "m ..."] | None = None,
    *,
    block_size: int = BLOCK_SIZE,
) -> Float[Array, "n m"]:
    r"""The sigma at which two i-spheres come to touch, for all pairs.

    .. math:: \chi_{ij} = \|x_i - z_j\| / (2 \sqrt d)

    Parameters
    ----------
    x : array, shape ``(n, *event)``
    z : array, shape ``(m, *event)``, optional
        Default: x itself; the diagonal is then exactly zero.
    block_size : int
        Rows worked on at a time.

    Returns
    -------
    array, shape ``(n, m)``
        Data units.

    Raises
    ------
    EventShapeError
        If the events of x and z differ in shape.
    InvalidArgumentError
        If n m exceeds 2^27 (half a gigabyte): `critical_sigma` and `median_chi` need no matrix.

    Notes
    -----
    Squared distances come from a matrix product of centred data. In float32 they are right to
    about 1e-6 of the squared spread of the data, so a pair much nearer than 1e-3 of the spread is
    known to be near and not how near. Cost: n m d multiplications.
    """
    x = jnp.asarray(x)
    other = x if z is None else jnp.asarray(z)
    _check_pairs(x, other, block_size)
    result = _chi_matrix(x, other, jnp.mean(x, axis=0, keepdims=True), block_size)
    return jnp.fill_diagonal(result, 0.0, inplace=False) if z is None else result


def critical_sigma(
    x: Any, *, num_points: int = NUM_POINTS, rng_key: PRNGKey | None = None
) -> float:
    r"""The sigma beyond which all i-spheres overlap.

    .. math:: \sigma_c = \max_{ij} \chi_{ij}

    Parameters
    ----------
    x : array, shape ``(n, *event)``
    num_points : int
        The maximum is over a random subset of so many points, all if there are fewer. It is a
        lower bound of the maximum over all pairs.
    rng_key : PRNG key, optional
        Chooses the subset. Default: always the same one.

    Returns
    -------
    float
        Data units. One outlier can set it: compare with `median_chi`.

    Notes
    -----
    Cost: ``num_points**2 * d / 2`` multiplications; memory is bounded by blocks of 1,024.
    """
    _, points = _subset(x, num_points, rng_key)
    return float(max(block.max() for block in _chi_of_pairs(points)))


def median_chi(x: Any, *, num_points: int = NUM_POINTS, rng_key: PRNGKey | None = None) -> float:
    """Median of `chi` over all pairs of distinct points; the lower middle one of an even number.

    Parameters
    ----------
    x, num_points, rng_key
        As in `critical_sigma`.

    Returns
    -------
    float
        Data units: at this sigma, half of the pairs of i-spheres overlap.

    Notes
    -----
    Cost: twice that of `critical_sigma`, in the same memory.
    """
    _, points = _subset(x, num_points, rng_key)
    rank = (len(points) * (len(points) - 1) // 2 - 1) // 2

    # Non-negative floats sort as their bits do: the upper half is selected first, then the lower.
    def halves() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block in _chi_of_pairs(points):
            bits = block.view(np.uint32)
            yield bits >> 16, bits & 0xFFFF

    upper, rank = _select(sum(_count(high) for high, _ in halves()), rank)
    lower, _ = _select(sum(_count(low[high == upper]) for high, low in halves()), rank)
    return float(np.array(upper << 16 | lower, np.uint32).view(np.float32))


def suggest_sigma(
    x: Any,
    fraction: float = 1.0,
    num_points: int = NUM_POINTS,
    *,
    rng_key: PRNGKey | None = None,
) -> SigmaSuggestion:
    """A sigma for learning and walking: a fraction of `critical_sigma`.

    Of twice `median_chi` where that is less: outliers set the former. In fewer than 16 dimensions
    noise does not concentrate on spheres: there it is a fraction of half the data's standard
    deviation, the root mean square over dimensions; near 16, look at both. No sigma promises that
    walks mix: `diagnostics.class_mixing` tells.

    Parameters
    ----------
    x : array, shape ``(n, *event)``
    fraction : float
        Below one, jumps are sharper and walks mix more slowly; above one, the reverse.
    num_points, rng_key
        As in `critical_sigma`.

    Returns
    -------
    SigmaSuggestion

    Raises
    ------
    InvalidArgumentError
        If all points are the same one, so that no sigma follows from them.
    """
    if not (isinstance(fraction, int | float | np.number) and 0 < fraction < math.inf):
        raise InvalidArgumentError(f"fraction must be positive and finite; got {fraction!r}.")
    critical = critical_sigma(x, num_points=num_points, rng_key=rng_key)
    if not (math.isfinite(critical) and critical > 0):
        raise InvalidArgumentError(
            f"x gives a critical sigma of {critical}; expected a positive number. Are all events "
            "the same, or the values extremely large? Choose sigma yourself."
        )
    size = math.prod(np.shape(x)[1:])
    if size < MIN_DIMENSIONS:
        spread = float(np.sqrt(np.asarray(x, np.float64).reshape(len(x), -1).var(axis=0).mean()))
        sigma = 0.5 * fraction * spread
        reason = (
            f"sigma = {sigma:.3g} is {fraction:.3g} times half the data's standard deviation "
            f"{spread:.3g}: in {size} dimensions the i-spheres, which touch at sigma_c = "
            f"{critical:.3g}, are no guide."
        )
        return SigmaSuggestion(sigma, critical, sigma / critical, reason)
    twice = 2 * median_chi(x, num_points=num_points, rng_key=rng_key)
    sigma = fraction * min(critical, twice)
    used = min(num_points, len(x))
    reason = (
        f"sigma = {sigma:.3g} is {sigma / critical:.3g} times sigma_c = {critical:.3g}, the sigma "
        f"at which the i-spheres of the two most distant of {used:,} points touch"
    )
    if twice < critical:
        reason += f", and {fraction:.3g} times twice the median chi: outliers set sigma_c here"
    reason += f"; {_effect(sigma / critical, size)}."
    return SigmaSuggestion(sigma, critical, sigma / critical, reason)


def _effect(fraction: float, size: int) -> str:
    if fraction < 1:
        effect = "i-spheres of the most distant points stay apart: sharp jumps, slower mixing"
    elif fraction <= 2:
        effect = "all i-spheres overlap"
    else:
        effect = "all i-spheres overlap strongly: jumps that average over many points"
    return (
        f"{effect}. A walk crosses where data lie between: two points alone, as far apart as "
        f"those, have a barrier of about {size / (2 * fraction**2):.3g} nats"
    )


def _check_pairs(x: Array, z: Array, block_size: int) -> None:
    if block_size < 1:
        raise InvalidArgumentError(f"block_size must be at least 1; got {block_size}.")
    for name, values in (("x", x), ("z", z)):
        if values.ndim == 0 or values.size == 0:
            raise InvalidArgumentError(
                f"{name} has shape {values.shape}; expected (n, *event) with at least one event."
            )
        if not jnp.issubdtype(values.dtype, jnp.floating):
            raise InvalidArgumentError(
                f"{name} has dtype {values.dtype}; expected floats in data units. Divide by the "
                f"data scale first, for example {name} / 255."
            )
    if x.shape[1:] != z.shape[1:]:
        raise EventShapeError(
            f"z has events of shape {z.shape[1:]}; expected those of x, {x.shape[1:]}."
        )
    if len(x) * len(z) > MAX_PAIRS:
        raise InvalidArgumentError(
            f"x and z make {len(x) * len(z):,} pairs; a matrix of at most {MAX_PAIRS:,} is built. "
            "Use critical_sigma or median_chi, or give fewer points."
        )


@partial(jax.jit, static_argnums=3)
def _chi_matrix(x: Array, z: Array, centre: Array, block_size: int) -> Float[Array, "n m"]:
    """The centre comes rounded: of a mean in here, compilers may fuse the division into one of the
    differences and not into the other, which moves x against z."""
    a = (x - centre).reshape(len(x), -1)
    b = (z - centre).reshape(len(z), -1)
    return jax.lax.map(lambda row: _chi_block(row[None], b)[0], a, batch_size=block_size)


@jax.jit
def _chi_block(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    product = matmul(a, b.T)
    squared = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None, :] - 2 * product
    apart = squared > 0
    # The inner `where` keeps the gradient finite where the root has none.
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)
    return distance / (2 * math.sqrt(a.shape[1]))


def _subset(
    x: Any, num_points: int, rng_key: PRNGKey | None
) -> tuple[np.ndarray, Float[Array, "n d"]]:
    """Which points were taken, and these, centred."""
    check_counts(num_points=num_points)
    if num_points < 2:
        raise InvalidArgumentError(f"num_points must be at least 2; got {num_points}.")
    x = check_data(x)
    if len(x) < 2:
        raise InvalidArgumentError("x has one event; distances need at least 2.")
    index = np.arange(len(x))
    if len(x) > num_points:
        key = jax.random.key(0) if rng_key is None else rng_key
        index = np.asarray(jax.random.permutation(key, len(x))[:num_points])
    x = x[index]
    points = jnp.asarray(x).reshape(len(x), -1)
    points = points - jnp.mean(points, axis=0, keepdims=True)
    if not jnp.isfinite(jnp.sum(points**2)):
        raise InvalidArgumentError(
            f"x holds values up to {float(np.abs(x).max()):.3g}, whose squares overflow; expected "
            "data in units of order one. Divide by their scale."
        )
    return index, points


def _chi_of_pairs(points: Float[Array, "n d"]) -> Iterator[np.ndarray]:
    """Chi of every pair i < j once, as flat float32 blocks."""
    blocks = [points[i : i + BLOCK_SIZE] for i in range(0, len(points), BLOCK_SIZE)]
    for i, a in enumerate(blocks):
        for b in blocks[i + 1 :]:
            yield np.asarray(_chi_block(a, b), np.float32).ravel()
        if len(a) > 1:
            yield np.asarray(_chi_block(a, a), np.float32)[np.triu_indices(len(a), 1)]


def _count(keys: np.ndarray) -> np.ndarray:
    return np.bincount(keys, minlength=2**16)


def _select(counts: Any, rank: int) -> tuple[int, int]:
    """The bin that holds the element of this rank, and the rank within the bin."""
    cumulative = np.cumsum(counts)
    chosen = int(np.searchsorted(cumulative, rank, side="right"))
    return chosen, rank - int(cumulative[chosen] - counts[chosen])
