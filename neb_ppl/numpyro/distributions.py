"""A learned energy as a NumPyro distribution."""

import math
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.mixtures import MixtureGeneral

from neb_ppl._checks import check_counts, check_key
from neb_ppl.energies.base import SmoothedEnergy, check_event
from neb_ppl.energies.neural import check_one_level
from neb_ppl.errors import EventShapeError, NotAnEnergyError
from neb_ppl.estimators import bayes_estimator, stochastic_jump
from neb_ppl.types import Array, Event, PRNGKey
from neb_ppl.walks.starts import walk_from_noise

__all__ = ["SmoothedDensity", "energy_factor"]

WALK_STEPS = 500


class SmoothedDensity(dist.Distribution):
    r"""The law of Y, :math:`p_\sigma(y) \propto \exp(-\phi(y))`, as a NumPyro distribution.

    Use it as any other: in plates, ``expand``, ``mask``, ``TransformedDistribution``, under
    NUTS, SVI and ``Predictive``. ``log_prob`` is minus the energy, over any batch axes.

    Parameters
    ----------
    energy : SmoothedEnergy
    event_shape : tuple of int, optional
        Needed where the energy does not know it (functions of others).
    num_steps : int
        Walk steps of `sample`.

    Raises
    ------
    NotAnEnergyError
        A bare score.
    EventShapeError, InvalidArgumentError
        An unknown or another event shape; a range of noise levels.
    TypeError
        At the first gradient: the energy's own numbers depend on a latent site or a
        ``numpyro.param``. A learned energy is known up to a constant, which would then vary and be
        dropped. Exact energies (`gaussian_mixture`, `kernel_density`) carry theirs and may.

    Notes
    -----
    ``sample`` is exact where the energy can be sampled exactly. Elsewhere it is approximate: the
    end of `num_steps` steps of `KineticLangevin` from `start_at_noise`, one gradient each, in one
    compiled loop. There is no ``cdf``, entropy or evidence: the normaliser is unknown.
    """

    arg_constraints: dict[str, Any] = {}
    reparametrized_params: list[str] = []
    pytree_data_fields = ("energy",)
    pytree_aux_fields = ("num_steps",)

    def __init__(
        self,
        energy: SmoothedEnergy,
        event_shape: tuple[int, ...] | None = None,
        *,
        num_steps: int = WALK_STEPS,
        validate_args: bool | None = None,
    ):
        check_counts(num_steps=num_steps)
        self.energy, self.num_steps = energy, num_steps
        shape = _event_shape(energy, event_shape)
        super().__init__(batch_shape=(), event_shape=shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Real, with as many dimensions as the event."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: Array, intermediates: Any = None) -> Array:
        """Minus the energy, shape ``(*batch,)``: normalised only where the energy is exact."""
        value = jnp.asarray(value)
        if self._validate_args:
            self._validate_sample(value)
        energy = self.energy
        if not energy.is_exact:
            _refuse_mixture()
            energy = _constant(energy)
        batch = value.shape[: value.ndim - len(self.event_shape)]
        if value.shape[len(batch) :] != self.event_shape:
            raise EventShapeError(
                f"value has shape {value.shape}; expected (*batch, *event) with event shape "
                f"{self.event_shape}."
            )
        return -_over_batch(energy, value, batch)

    def sample(self, key: PRNGKey | None = None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws of Y, shape ``(*sample_shape, *event)``: see the class for how exact they are."""
        check_key(key)
        assert key is not None
        if self.energy.is_exact:
            return self.energy.sample(key, tuple(sample_shape))  # pyright: ignore
        shape = tuple(sample_shape)
        ends = walk_from_noise(
            key, self.energy, math.prod(shape), self.num_steps, event_shape=self.event_shape
        )
        return ends.reshape(*shape, *self.event_shape)

    def jump(self, value: Array, rng_key: PRNGKey | None = None) -> Array:
        """From y to x: the Bayes estimator, or with a key the stochastic jump, over any batch."""
        value = jnp.asarray(value)
        batch = value.shape[: value.ndim - len(self.event_shape)]
        flat = value.reshape(-1, *self.event_shape)
        if rng_key is None:
            x = jax.vmap(lambda y: bayes_estimator(self.energy, y))(flat)
        else:
            keys = jax.random.split(rng_key, len(flat))
            x = jax.vmap(lambda k, y: stochastic_jump(k, self.energy, y))(keys, flat)
        return x.reshape(*batch, *self.event_shape)

    def icdf(self, q: Array) -> Array:
        """Refused: it would need the normaliser."""
        raise NotImplementedError(_unnormalised("icdf (and so no evidence by nested sampling)"))

    def cdf(self, value: Array) -> Array:
        """Refused: it would need the normaliser."""
        raise NotImplementedError(_unnormalised("cdf"))

    def entropy(self) -> Array:
        """Refused: it would need the normaliser."""
        raise NotImplementedError(_unnormalised("entropy"))

    @classmethod
    def gather_pytree_data_fields(cls) -> tuple[str, ...]:
        """Sorted: NumPyro's own order depends on the hash seed of the process."""
        return tuple(sorted(super().gather_pytree_data_fields()))

    @classmethod
    def gather_pytree_aux_fields(cls) -> tuple[str, ...]:
        """Sorted: NumPyro's own order depends on the hash seed of the process."""
        return tuple(sorted(super().gather_pytree_aux_fields()))


def energy_factor(name: str, energy: SmoothedEnergy, y: Event) -> None:
    """Add ``-energy(y)`` to the model's log density: the energy beside any other prior on y.

    Parameters
    ----------
    name : str
        Of the factor site.
    energy : SmoothedEnergy
    y : array, shape ``(*event,)``

    Raises
    ------
    NotAnEnergyError, InvalidArgumentError, EventShapeError
        As for `SmoothedDensity`.
    """
    _event_shape(energy, jnp.shape(y))
    check_event(energy, y)
    numpyro.factor(name, -(energy if energy.is_exact else _constant(energy))(y))


def _event_shape(energy: Any, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """The event shape, once it is sure that there is an energy of one noise level."""
    check_one_level(energy, "take")
    if not isinstance(energy, SmoothedEnergy):
        raise NotAnEnergyError(
            f"energy is a {type(energy).__name__}, which has no log density; expected an energy, "
            "such as neb_ppl.deen(...) after fit, or neb_ppl.from_energy(function, sigma)."
        )
    known = energy.event_shape
    if known is None and asked is None:
        raise EventShapeError(
            f"{type(energy).__name__} has no event_shape: pass event_shape=(...)."
        )
    if known is not None and asked is not None and tuple(asked) != known:
        raise EventShapeError(f"event_shape is {tuple(asked)}; the energy is of events {known}.")
    return tuple(asked if known is None else known)  # pyright: ignore[reportArgumentType]


def _over_batch(energy: SmoothedEnergy, value: Array, batch: tuple[int, ...]) -> Array:
    if not batch:
        return energy(value)
    flat = value.reshape(-1, *value.shape[len(batch) :])
    return jax.vmap(energy)(flat).reshape(batch)


def _constant(energy: SmoothedEnergy) -> SmoothedEnergy:
    """The same energy, which refuses to be differentiated in its own numbers."""
    leaves, treedef = jax.tree.flatten(energy)
    return jax.tree.unflatten(treedef, [_no_tangent(leaf) for leaf in leaves])


@jax.custom_jvp
def _no_tangent(leaf: Array) -> Array:
    return leaf


@partial(_no_tangent.defjvp, symbolic_zeros=True)
def _refuse_tangent(primals: tuple, tangents: tuple) -> tuple:
    if not isinstance(tangents[0], jax.custom_derivatives.SymbolicZero):
        raise TypeError(
            "the energy in this model depends on a latent site or a numpyro.param. A learned "
            "energy is known up to a constant that changes with its own numbers, so that the "
            "posterior of that site would be wrong. Fix the energy; put scales and shifts around "
            "it with TransformedDistribution and AffineTransform, whose determinant is known."
        )
    return primals[0], tangents[0]


def _refuse_mixture() -> None:
    """`MixtureGeneral` weighs its components by their log densities, and offers no other hook."""
    frame = sys._getframe(2)
    for _ in range(8):
        if isinstance(frame.f_locals.get("self"), MixtureGeneral):
            raise NotAnEnergyError(
                "a mixture of learned energies is undefined: each is known up to its own constant, "
                "and the weights would absorb their ratio. Learn one energy from the pooled data, "
                "or mix exact ones (neb_ppl.gaussian_mixture, neb_ppl.kernel_density)."
            )
        if frame.f_back is None:
            return
        frame = frame.f_back


def _unnormalised(what: str) -> str:
    return f"a smoothed density is known up to a constant: it has no {what}."
