"""What the code of a variational autoencoder carries, and what of it has collapsed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl.data import check_data
from neb_ppl.energies.neural import check_trained
from neb_ppl.energies.scale import warn_of_units
from neb_ppl.energies.variational import VariationalEnergy
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import Array, ArrayLike

__all__ = ["LatentReport", "latent_report"]

ACTIVE = 0.01
BATCH = 100


@dataclasses.dataclass(frozen=True)
class LatentReport:
    """Each entry of the code, the most informative first.

    Attributes
    ----------
    order : int array, shape ``(latent,)``
        Which entry it is.
    divergence : array, shape ``(latent,)``
        Mean of KL(q(z|x) || N(0, 1)) over the data, in nats.
    activity : array, shape ``(latent,)``
        Variance of the code's mean over the data: near 1 where it tells x apart, 0 where not.
    active : bool array, shape ``(latent,)``
        Whether the activity is above .01 (Burda, Grosse and Salakhutdinov, 2016).
    deviation : array, shape ``(latent,)``
        Mean deviation of the code: 1 where it is the prior's.
    """

    order: np.ndarray
    divergence: np.ndarray
    activity: np.ndarray
    deviation: np.ndarray

    @property
    def active(self) -> np.ndarray:
        """Which entries are active, in the order of `order`."""
        return self.activity > ACTIVE

    @property
    def num_active(self) -> int:
        """How many entries are active."""
        return int(self.active.sum())

    @property
    def total(self) -> float:
        """Mean of KL(q(z|x) || N(0, I)), in nats: an upper bound of the information alone.

        It is the sum of that information, of z about x, and of KL(q(z) || N(0, I)), how far the
        law of the codes of all x is from the prior.
        """
        return float(self.divergence.sum())

    def __str__(self) -> str:
        count = len(self.order)
        lines = [f"{self.num_active} of {count} entries are active; {self.total:.2f} nats in all"]
        if self.num_active == 0:
            lines.append(
                "PROBLEM: the code has collapsed onto the prior: the decoder does not read it. "
                "Use a smaller sigma, or a smaller beta"
            )
        lines += [
            f"  z[{i}]: {nats:.3f} nats, activity {activity:.3f}, deviation {deviation:.3f}"
            for i, nats, activity, deviation in zip(
                self.order[:8], self.divergence, self.activity, self.deviation, strict=False
            )
        ]
        return "\n".join(lines)


def latent_report(model: VariationalEnergy, x: ArrayLike) -> LatentReport:
    """How much each entry of the code tells of the data.

    Parameters
    ----------
    model : VariationalEnergy
    x : array, shape ``(n, *event)``
        What the encoder is to see: clean for a sigma-VAE, ``data + noise`` for UVB. At least 2
        events, between which the code's mean can vary.

    Returns
    -------
    LatentReport
        For each entry its mean divergence, activity and deviation; print it for a summary.

    Raises
    ------
    InvalidArgumentError
        Something else than a variational energy, an untrained one, or a single event.

    Warns
    -----
    DataRangeWarning
        x far outside the range that the model was trained on.
    """
    if not isinstance(model, VariationalEnergy):
        raise InvalidArgumentError(
            f"model must be a variational energy (neb_ppl.uvb); got {type(model).__name__}."
        )
    check_trained(model, "model")
    events = jnp.asarray(check_data(x, model.event_shape))
    warn_of_units(model, events)
    if len(events) < 2:
        raise InvalidArgumentError(f"x must hold at least 2 events; got {len(events)}.")
    mean, deviation, divergence = (np.asarray(a, np.float64) for a in _codes(model, events))
    order = np.argsort(-divergence.mean(axis=0), kind="stable")
    return LatentReport(
        order,
        divergence.mean(axis=0)[order],
        mean.var(axis=0)[order],
        deviation.mean(axis=0)[order],
    )


@jax.jit
def _codes(model: VariationalEnergy, x: Array) -> tuple[Array, Array, Array]:
    return jax.lax.map(lambda x: (*model.encode(x), model.terms(x)[1]), x, batch_size=BATCH)
