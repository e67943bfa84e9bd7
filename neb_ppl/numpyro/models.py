"""A NumPyro model as a potential: energy on unconstrained space, and a jump back to its sites."""

import dataclasses
import warnings
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.initialization import init_to_sample, init_to_uniform
from numpyro.infer.util import (
    constrain_fn,
    find_valid_initial_params,
    potential_energy,
    unconstrain_fn,
)
from numpyro.primitives import Messenger

from neb_ppl._checks import check_counts, check_key
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import SmoothedScore
from neb_ppl.errors import EventShapeError, InvalidArgumentError, StartError, WalkWarning
from neb_ppl.numpyro.constants import Constant, constants_digest, is_array
from neb_ppl.numpyro.distributions import SmoothedDensity
from neb_ppl.sampling import SampleResult, WalkState, sample
from neb_ppl.types import Array, PRNGKey, PyTree, Scalar
from neb_ppl.walks import NUTS, Walk
from neb_ppl.walks.preconditioned import Scale

__all__ = ["ModelPotential", "init_at_smoothed", "model_potential", "sample_model"]

Model = Callable[..., Any]

NEEDS_VALUES = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)


@value
class ModelPotential:
    """Minus the log joint density of a NumPyro model, on its unconstrained latent sites.

    A potential as any other: walk on it with `neb_ppl.sample`, differentiate it, give
    ``lambda z: -potential(z)`` to BlackJAX. Its jump leads to what the model speaks of. Build it
    with `model_potential`.

    Attributes
    ----------
    arrays : list of arrays
        Of the model's arguments: leaves, so that new data of the same shapes compile nothing.
    params : dict
        Values of ``numpyro.param`` sites and modules, held fixed.
    closure : str
        What the model closes over, as a digest: a function that reads other data than before is
        another model, although it is the same function.
    """

    arrays: list[Array]
    params: dict[str, Any]
    model: Model = static()
    others: tuple[tuple[int, Constant], ...] = static()
    treedef: Any = static()
    closure: str = static(default="")

    def __call__(self, z: dict[str, Array]) -> Scalar:
        """Potential at unconstrained values z, Jacobians included."""
        args, kwargs = self.arguments()
        return jnp.asarray(potential_energy(self.prepared(), args, kwargs, z))

    def constrain(self, z: dict[str, Array]) -> dict[str, Array]:
        """Latent and deterministic sites at z."""
        args, kwargs = self.arguments()
        return constrain_fn(self.prepared(), args, kwargs, z, return_deterministic=True)

    def constrain_own(self, z: dict[str, Array]) -> dict[str, Array]:
        """The sites in z alone. Supports must not depend on other sites."""
        args, kwargs = self.arguments()
        return constrain_fn(seed(self.prepared(), jax.random.key(0)), args, kwargs, z)

    def unconstrain(self, sites: dict[str, Array]) -> dict[str, Array]:
        """The z of latent sites' values."""
        args, kwargs = self.arguments()
        return unconstrain_fn(self.prepared(), args, kwargs, sites)

    @property
    def jump(self) -> Callable[..., Any]:
        """``(rng_key, potential, z) -> sites``: what `neb_ppl.sample` reports as x."""
        return constrain_jump

    def start(
        self, rng_key: PRNGKey, num_chains: int, init_strategy: Callable | None = None
    ) -> dict[str, Array]:
        """Start positions with finite potential and gradient, chains along the first axis.

        Parameters
        ----------
        rng_key : key
        num_chains : int
        init_strategy : callable, optional
            One of NumPyro's; default `init_at_smoothed`.

        Raises
        ------
        StartError
            None found in 100 tries: names the sites whose log densities are not finite.
        """
        check_key(rng_key)
        check_counts(num_chains=num_chains)
        keys = jax.random.split(rng_key, num_chains)
        return self.start_at(keys, init_strategy or init_at_smoothed)

    def start_at(self, rng_keys: PRNGKey, init_strategy: Callable) -> dict[str, Array]:
        """`start`, with a key for each chain. Under a transformation nothing can be refused."""
        z, found = _find_start(self, rng_keys, init_strategy)
        if not isinstance(found, Tracer) and not bool(jnp.all(found)):
            self._complain(jax.tree.map(lambda leaf: leaf[jnp.argmin(found)], z))
        return z

    def somewhere(self) -> dict[str, Array]:
        """A z of the right structure; nothing is said of its density."""
        record = _record(self.prepared(), *self.arguments())
        return self.unconstrain({name: site["value"] for name, site in _latent(record).items()})

    def prepared(self) -> Model:
        """The model with its params, and one fixed key for what it draws besides sites."""
        return _FixedKey(substitute(self.model, data=self.params))

    def arguments(self) -> tuple[tuple, dict[str, Any]]:
        """The model's args and kwargs."""
        leaves: list[Any] = list(self.arrays)
        for index, other in self.others:
            leaves.insert(index, other.content)
        return jax.tree.unflatten(self.treedef, leaves)

    def _complain(self, z: dict[str, Array]) -> None:
        args, kwargs = self.arguments()
        sites = constrain_fn(self.prepared(), args, kwargs, z)
        record = trace(substitute(self.prepared(), data=sites)).get_trace(*args, **kwargs)
        bad = {
            name: site["fn"].log_prob(site["value"]).sum()
            for name, site in record.items()
            if site["type"] == "sample"
        }
        named = ", ".join(f"{n} ({float(lp)})" for n, lp in bad.items() if not np.isfinite(lp))
        raise StartError(
            "no start with a finite density and gradient was found in 100 tries. "
            + (f"Log densities that are not finite: {named}." if named else "A gradient is NaN.")
            + " Check those sites and their data, or give another init_strategy."
        )


def model_potential(model: Model, *args: Any, **kwargs: Any) -> ModelPotential:
    """The potential of a NumPyro model at these arguments.

    Parameters
    ----------
    model : callable
        Continuous latent sites only.
    args, kwargs
        Its arguments. Arrays, and arrays inside pytrees such as energies, are leaves: others of
        the same shape compile nothing. Numbers, strings and None are part of the program, and so
        are all arrays where the model needs to know their values (``np.unique(groups)``).

    Raises
    ------
    InvalidArgumentError
        A model without latent sites, with discrete ones, Delta sites or plates that subsample;
        an argument that is neither an array nor hashable.
    EventShapeError
        Data of another shape than `CleanVariable.observed` is of.

    Warns
    -----
    WalkWarning
        A site of `CleanVariable.observed` without data.
    """
    check_model(model)
    record = _record(model, args, kwargs)
    _check_sites(record)
    params = {
        name: site["value"] for name, site in record.items() if site["type"] in ("param", "mutable")
    }
    leaves, treedef = jax.tree.flatten((args, kwargs))
    for leaf in leaves:
        if not is_array(leaf) and not isinstance(leaf, Hashable):
            raise InvalidArgumentError(
                f"an argument of the model is a {type(leaf).__name__}: expected arrays, pytrees of "
                'arrays, numbers, strings or None. Pass its arrays, such as frame["a"].to_numpy().'
            )
    arrays = [jnp.asarray(leaf) for leaf in leaves if is_array(leaf)]
    others = [(i, Constant(leaf)) for i, leaf in enumerate(leaves) if not is_array(leaf)]
    potential = ModelPotential(arrays, params, model, tuple(others), treedef)
    try:
        program = _program(potential)
    except NEEDS_VALUES:
        others = [(i, Constant(leaf)) for i, leaf in enumerate(leaves)]
        potential = ModelPotential([], params, model, tuple(others), treedef)
        program = _program(potential)
    return dataclasses.replace(potential, closure=constants_digest(program))


def sample_model(
    rng_key: PRNGKey | None,
    model: Model,
    walk: Walk | None = None,
    *,
    args: tuple = (),
    kwargs: dict[str, Any] | None = None,
    num_chains: int = 4,
    num_samples: int = 1_000,
    num_warmup: int = 1_000,
    steps_per_jump: int | None = None,
    adapt_scale: Scale | None = "auto",
    init_strategy: Callable | None = None,
    initial: WalkState | None = None,
    progress_bar: bool = True,
) -> SampleResult:
    """Sample the posterior of a NumPyro model by any walk: `neb_ppl.sample` on its potential.

    Chains run together in compiled chunks, the warm-up pooled over them. A second call compiles
    nothing, nor does one with other data of the same shapes.

    Parameters
    ----------
    rng_key : key or None
        None only when going on.
    model : callable
    walk : Walk, optional
        Default `NUTS`. Its step size is in coordinates of unit scale, unless `adapt_scale` is None.
    args, kwargs
        Of the model: see `model_potential`.
    num_chains, num_samples, num_warmup, steps_per_jump, adapt_scale, progress_bar
        As in `neb_ppl.sample`.
    init_strategy : callable, optional
        One of NumPyro's; default `init_at_smoothed`.
    initial : WalkState, optional
        ``result.state`` of an earlier run with the same arguments: goes on, as `neb_ppl.sample`.

    Returns
    -------
    SampleResult
        ``x``: a dict of latent and deterministic sites, each ``(chains, draws, *shape)``; ``y``:
        latent sites on unconstrained space.

    Raises
    ------
    InvalidArgumentError, EventShapeError, StartError
        As `model_potential` and `ModelPotential.start`.
    """
    if not isinstance(args, tuple | list):
        raise InvalidArgumentError(
            f"args must be a tuple, such as args=(data,); got a {type(args).__name__}."
        )
    potential = model_potential(model, *args, **(kwargs or {}))
    if initial is not None:
        return sample(
            rng_key,
            potential,
            walk,
            initial,
            num_samples=num_samples,
            steps_per_jump=steps_per_jump,
            progress_bar=progress_bar,
        )
    check_key(rng_key)
    key_start, key_walk = jax.random.split(rng_key)  # pyright: ignore[reportArgumentType]
    start = potential.start(key_start, num_chains, init_strategy)
    return sample(
        key_walk,
        potential,
        NUTS() if walk is None else walk,
        start,
        num_samples=num_samples,
        num_warmup=num_warmup,
        steps_per_jump=steps_per_jump,
        adapt_scale=adapt_scale,
        progress_bar=progress_bar,
    )


def constrain_jump(rng_key: PRNGKey, model: ModelPotential, y: dict[str, Array]) -> PyTree:
    """The jump of a model: from unconstrained values to its sites."""
    return model.constrain(y)


def init_at_smoothed(site: dict[str, Any] | None = None) -> Any:
    """NumPyro init strategy: learned densities start at draws of their own, the rest uniformly."""
    if site is None:
        return partial(init_at_smoothed)
    if site["type"] == "sample" and _is_smoothed(site["fn"]):
        return init_to_sample(site)
    return init_to_uniform(site)


def _is_smoothed(fn: Any) -> bool:
    while fn is not None and not isinstance(fn, SmoothedDensity):
        fn = getattr(fn, "base_dist", None)
    return fn is not None


class _FixedKey(Messenger):
    """One key for ``numpyro.prng_key()``: what is drawn besides sites must not change."""

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = jax.random.key(0)


def _record(model: Model, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """A trace of the model at some values."""
    seeded = seed(model, jax.random.key(0))
    return trace(substitute(seeded, substitute_fn=init_to_uniform)).get_trace(*args, **kwargs)


def check_model(model: Any) -> None:
    """A function with NumPyro sites, and not an energy or a walk."""
    if isinstance(model, SmoothedScore | Walk) or not callable(model):
        raise InvalidArgumentError(
            f"model is a {type(model).__name__}; expected a function with numpyro.sample sites. "
            "Energies are walked on by neb_ppl.sample, or go inside: SmoothedDensity(energy)."
        )


def _latent(record: dict[str, Any]) -> dict[str, Any]:
    return {n: s for n, s in record.items() if s["type"] == "sample" and not s["is_observed"]}


def _program(potential: ModelPotential) -> Any:
    """All that is computed of a model, its energy and its sites, as a jaxpr."""

    # A new function each time: JAX keeps the traces of old ones.
    def everything(potential: ModelPotential) -> Any:
        z = potential.somewhere()
        return potential(z), potential.constrain(z)

    return jax.make_jaxpr(everything)(potential)


def _check_sites(record: dict[str, Any]) -> None:
    latent = _latent(record)
    if not latent:
        raise InvalidArgumentError("the model has no latent sample site: nothing to walk on.")
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        raise InvalidArgumentError(
            f"latent site {discrete[0]!r} is discrete: walks need gradients. Sum it out, or use "
            "numpyro.infer.Gibbs with a WalkKernel for the continuous sites."
        )
    for name, site in latent.items():
        if isinstance(site["fn"], dist.Delta):
            raise InvalidArgumentError(f"site {name!r} is a Delta: use numpyro.deterministic.")
    for name, site in record.items():
        if hasattr(site.get("fn"), "of_clean"):
            _check_look(name, site)
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0]):
            raise InvalidArgumentError(
                f"plate {name!r} draws a subsample of {site['args'][1]} of {site['args'][0]}: the "
                "potential would be that of one subsample. Use all of the data."
            )


def _check_look(name: str, site: dict[str, Any]) -> None:
    """A site of `CleanVariable.observed`: with data, of its shape."""
    if not site["is_observed"]:
        warnings.warn(
            f"site {name!r}, of {site['fn'].of_clean}.observed, has no data: it is drawn, and says "
            "nothing of the rest of the model. Pass obs=data, and the data in args.",
            WalkWarning,
            stacklevel=4,
        )
    found, expected = jnp.shape(site["value"]), site["fn"].shape()
    if len(found) == len(expected) and found != expected:  # else its density says what is wrong
        raise EventShapeError(f"site {name!r} expects data of shape {expected}; got {found}.")


@partial(jax.jit, static_argnames=("init_strategy",))
def _find_start(
    potential: ModelPotential, rng_keys: PRNGKey, init_strategy: Callable
) -> tuple[dict[str, Array], Array]:
    model, (args, kwargs) = potential.prepared(), potential.arguments()
    (z, _, _), found = find_valid_initial_params(
        rng_keys,
        model,
        init_strategy=init_strategy,
        model_args=args,
        model_kwargs=kwargs,
        prototype_params=potential.somewhere(),
    )
    return z, found
