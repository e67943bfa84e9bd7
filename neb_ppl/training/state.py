"""What training needs to go on, and what it leaves to read."""

import dataclasses
from typing import Any

import jax
import numpy as np

from neb_ppl._pytree import value
from neb_ppl.types import Array, PRNGKey, PyTree

__all__ = ["History", "TrainState"]


@value
class TrainState:
    """Everything the next training step depends on besides the data and the optimiser.

    Attributes
    ----------
    model : pytree
        With the current weights.
    average : pytree
        Exponential moving average of the weights: what validation and the user see.
    optimizer : pytree
        Optax's state.
    best : pytree
        Averaged weights of the lowest validation risk so far.
    best_risk, best_step, step : scalar arrays
    rng_key : key
        Step t draws with ``fold_in(rng_key, t)``.
    loss : pytree
        What the loss carries along.
    """

    model: Any
    average: PyTree
    optimizer: PyTree
    best: PyTree
    best_risk: Array
    best_step: Array
    step: Array
    rng_key: PRNGKey
    loss: PyTree


@dataclasses.dataclass
class History:
    """Record of one call of `fit`.

    Attributes
    ----------
    loss : array, shape (steps,)
        Training loss of every step.
    steps, risk : lists
        Validation steps, and the denoising risk per dimension at each, on held-out data under
        fixed noise; its estimate from y alone, under fixed probes, where the data are y.
    state : TrainState
        Give it to `fit` to go on exactly.
    stats : dict of arrays, shape (steps,)
        What else the loss told at every step.
    stopped : str
        Why training ended, in words.
    seconds : float
    """

    state: TrainState
    loss: np.ndarray
    steps: list[int] = dataclasses.field(default_factory=list)
    risk: list[float] = dataclasses.field(default_factory=list)
    stats: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    stopped: str = ""
    seconds: float = 0.0

    @property
    def best_risk(self) -> float:
        """Lowest validation risk per dimension."""
        return float(self.state.best_risk)

    def __repr__(self) -> str:
        shown = f"{self.best_risk:.5g}" if np.isfinite(self.best_risk) else "not measured"
        return (
            f"History({int(self.state.step)} steps in {self.seconds:.1f} s, "
            f"validation risk {shown}; {self.stopped})"
        )


def copy(tree: PyTree) -> PyTree:
    """Fresh buffers: the compiled loop takes over the ones it is given."""
    return jax.tree.map(lambda leaf: leaf.copy(), tree)
