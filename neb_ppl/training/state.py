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
        What every step minimised, in units of the loss's own; see `training_risk`.
    steps, risk : lists
        Validation steps, and what the loss measures at each, on held-out data under fixed noise:
        the denoising risk per dimension (of a noise-conditional energy, weighed), its estimate
        from y alone where the data are y, or what `measure` says.
    state : TrainState
        Give it to `fit` to go on exactly.
    stats : dict of arrays, shape (steps,)
        What else the loss told at every step.
    stopped : str
        Why training ended, in words.
    seconds : float
    measure : str
        What `risk` is, with its unit.
    """

    state: TrainState
    loss: np.ndarray
    steps: list[int] = dataclasses.field(default_factory=list)
    risk: list[float] = dataclasses.field(default_factory=list)
    stats: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    stopped: str = ""
    seconds: float = 0.0
    measure: str = "denoising risk per dimension"

    @property
    def best_risk(self) -> float:
        """Lowest validation risk; the last, where the loss says that the last weights are kept."""
        return float(self.state.best_risk)

    @property
    def training_risk(self) -> np.ndarray:
        """Of every step's batch, in the unit of `risk`: the loss itself unless it tells more."""
        return self.stats.get("risk", self.loss)

    def __repr__(self) -> str:
        known = np.isfinite(self.best_risk)
        shown = f"{self.best_risk:.5g} ({self.measure})" if known else "not measured"
        return (
            f"History({int(self.state.step)} steps in {self.seconds:.1f} s, "
            f"validation risk {shown}; {self.stopped})"
        )


def copy(tree: PyTree) -> PyTree:
    """Fresh buffers: the compiled loop takes over the ones it is given."""
    return jax.tree.map(lambda leaf: leaf.copy(), tree)
