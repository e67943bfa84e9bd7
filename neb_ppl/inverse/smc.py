"""From the prior at much noise down to a posterior at little: weights of modes, evidence."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_share, check_untraced
from neb_ppl.energies import NoiseConditionalEnergy
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.neural import check_trained
from neb_ppl.errors import InvalidArgumentError, WalkError
from neb_ppl.inverse.bridge import Bridge, bridge, has_levels
from neb_ppl.inverse.observations import Observation
from neb_ppl.inverse.pairs import PosteriorEnergy
from neb_ppl.inverse.particles import (
    MEMORY_WALKS,
    Particles,
    at_the_top,
    effective,
    move,
    resample,
    standard_error,
)
from neb_ppl.inverse.posterior import posterior_energy
from neb_ppl.inverse.result import draw_many
from neb_ppl.progress import progress
from neb_ppl.types import Array, Float, PRNGKey

__all__ = ["Level", "SMCResult", "annealed_start", "smc"]

CANDIDATES = 16
FIRST_STRIDE = 0.5
MAX_LEVELS = 300
FEWEST = 16  # of which four families, the fewest that tell an error, can have four each
PARTICLES = {"exact": 256, "learned": 64}  # at least; 64 know a share of one half to .06
WEIGHED_SIZE = 128  # dimensions; 64 particles of a U-Net take minutes


class Level(NamedTuple):
    """One step of the way.

    Attributes
    ----------
    u, sigma : float
        Where on the way (`Bridge`), and its noise level.
    ess : float
        Effective particles after weighing, before resampling.
    acceptance : float
        Of the moves at this level.
    """

    u: float
    sigma: float
    ess: float
    acceptance: float


@dataclasses.dataclass(frozen=True)
class SMCResult:
    """Particles at the posterior.

    Attributes
    ----------
    posterior : PosteriorEnergy
    y : array, shape ``(n, *event)``
    x : array, shape ``(n, *event)``
        Stochastic jumps from them: draws of x.
    log_evidence : float, or None
        ``log p(o)`` of the closure's likelihood, whose bias may be larger than the noise, and for
        learned priors up to their scores. Low by about half its variance where that is small. None
        where it is unknown: learned energies of one level, or whose modes stand apart at their
        highest level; operators whose determinant is unknown; data impossible at the Bayes
        estimator of a particle on the way.
    standard_error : float
        Of the log evidence, from the families of particles with one ancestor at the first level:
        .7 to 1.4 times the scatter of runs with other keys, in seven exact mixtures. From .3 on it
        says only that there should be more particles: it stays below about .5, or is infinite,
        where families count for fewer than four of one size.
    levels : list of Level
    """

    posterior: PosteriorEnergy
    y: np.ndarray
    x: np.ndarray
    log_evidence: float | None
    standard_error: float
    levels: list[Level]

    def __str__(self) -> str:
        known = "unknown"
        if self.log_evidence is not None:
            known = f"{self.log_evidence:.4g} +- {self.standard_error:.2g}"
            left_out = []
            if self.posterior.closure != "split":
                left_out.append(f"the bias of closure={self.posterior.closure!r}")
            if not self.posterior.prior.is_exact:
                left_out.append("what is wrong with the learned prior")
            known += f" up to {' and '.join(left_out)}" if left_out else ""
        worst = min(level.ess for level in self.levels)
        return (
            f"{len(self.y)} particles, {len(self.levels)} levels, smallest ESS {worst:.0f}, "
            f"log evidence {known}"
        )


def smc(
    rng_key: PRNGKey,
    energy: SmoothedEnergy | NoiseConditionalEnergy,
    observation: Observation,
    *,
    closure: str = "auto",
    sigma: float | None = None,
    num_particles: int = 512,
    num_moves: int = 3,
    target_ess: float = 0.6,
    progress_bar: bool = True,
) -> SMCResult:
    r"""Sequential Monte Carlo over the noise level.

    Particles start as draws of the prior at its highest level and follow `Bridge` to the posterior:
    weighed, resampled, moved by HMC. Levels are chosen so that each leaves about `target_ess` of
    the particles effective.

    From level to level particles are carried by the flow
    :math:`dy / d \log \sigma = y - \hat x_\sigma(y)`, which takes one level's prior to the next
    one's with the weights of its modes: weights of particles are ratios of likelihoods alone.
    Ratios of whole targets would take more levels the more dimensions there are (85 for 9 in 80),
    and ask of a learned energy what it does not know: how its constant changes, and the weights of
    modes that no data join. Of a learned prior the highest level must be one where modes are
    joined; where walks there do not forget their starts, a warning says so. A prior of one level
    carries nothing: its modes have the weights of its first particles, and of what the data say.

    Parameters
    ----------
    rng_key : key
    energy, observation, closure, sigma
        As in `posterior_energy`.
    num_particles : int
        At least 16.
    num_moves : int
        HMC steps of 8 leapfrogs at each level.
    target_ess : float
        Share of the particles, in (0, 1).
    progress_bar : bool

    Returns
    -------
    SMCResult

    Raises
    ------
    InvalidArgumentError
        Fewer particles than 16; an energy that has seen no data.
    WalkError
        No particle has a finite energy, or 300 levels do not reach the posterior.

    Notes
    -----
    Each level costs a particle 9 gradients of the bridge's energy for every move, a gradient of the
    prior to choose the level, and 2 for each .15 that log sigma falls by; for data that are not
    linear-Gaussian 19 more, and from the turn to the posterior on 19 likelihoods of its closure.
    Draws of a learned prior at its highest level are ends of 256 walks or more, of 200 steps.
    The error of the flow's steps does not fall with more particles and is not in `standard_error`:
    in three mixtures of one and two dimensions it could not be told from 0 where log evidences were
    known to .002, .014 and .003.

    Source: Del Moral, Doucet and Jasra (2006); the flow: Song et al. (2021); particles that flows
    carry, learned for the purpose: Arbel, Matthews and Doucet (2021).
    """
    check_untraced("smc", rng_key, energy, observation)
    check_key(rng_key)
    check_trained(energy)
    check_counts(num_particles=num_particles, num_moves=num_moves)
    if num_particles < FEWEST:
        raise InvalidArgumentError(
            f"num_particles must be at least {FEWEST}; got {num_particles}. Fewer know neither the "
            "evidence nor its error: the default is 512."
        )
    check_share("target_ess", target_ess)
    posterior = posterior_energy(energy, observation, closure, sigma=sigma)
    key_way, key_jump = jax.random.split(rng_key)
    particles, levels = _descend(
        key_way, energy, posterior, num_particles, num_moves, target_ess, progress_bar
    )
    keys = jax.random.split(key_jump, num_particles)
    x = draw_many(posterior, keys, particles.y).x
    known = None
    if posterior.is_normalised and has_levels(energy) and particles.sound:
        early = _energies(_moved(bridge(energy, posterior), 1.0), particles.y)
        known = float(particles.log_evidence) if np.isfinite(early).all() else None
    error = standard_error(particles)
    return SMCResult(posterior, np.asarray(particles.y), np.asarray(x), known, error, levels)


def annealed_start(
    rng_key: PRNGKey,
    energy: SmoothedEnergy | NoiseConditionalEnergy,
    posterior: PosteriorEnergy,
    num_chains: int,
    *,
    num_levels: int | None = None,
    steps_per_level: int | None = None,
    progress_bar: bool = True,
) -> Array:
    """Start positions for a walk on `posterior`, shape ``(chains, *event)``.

    A walk that starts at its own noise level can stay in the mode it falls into. Chains come down
    from much noise instead, along `Bridge`: by `smc` with at least 256 particles (64 with learned
    priors), so that modes get their weights.

    With learned priors of more than 128 dimensions, where so many would be dear, or of one level,
    where there is no flow, chains are neither weighed nor resampled: modes keep the weights that
    they had where they parted, whatever the data say then.
    Particles of `smc` (``.y``) are start positions, too.

    Parameters
    ----------
    rng_key : key
    energy : SmoothedEnergy or NoiseConditionalEnergy
        What `posterior` was made of.
    posterior : PosteriorEnergy
    num_chains : int
    num_levels, steps_per_level : int, optional
        Of chains that are not weighed, and HMC steps of 8 leapfrogs; default 10 and 10.
    progress_bar : bool

    Raises
    ------
    InvalidArgumentError
        Something that is no posterior; an energy that has seen no data; levels for particles that
        are weighed, which choose them.
    WalkError
        As in `smc`.
    """
    check_key(rng_key)
    check_trained(energy)
    if not isinstance(posterior, PosteriorEnergy):
        raise InvalidArgumentError(
            f"posterior must come from neb_ppl.posterior_energy; got {type(posterior).__name__}. "
            "The order is annealed_start(rng_key, energy, posterior, num_chains)."
        )
    check_counts(num_chains=num_chains)
    levels = {"num_levels": num_levels, "steps_per_level": steps_per_level}
    given = {name: count for name, count in levels.items() if count is not None}
    check_counts(**given)
    least = _fewest_particles(energy, posterior)
    if least and given:
        raise InvalidArgumentError(
            f"{' and '.join(given)} must be left out here: particles of this prior are weighed, "
            "and choose their levels."
        )
    if least:
        count = max(num_chains, least)
        particles, _ = _descend(rng_key, energy, posterior, count, 3, 0.6, progress_bar)
        return particles.y[np.linspace(0, count - 1, num_chains).round().astype(int)]
    return _come_down(
        rng_key, energy, posterior, num_chains, num_levels or 10, steps_per_level or 10,
        progress_bar,
    )  # fmt: skip


def _come_down(
    rng_key: PRNGKey,
    energy: Any,
    posterior: PosteriorEnergy,
    num_chains: int,
    num_levels: int,
    steps_per_level: int,
    progress_bar: bool,
) -> Array:
    """Move from level to level, neither weighed nor resampled."""
    way = bridge(energy, posterior)
    key_start, *keys = jax.random.split(rng_key, num_levels + 2)
    particles = at_the_top(key_start, way, num_chains)
    with progress(num_levels, "annealing", show=progress_bar, unit="level") as bar:
        for key, u in zip(keys, [*np.linspace(0, 1, num_levels), 2.0], strict=True):
            way = _moved(way, u)
            particles, _ = move(way, particles, key, steps_per_level)
            bar.update(1)
    return particles.y


def _descend(
    rng_key: PRNGKey,
    energy: Any,
    posterior: PosteriorEnergy,
    num_particles: int,
    num_moves: int,
    target_ess: float,
    progress_bar: bool,
) -> tuple[Particles, list[Level]]:
    """Weigh, resample, move, until the posterior is reached."""
    way = bridge(energy, posterior)
    key_start, key_levels = jax.random.split(rng_key)
    particles = at_the_top(key_start, way, num_particles, walks=MEMORY_WALKS)
    before, u, levels, stride = _moved(way, -1.0), -1.0, [], FIRST_STRIDE
    with progress(100, "annealing", show=progress_bar, unit="%") as bar:
        while u < 2.0:
            ends = _candidates(u, stride)
            left = np.asarray(effective(before, particles.y, jnp.asarray(ends)))
            chosen = _longest(left, target_ess * num_particles)
            if len(levels) == MAX_LEVELS or not np.isfinite(left[chosen]):
                raise _stopped(_moved(way, ends[chosen]), particles, levels)
            if u >= 0:  # the turn begins anew: what was left before it says nothing
                stride = FIRST_STRIDE if ends[chosen] == 1 else max(ends[chosen] - u, 1e-4)
            u = float(ends[chosen])
            way = _moved(way, u)
            key_resample, key_move = jax.random.split(jax.random.fold_in(key_levels, len(levels)))
            particles, kept = resample(before, way, particles, key_resample)
            if not np.isfinite(kept):
                raise _stopped(way, particles, levels)
            particles, acceptance = move(way, particles, key_move, num_moves)
            levels.append(Level(u, float(way.sigma), float(kept), float(acceptance)))
            before = way
            bar.update(max(int(50 * u), 0) - bar.n)
    return particles, levels


def _stopped(way: Bridge, particles: Particles, levels: list[Level]) -> WalkError:
    broken = int(np.isnan(_data_energies(way, particles.y)).sum())
    cause = "no particle has a finite energy, or steps are too short"
    cause += f" (the likelihood is NaN for {broken} of {len(particles.y)})" if broken else ""
    return WalkError(
        f"annealing stopped at sigma = {float(way.sigma):.4g} after {len(levels)} levels: "
        f"{cause}. Check the operator and the likelihood at events of the prior, and that the data "
        "are in its units; pass more particles, or where energies are large numbers compute in "
        "float64."
    )


def _candidates(u: float, stride: float) -> np.ndarray:
    """Next positions to choose from: around the last stride, not over a turn; before u = 0 from
    a little more than what the particles know, or a millionth, to all of it."""
    if u < 0:
        return np.minimum(np.geomspace(max(1.02 * (1 + u), 1e-6), 1, CANDIDATES), 1) - 1
    end = 1.0 if u < 1 else 2.0
    return np.minimum(u + stride * np.geomspace(1 / 16, 4, CANDIDATES), end)


def _longest(left: np.ndarray, wanted: float) -> int:
    """The farthest position that leaves enough particles; the nearest where none does."""
    enough = np.flatnonzero(left >= wanted)
    return int(enough[-1]) if len(enough) else 0


@jax.jit
def _energies(way: Bridge, y: Array) -> Float[Array, " n"]:
    return jax.vmap(way)(y)


@jax.jit
def _data_energies(way: Bridge, y: Array) -> Float[Array, " n"]:
    return jax.vmap(way.likelihood_energy)(y)


def _moved(way: Bridge, u: float) -> Bridge:
    return dataclasses.replace(way, u=jnp.asarray(u, way.u.dtype))  # pyright: ignore


def _fewest_particles(energy: Any, posterior: PosteriorEnergy) -> int:
    """That know the weights of modes; 0 where chains of a start are not weighed."""
    if isinstance(energy, SmoothedEnergy) and energy.is_exact:
        return PARTICLES["exact"]
    small = math.prod(posterior.event_shape or ()) <= WEIGHED_SIZE
    return PARTICLES["learned"] if small and has_levels(energy) else 0
