"""BlackJAX's kernels as walks: the only place that knows their keywords."""

import abc
from typing import Any, ClassVar, Self

import blackjax
import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm

from neb_ppl._checks import check_counts
from neb_ppl._pytree import static, value
from neb_ppl.types import Array, PRNGKey, PyTree, Scalar
from neb_ppl.walks.base import Walk, WalkTarget, logdensity

__all__ = ["GHMC", "HMC", "MALA", "MCLMC", "NUTS", "BlackJAXWalk"]


JITTER = 0.2
# ``fold_in(key, i)`` is ``split(key)[i]``, and BlackJAX splits the key of a step: a small number
# here would tie the jitter to the draw that accepts.
JITTER_KEY = 2**32 - 1


class BlackJAXWalk(Walk):
    """A walk whose kernel is BlackJAX's. Any factory of theirs fits: override `kernel`."""

    @abc.abstractmethod
    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """BlackJAX's algorithm; `unit_mass` is a vector of ones, one for each dimension."""

    def jittered(self, rng_key: PRNGKey) -> Self:
        """The walk of this step; tuning values may be drawn, independently of the state."""
        return self

    def algorithm(self, model: WalkTarget) -> SamplingAlgorithm:
        """BlackJAX's own algorithm on minus the energy."""
        logdensity_fn = logdensity(model)

        def init(position: PyTree, rng_key: PRNGKey | None = None) -> Any:
            return self.kernel(logdensity_fn, _ones(position)).init(position, rng_key)

        def step(rng_key: PRNGKey, state: Any) -> tuple[Any, Any]:
            kernel = self.jittered(rng_key).kernel(logdensity_fn, _ones(state.position))
            return kernel.step(rng_key, state)

        return SamplingAlgorithm(init, step)

    def stats(self, info: Any) -> dict[str, Array]:
        """Acceptance, divergence, and whether the proposal's log density was not finite."""
        return {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "nonfinite": ~jnp.isfinite(info.proposal.logdensity),
        }


@value
class MALA(BlackJAXWalk):
    r"""Metropolis-adjusted Langevin algorithm: exact on the energy.

    .. math:: y' = y - h \nabla\phi(y) + \sqrt{2h}\,\xi, \quad \text{accepted by Metropolis}

    Run as BlackJAX's HMC with one leapfrog of :math:`\epsilon = \sqrt{2h}`, which is the same
    kernel and, unlike ``blackjax.mala``, shows the proposal, so that energies that are not finite
    are counted.

    Attributes
    ----------
    step_size : float, optional
        h, BlackJAX's convention. Left out, it starts at
        :math:`\sigma^2 d^{-1/3}` and is adapted in warm-up to an acceptance of .574.
    """

    target_acceptance: ClassVar[float | None] = 0.574
    step_size: Any = None

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """The optimal-scaling law of d, at the curvature 1 / sigma^2 of a smoothed density."""
        return {"step_size": sigma**2 * size ** (-1 / 3)}

    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """One leapfrog, fresh momenta, accept or reject."""
        epsilon = jnp.sqrt(2 * self.step_size)
        return blackjax.hmc(logdensity_fn, epsilon, unit_mass, 1)


@value
class HMC(BlackJAXWalk):
    """Hamiltonian Monte Carlo, unit mass.

    Attributes
    ----------
    step_size : float, optional
        Leapfrog step; default sigma * d**(-1/4), adapted in warm-up to an acceptance of .8.
    num_integration_steps : int
        Leapfrogs a step: gradients a step.

    Notes
    -----
    Every step draws its leapfrog within 20 % of `step_size`: a trajectory of fixed length can come
    back to where it began, or to its mirror image, for ever (Neal 2011, section 5.4.2.2).
    """

    target_acceptance: ClassVar[float | None] = 0.8
    step_size: Any = None
    num_integration_steps: int = static(default=10)

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """The optimal-scaling law of d."""
        return {"step_size": sigma * size ** (-1 / 4)}

    def validate(self) -> None:
        """A whole number of leapfrogs too."""
        super().validate()
        check_counts(num_integration_steps=self.num_integration_steps)

    def jittered(self, rng_key: PRNGKey) -> Self:
        """A leapfrog within 20 % of the step size."""
        key = jax.random.fold_in(rng_key, JITTER_KEY)
        factor = jax.random.uniform(key, (), self.step_size.dtype, 1 - JITTER, 1 + JITTER)
        return self.with_step_size(factor * self.step_size)

    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """BlackJAX's ``hmc``."""
        return blackjax.hmc(logdensity_fn, self.step_size, unit_mass, self.num_integration_steps)


@value
class NUTS(BlackJAXWalk):
    """The no-U-turn sampler, unit mass.

    Attributes
    ----------
    step_size : float, optional
        Leapfrog step; default sigma * d**(-1/4), adapted in warm-up to an acceptance of .8.
    max_num_doublings : int
        At most ``2**max_num_doublings`` gradients a step.
    """

    target_acceptance: ClassVar[float | None] = 0.8
    step_size: Any = None
    max_num_doublings: int = static(default=8)

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """As for HMC."""
        return {"step_size": sigma * size ** (-1 / 4)}

    def validate(self) -> None:
        """A whole number of doublings too."""
        super().validate()
        check_counts(max_num_doublings=self.max_num_doublings)

    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """BlackJAX's ``nuts``."""
        return blackjax.nuts(
            logdensity_fn, self.step_size, unit_mass, max_num_doublings=self.max_num_doublings
        )

    def stats(self, info: Any) -> dict[str, Array]:
        """A trajectory stops at the first state that is not finite: at one of its ends."""
        ends = (info.trajectory_leftmost_state, info.trajectory_rightmost_state)
        bad = ~(jnp.isfinite(ends[0].logdensity) & jnp.isfinite(ends[1].logdensity))
        return {
            "acceptance_rate": info.acceptance_rate,
            "diverging": info.is_divergent,
            "nonfinite": bad,
        }


@value
class GHMC(BlackJAXWalk):
    """Metropolised kinetic Langevin dynamics (generalised HMC), one gradient a step.

    Attributes
    ----------
    step_size : float, optional
        Leapfrog step; default sigma * d**(-1/4), adapted in warm-up to an acceptance of .9.
    refreshment : float
        Share of the momentum's variance renewed each step (BlackJAX's alpha).
    slice_drift : float
        Drift of the persistent slice variable (BlackJAX's delta).
    """

    target_acceptance: ClassVar[float | None] = 0.9
    step_size: Any = None
    refreshment: Any = 0.3
    slice_drift: Any = 0.1

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """As for HMC."""
        return {"step_size": sigma * size ** (-1 / 4)}

    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """BlackJAX's ``ghmc`` at unit scale."""
        return blackjax.ghmc(
            logdensity_fn, self.step_size, unit_mass, self.refreshment, self.slice_drift
        )


@value
class MCLMC(BlackJAXWalk):
    r"""Microcanonical Langevin: isokinetic, **unadjusted**, two gradients a step.

    Attributes
    ----------
    step_size : float, optional
        Length of one step in y (the velocity has unit norm); default 0.4 sigma sqrt(d).
    decoherence_length : float, optional
        BlackJAX's L; default 2 sigma sqrt(d).
    """

    is_adjusted: ClassVar[bool] = False
    step_size: Any = None
    decoherence_length: Any = None

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """Lengths in units of the typical radius sigma sqrt(d)."""
        radius = sigma * size**0.5
        return {"step_size": 0.4 * radius, "decoherence_length": 2 * radius}

    def kernel(self, logdensity_fn: Any, unit_mass: Array) -> SamplingAlgorithm:
        """BlackJAX's ``mclmc``."""
        return blackjax.mclmc(logdensity_fn, L=self.decoherence_length, step_size=self.step_size)

    def stats(self, info: Any) -> dict[str, Array]:
        """BlackJAX keeps the old position where a step was not finite, and says so."""
        return {"nonfinite": ~info.nonans, "diverging": ~info.nonans}


def _ones(position: PyTree) -> Array:
    leaves = jax.tree.leaves(position)
    return jnp.ones(sum(leaf.size for leaf in leaves), leaves[0].dtype)
