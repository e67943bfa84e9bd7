"""Step sizes tuned to a target acceptance, pooled over chains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from blackjax.adaptation.step_size import (
    DualAveragingAdaptationState,
    dual_averaging_adaptation,
)

from neb_ppl.types import Array, Scalar

__all__ = ["StepSizeAdaptation", "step_size_adaptation"]


class StepSizeAdaptation(NamedTuple):
    """Functions ``init(step_size)``, ``update(state, acceptance)``, ``current``, ``final``."""

    init: Callable[[Scalar], Any]
    update: Callable[[Any, Array], Any]
    current: Callable[[Any], Scalar]
    final: Callable[[Any], Scalar]


def step_size_adaptation(target: float) -> StepSizeAdaptation:
    """Nesterov's dual averaging on the mean acceptance over chains.

    One step size for all chains, driven by their mean: C chains give C times the information a
    step. A NaN acceptance counts as a rejection.

    References
    ----------
    Hoffman and Gelman, "The No-U-Turn Sampler" (2014), section 3.2.
    """
    start, advance, finish = dual_averaging_adaptation(target)

    def update(
        state: DualAveragingAdaptationState, acceptance: Array
    ) -> DualAveragingAdaptationState:
        return advance(state, jnp.mean(jnp.where(jnp.isnan(acceptance), 0.0, acceptance)))

    def current(state: DualAveragingAdaptationState) -> Scalar:
        return jnp.exp(state.log_step_size)

    return StepSizeAdaptation(start, update, current, finish)
