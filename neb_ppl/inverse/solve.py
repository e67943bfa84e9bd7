"""An inverse problem in one call: closure, annealed start, walk, draws of x."""

import jax

from neb_ppl._checks import check_counts, check_key, check_untraced
from neb_ppl.energies import NoiseConditionalEnergy
from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.energies.neural import check_trained
from neb_ppl.estimators import mean_jump
from neb_ppl.inverse.observations import Observation
from neb_ppl.inverse.posterior import posterior_energy
from neb_ppl.inverse.result import PosteriorResult, posterior_result
from neb_ppl.inverse.smc import annealed_start
from neb_ppl.sampling import sample
from neb_ppl.sampling.faults import check_walk, check_warmup
from neb_ppl.types import Array, ArrayLike, PRNGKey
from neb_ppl.walks import NUTS, Walk

__all__ = ["solve"]


def solve(
    rng_key: PRNGKey,
    energy: SmoothedEnergy | NoiseConditionalEnergy,
    observation: Observation,
    *,
    closure: str = "auto",
    sigma: float | None = None,
    recalibration: float | ArrayLike | None = None,
    walk: Walk | None = None,
    initial: Array | None = None,
    num_chains: int = 32,
    num_samples: int = 128,
    num_warmup: int | None = None,
    num_draws: int | None = None,
    progress_bar: bool = True,
) -> PosteriorResult:
    """Draws of x given the data: choose the closure, anneal, walk, jump.

    Parameters
    ----------
    rng_key : key
    energy : SmoothedEnergy, or NoiseConditionalEnergy
        The prior. A range of noise levels is best: its sigma is chosen so that draws are exact, and
        the start is annealed through the levels.
    observation : Observation
        Such as ``neb_ppl.inverse.gaussian(operator, value, noise_scale)``.
    closure, sigma, recalibration
        As in `posterior_energy`.
    walk : Walk, optional
        Default `NUTS` with scales learned in warm-up; another walk is taken as it is.
    initial : array, shape ``(chains, *event)``, optional
        Start positions of y; default `annealed_start`.
    num_chains, num_samples : int
    num_warmup : int, optional
        Default 500 where something is to be adapted.
    num_draws : int, optional
        Draws of x; default as many as are effective.
    progress_bar : bool

    Returns
    -------
    PosteriorResult
        ``print`` it first.

    Raises
    ------
    As `posterior_energy` and `neb_ppl.sample`; an energy that has seen no data.

    Warns
    -----
    ApproximationWarning
        Where no exact closure exists.
    """
    check_untraced("solve", rng_key, energy, observation, initial)
    check_key(rng_key)
    check_trained(energy)
    check_counts(num_chains=num_chains, num_samples=num_samples)
    if num_draws is not None:
        check_counts(num_draws=num_draws)
    check_warmup(num_warmup)
    posterior = posterior_energy(
        energy, observation, closure, sigma=sigma, recalibration=recalibration
    )
    if walk is not None:
        check_walk(walk)
        walk.check(posterior)  # before the anneal, which takes long
    key_start, key_walk, key_jump = jax.random.split(rng_key, 3)
    if initial is None:
        initial = annealed_start(
            key_start, energy, posterior, num_chains, progress_bar=progress_bar
        )
    result = sample(
        key_walk,
        posterior,
        NUTS() if walk is None else walk,
        initial,
        num_samples=num_samples,
        num_warmup=num_warmup,
        jump=mean_jump,
        adapt_scale="auto" if walk is None else None,
        progress_bar=progress_bar,
    )
    return posterior_result(key_jump, posterior, result, num_draws=num_draws)
