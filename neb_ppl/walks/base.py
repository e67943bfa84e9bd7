"""What every walk is: a pytree of tuning values that turns a target into a BlackJAX algorithm."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.base import SamplingAlgorithm
from jax.core import Tracer

from neb_ppl._noise import standard_normal
from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.types import Array, PRNGKey, PyTree, Scalar

__all__ = ["Walk", "WalkTarget"]

WalkTarget = SmoothedScore | Callable[[PyTree], Scalar]


class Walk(abc.ABC):
    """A kind of MCMC on y with its tuning values, which are leaves.

    ``walk(model)`` is a `blackjax.base.SamplingAlgorithm` with ``init(position, rng_key)`` and
    ``step(rng_key, state)``, usable alone. Tuning values left as None are set from sigma.
    """

    needs_energy: ClassVar[bool] = True
    is_adjusted: ClassVar[bool] = True
    target_acceptance: ClassVar[float | None] = None
    step_size: Any

    @property
    def name(self) -> str:
        """What reports call it."""
        return type(self).__name__

    def tuning(self) -> dict[str, Any]:
        """Tuning values by name, and what is fixed, such as the scheme."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # pyright: ignore[reportArgumentType]

    @abc.abstractmethod
    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """Tuning values for noise level `sigma` and `size` dimensions."""

    @abc.abstractmethod
    def algorithm(self, model: WalkTarget) -> SamplingAlgorithm:
        """The algorithm, once every tuning value is set."""

    def stats(self, info: Any) -> dict[str, Array]:
        """Per-step statistics under ArviZ's names, from the kernel's info."""
        return {"diverging": info.is_divergent}

    def __call__(self, model: WalkTarget) -> SamplingAlgorithm:
        """The algorithm that walks on `model`.

        Parameters
        ----------
        model : SmoothedScore, or callable
            An energy, a bare score where the kernel allows it, or any potential function
            ``position -> scalar`` of a pytree.

        Raises
        ------
        NotAnEnergyError
            A bare score under a kernel that accepts or rejects.
        InvalidArgumentError
            A tuning value that is not positive, or missing where `model` has no sigma.
        """
        self.check(model)
        size = _event_size(model)
        return self.resolve(getattr(model, "sigma", None), size).algorithm(model)

    def check(self, model: WalkTarget) -> None:
        """Refuse a model that this walk would not settle on."""
        if self.needs_energy:
            _require_energy(self, model)
        if not self.is_adjusted and not getattr(model, "force_is_gradient", True):
            raise InvalidArgumentError(
                f"{type(self).__name__} would follow the force of a {type(model).__name__}, which "
                "is not the gradient of its energy, and settle elsewhere. Use MALA, HMC, NUTS or "
                "GHMC, which accept or reject by the energy."
            )

    def with_step_size(self, step_size: Scalar) -> Self:
        """The same walk with another step size."""
        return dataclasses.replace(self, step_size=step_size)  # pyright: ignore[reportArgumentType]

    def resolve(self, sigma: Scalar | None, size: int | None) -> Self:
        """The same walk with every tuning value an array: those left out come from sigma."""
        self.validate()
        given = {name: getattr(self, name) for name in _leaves(self)}
        missing = [name for name, setting in given.items() if setting is None]
        if missing and (sigma is None or size is None):
            raise InvalidArgumentError(
                f"{type(self).__name__} needs {' and '.join(missing)}: the model has no sigma or "
                "event_shape to set a default from."
            )
        if missing:
            defaults = self.defaults(jnp.asarray(sigma), size or 1)
            given |= {name: defaults[name] for name in missing}
        dtype = jnp.result_type(float)
        settings = {name: jnp.asarray(setting, dtype) for name, setting in given.items()}
        return dataclasses.replace(self, **settings)  # pyright: ignore[reportArgumentType]

    def validate(self) -> None:
        """Refuse tuning values that are not positive and finite."""
        for name in _leaves(self):
            setting = getattr(self, name)
            if setting is None or isinstance(setting, Tracer):
                continue
            # NumPy: under jit, JAX's own functions trace even what is known.
            if not (np.isfinite(setting).all() and np.all(np.asarray(setting) > 0)):
                raise InvalidArgumentError(
                    f"{type(self).__name__}: {name} must be positive and finite; got {setting}."
                )


def walk_on(
    algorithm: SamplingAlgorithm, rng_key: PRNGKey, position: PyTree, num_steps: int | Array
) -> PyTree:
    """Where one chain is after `num_steps` steps from `position`."""

    key_init, key_steps = jax.random.split(rng_key)

    def step(i: Array, state: Any) -> Any:
        return algorithm.step(jax.random.fold_in(key_steps, i), state)[0]

    state = algorithm.init(position, key_init)
    return jax.lax.fori_loop(0, num_steps, step, state).position


def value_and_score(model: WalkTarget) -> Callable[[PyTree], tuple[Scalar, PyTree]]:
    """The function y -> (log density, score); the log density of a bare score is NaN."""
    if isinstance(model, SmoothedScore) and not isinstance(model, SmoothedEnergy):
        return lambda y: (jnp.full((), jnp.nan, jax.tree.leaves(y)[0].dtype), model.score(y))
    return jax.value_and_grad(logdensity(model))


def logdensity(model: WalkTarget) -> Callable[[PyTree], Scalar]:
    """BlackJAX's sign: the log density of a potential."""
    return lambda y: -model(y)  # pyright: ignore[reportCallIssue]


def noise_like(rng_key: PRNGKey, position: PyTree) -> PyTree:
    """Standard normal noise with the structure of `position`."""
    leaves, treedef = jax.tree.flatten(position)
    keys = [rng_key] if len(leaves) == 1 else list(jax.random.split(rng_key, len(leaves)))
    noise = [
        standard_normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, noise)


def _leaves(walk: Walk) -> list[str]:
    fields = dataclasses.fields(walk)  # pyright: ignore[reportArgumentType]
    return [field.name for field in fields if not field.metadata.get("static")]


def _event_size(model: WalkTarget) -> int | None:
    shape = getattr(model, "event_shape", None)
    if shape is None:
        return None
    size = 1
    for length in shape:
        size *= length
    return size


def _require_energy(walk: Walk, model: WalkTarget) -> None:
    if isinstance(model, SmoothedScore) and not isinstance(model, SmoothedEnergy):
        raise NotAnEnergyError(
            f"{type(walk).__name__} accepts or rejects by the energy, and "
            f"{type(model).__name__} gives a score alone. Use ULA or KineticLangevin, or an "
            "energy (neb_ppl.from_energy)."
        )
    if not callable(model):
        raise NotAnEnergyError(
            f"{type(walk).__name__} walks on an energy; got {type(model).__name__}."
        )
