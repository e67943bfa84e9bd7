"""What a walk returns: draws, statistics, and the state from which it goes on."""

import dataclasses
from typing import Any

import jax
import numpy as np

from neb_ppl._pytree import static, value
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.estimators import Jump
from neb_ppl.types import Array, PRNGKey, PyTree
from neb_ppl.walks.base import Walk

__all__ = ["SampleResult", "WalkState", "check_result"]


@value
class WalkState:
    """Everything the next draw depends on besides the model.

    Attributes
    ----------
    kernel : pytree
        BlackJAX states, chains along the leading axis.
    walk : Walk
        With the tuning values in use.
    rng_key : key
    num_drawn : int array
        Saved draws so far: draw t of chain c has the key ``fold_in(fold_in(key, c), t)``.
    steps_per_jump : int array
    jump : Jump or None
    """

    kernel: Any
    walk: Walk
    rng_key: PRNGKey
    num_drawn: Array
    steps_per_jump: Array
    jump: Jump | None = static()

    @property
    def position(self) -> PyTree:
        """Current y of every chain, shape ``(chains, *event)``."""
        return self.kernel.position


@dataclasses.dataclass(frozen=True)
class SampleResult:
    """Draws of a walk and the jumps from them.

    Attributes
    ----------
    y : array, shape ``(chains, draws, *event)``
        Draws of the smoothed variable (a pytree of arrays where the position is one).
    x : array, shape ``(chains, draws, *event)``, or None
        Jumps. Posterior **means** unless the jump is stochastic: not posterior draws.
    info : dict of arrays, shape ``(chains, draws)``
        ``lp``, ``step_size``, ``diverging``, and what the kernel offers: ``acceptance_rate``,
        ``nonfinite`` (energies that were not finite, counted over the steps of the draw).
    state : WalkState
        Give it to `sample` as `initial` to go on.
    settings : dict
        How the draws were made: sigma, walk, tuning values, steps, seconds, versions.
    is_complete : bool
        False after an interrupt: the draws are valid, but fewer than asked for.
    """

    y: PyTree
    x: PyTree
    info: dict[str, np.ndarray]
    state: WalkState
    settings: dict[str, Any]
    is_complete: bool = True

    @property
    def num_chains(self) -> int:
        """Number of chains."""
        return jax.tree.leaves(self.y)[0].shape[0]

    @property
    def num_samples(self) -> int:
        """Saved draws of each chain."""
        return jax.tree.leaves(self.y)[0].shape[1]

    def __repr__(self) -> str:
        return (
            f"SampleResult({self.num_chains} chains x {self.num_samples} draws, "
            f"{self.settings['walk']}, sigma={self.settings['sigma']:.4g})"
            if self.settings["sigma"]
            else f"SampleResult({self.num_chains} chains x {self.num_samples} draws, "
            f"{self.settings['walk']})"
        )


def check_result(result: object) -> None:
    """A `SampleResult`, and not draws alone."""
    if not isinstance(result, SampleResult):
        walked = isinstance(getattr(result, "walk", None), SampleResult)
        hint = " It has methods of its own: .diagnose() and .to_arviz()." if walked else ""
        raise InvalidArgumentError(
            f"result must be what neb_ppl.sample returned; got {type(result).__name__}.{hint}"
        )
