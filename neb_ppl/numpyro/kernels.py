"""Any walk as a NumPyro MCMC kernel."""

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC
from numpyro.infer.gibbs import GIBBS_SITES_KWARG
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.numpyro.models import ModelPotential, check_model, init_at_smoothed, model_potential
from neb_ppl.sampling import SampleResult, engine, faults
from neb_ppl.sampling.sample import as_pytree, describe
from neb_ppl.types import Array, Bool, Int, PRNGKey, PyTree, Scalar
from neb_ppl.walks import MALA, Walk
from neb_ppl.walks.adaptation import Adaptation, adapt, finish, start_adaptation
from neb_ppl.walks.preconditioned import Preconditioned, Scale, unit_scale

__all__ = ["WalkKernel", "WalkKernelState", "from_mcmc"]


class WalkKernelState(NamedTuple):
    """State of one chain, everything that is adapted included.

    ``z``: unconstrained sites; ``potential_energy``, ``accept_prob`` (1 where nothing is
    rejected), ``mean_accept_prob``, ``step_size``, ``diverging``, ``nonfinite`` (whether the
    proposal's energy was not finite): for ``extra_fields``;
    ``kernel``: the walk's own state; ``adaptation``: the walk with its tuning.
    """

    i: Int[Array, ""]
    z: PyTree
    potential_energy: Scalar
    accept_prob: Scalar
    mean_accept_prob: Scalar
    step_size: Scalar
    diverging: Bool[Array, ""]
    nonfinite: Bool[Array, ""]
    kernel: Any
    adaptation: Adaptation
    num_warmup: Int[Array, ""]
    rng_key: PRNGKey


class WalkKernel(MCMCKernel):
    """A walk for ``numpyro.infer.MCMC``: ``MCMC(WalkKernel(model, walk=neb_ppl.MALA()), ...)``.

    Works with every chain method, ``extra_fields``, thinning, ``post_warmup_state`` (bit for bit),
    pickle, and as a block of ``numpyro.infer.Gibbs``. Each chain adapts by itself, as NumPyro's
    own kernels do; `sample_model` pools all chains.

    Parameters
    ----------
    model : callable, optional
    walk : Walk
        Default `MALA`. Its step size is in coordinates of unit scale, unless `adapt_scale` is
        None, and is adapted in warm-up where it is left out and the walk accepts or rejects.
    potential_fn : callable, optional
        Instead of a model: an energy, or any potential; `init_params` are then required.
    adapt_scale : "auto", "diagonal", "dense" or None
        What is learned of the covariance of z in warm-up: "auto" is dense up to 16 dimensions.
        Before an unadjusted walk it is learned by as many steps of MALA at initialisation, from
        all chains that run vectorized.
    init_strategy : callable
        One of NumPyro's; default `init_at_smoothed`.

    Notes
    -----
    Unadjusted walks are biased by their step: `from_mcmc` and `neb_ppl.diagnostics.diagnose` say
    by how much on Gaussians.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        walk: Walk | None = None,
        *,
        potential_fn: Callable[[Any], Any] | None = None,
        adapt_scale: Scale | None = "auto",
        init_strategy: Callable[..., Any] = init_at_smoothed,
    ):
        if (model is None) == (potential_fn is None):
            raise InvalidArgumentError("give exactly one of model and potential_fn.")
        if model is not None:
            check_model(model)
        walk = MALA() if walk is None else walk
        faults.check_walk(walk)
        faults.check_scale(adapt_scale, walk)
        self._model, self._potential_fn = model, potential_fn
        self._walk, self._init_strategy = walk, init_strategy
        self._adapt_scale: Scale | None = adapt_scale
        self._sample_fn = "ready"  # MCMC initialises again at every run where this is None

    @property
    def model(self) -> Callable[..., Any] | None:
        """The model, as ArviZ and Gibbs look for it."""
        return self._model

    @property
    def sample_field(self) -> str:
        """Where a state has its sample."""
        return "z"

    @property
    def default_fields(self) -> tuple[str, ...]:
        """Collected without being asked for, so that a run can be judged."""
        return ("z", "diverging", "potential_energy", "accept_prob", "step_size", "nonfinite")

    def get_diagnostics_str(self, state: WalkKernelState) -> str:
        """Shown beside the progress bar."""
        shown = f"step size {float(state.step_size):.2e}"
        if not self._walk.is_adjusted:
            return f"{shown}, unadjusted"
        return f"{shown}, acc. prob={float(state.mean_accept_prob):.2f}"

    def init(
        self,
        rng_key: PRNGKey,
        num_warmup: int,
        init_params: Any = None,
        model_args: tuple = (),
        model_kwargs: dict[str, Any] | None = None,
    ) -> WalkKernelState:
        """States of one chain, or of a batch of chains for a batch of keys."""
        potential = self._potential(model_args, model_kwargs)
        single = is_prng_key(rng_key)
        keys = rng_key[None] if single else rng_key
        key_start, key_walk, rng_keys = jnp.moveaxis(_split(keys, 3), 1, 0)
        z = self._start(potential, key_start, init_params, single, model_kwargs or {})
        walk, z = self._prepare(potential, z, key_walk[0], num_warmup)
        states = jax.vmap(partial(self._first, potential, walk, num_warmup))(key_walk, z, rng_keys)
        return jax.tree.map(lambda leaf: leaf[0], states) if single else states

    def sample(
        self,
        state: WalkKernelState,
        model_args: tuple = (),
        model_kwargs: dict[str, Any] | None = None,
    ) -> WalkKernelState:
        """One step of the walk."""
        step = partial(_step, self._potential(model_args, model_kwargs))
        if is_prng_key(state.rng_key):
            return _tune(step(state), state.i < state.num_warmup, _tune_one)
        # One predicate for all chains: under vmap both branches would run at every step.
        moved, is_warming = jax.vmap(step)(state), state.i[0] < state.num_warmup[0]
        return _tune(moved, is_warming, jax.vmap(_tune_one))

    def postprocess_fn(
        self, model_args: tuple, model_kwargs: dict[str, Any] | None
    ) -> Callable[[Any], Any]:
        """From unconstrained sites to constrained and deterministic ones."""
        potential = self._potential(model_args, model_kwargs)
        return potential.constrain if isinstance(potential, ModelPotential) else lambda z: z

    def get_constrain_fn(
        self, model_args: tuple, model_kwargs: dict[str, Any] | None
    ) -> Callable[[Any], Any]:
        """As `postprocess_fn` for the sites of z alone, whatever the others are: for Gibbs."""
        potential = self._potential(model_args, model_kwargs)
        return potential.constrain_own if isinstance(potential, ModelPotential) else lambda z: z

    def refresh(
        self, state: WalkKernelState, model_args: tuple, model_kwargs: dict[str, Any] | None
    ) -> WalkKernelState:
        """The state with energies and gradients at these arguments; the chain does not move."""
        potential = self._potential(model_args, model_kwargs)
        fresh = state.adaptation.walk(potential).init(state.z, state.rng_key)
        kernel = _with_energy(state.kernel, fresh)
        return state._replace(kernel=kernel, potential_energy=_energy(potential, kernel))

    def wrap_model(self, wrapper: Callable) -> "WalkKernel":
        """A copy on ``wrapper(model)``."""
        if self._model is None:
            raise InvalidArgumentError("a kernel on a potential_fn has no model to wrap.")
        kernel = copy.copy(self)
        kernel._model = wrapper(self._model)
        return kernel

    def _potential(self, model_args: tuple, model_kwargs: dict[str, Any] | None) -> Any:
        if self._model is None:
            return as_pytree(self._potential_fn)
        return model_potential(self._model, *model_args, **(model_kwargs or {}))

    def _start(
        self, potential: Any, keys: PRNGKey, init_params: Any, single: bool, kwargs: dict[str, Any]
    ) -> PyTree:
        """Start positions, chains along the first axis."""
        if isinstance(potential, ModelPotential):
            if init_params is None:
                return potential.start_at(keys, self._init_strategy)
            given = init_params
            if GIBBS_SITES_KWARG in kwargs:  # Gibbs gives constrained values
                given = potential.unconstrain(given)
            # A new function each time: JAX keeps the traces of old ones.
            shapes = jax.eval_shape(lambda p: p.somewhere(), potential)
            expected = {name: leaf.shape for name, leaf in shapes.items()}
        else:
            if init_params is None:
                raise InvalidArgumentError(
                    "init_params must be given with potential_fn: nothing says where to start."
                )
            given, expected = init_params, getattr(potential, "event_shape", None)
        dtype = jnp.result_type(float)
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), given)
        given = jax.tree.map(lambda leaf: leaf[None] if single else leaf, given)
        _check_shapes(given, expected)
        return given

    def _prepare(
        self, potential: Any, z: PyTree, rng_key: PRNGKey, num_warmup: int
    ) -> tuple[Walk, PyTree]:
        """The walk with its first tuning; an unadjusted one in the scale that MALA finds."""
        walk = self._walk
        num_chains = jax.tree.leaves(z)[0].shape[0]
        size = sum(leaf.size for leaf in jax.tree.leaves(z)) // num_chains
        if self._adapt_scale is None:
            walk(potential)
            return walk.resolve(getattr(potential, "sigma", None), size), z
        scale = unit_scale(self._adapt_scale, size, 1)
        if not walk.is_adjusted and num_warmup:
            scout = Preconditioned(MALA(), scale).resolve(None, size)
            states = engine.initialise(potential, scout, z, rng_key)
            adaptation = start_adaptation(scout, num_chains, num_warmup, step_size=True, scale=True)
            carry = engine.WarmUp(states, adaptation, jnp.zeros((), jnp.result_type(float)))
            none, all_steps = jnp.asarray(0), jnp.asarray(num_warmup)
            carry = engine.warm_up(potential, carry, rng_key, none, all_steps)
            scale, z = carry.adaptation.walk.scale, carry.states.position  # pyright: ignore
        walk = Preconditioned(walk, scale)
        walk(potential)
        return walk.resolve(None, size), z

    def _first(
        self, potential: Any, walk: Walk, num_warmup: int, key: PRNGKey, z: PyTree, rng_key: PRNGKey
    ) -> WalkKernelState:
        kernel = walk(potential).init(z, key)
        adaptation = start_adaptation(
            walk,
            1,
            num_warmup,
            step_size=self._walk.step_size is None and walk.target_acceptance is not None,
            scale=self._adapt_scale is not None and walk.is_adjusted,
        )
        zero = jnp.zeros((), jnp.result_type(float))
        return WalkKernelState(
            i=jnp.zeros((), jnp.int32),
            z=z,
            potential_energy=_energy(potential, kernel),
            accept_prob=zero,
            mean_accept_prob=zero,
            step_size=jnp.asarray(walk.step_size),
            diverging=jnp.zeros((), bool),
            nonfinite=jnp.zeros((), bool),
            kernel=kernel,
            adaptation=adaptation,
            num_warmup=jnp.asarray(num_warmup, jnp.int32),
            rng_key=rng_key,
        )


def from_mcmc(mcmc: MCMC) -> SampleResult:
    """What ``mcmc`` drew with a `WalkKernel`, for `neb_ppl.diagnostics` and plots.

    Parameters
    ----------
    mcmc : numpyro.infer.MCMC
        After ``run``.

    Returns
    -------
    SampleResult
        ``x``, and ``y``: latent and deterministic sites. Go on with ``mcmc.post_warmup_state``, not
        with ``result.state``.

    Raises
    ------
    InvalidArgumentError
        Another kernel, or nothing drawn yet.
    """
    if not isinstance(mcmc.sampler, WalkKernel) or mcmc.last_state is None:
        raise InvalidArgumentError(
            "mcmc must be numpyro.infer.MCMC(WalkKernel(...), ...) after run()."
        )
    sites = jax.tree.map(np.asarray, mcmc.get_samples(group_by_chain=True))
    fields = {n: np.asarray(f) for n, f in mcmc.get_extra_fields(group_by_chain=True).items()}
    state: WalkKernelState = mcmc.last_state
    walk = jax.tree.map(lambda leaf: np.ravel(leaf)[0], state.adaptation.walk)
    settings = describe(None, walk, None)
    info = {
        "lp": -fields["potential_energy"],
        "step_size": fields["step_size"],
        "diverging": fields["diverging"],
        "nonfinite": fields["nonfinite"].astype(np.int32),
    }
    if walk.is_adjusted:
        info["acceptance_rate"] = fields["accept_prob"]
    chains, draws = info["lp"].shape
    settings |= {
        "num_chains": chains,
        "num_samples": draws,
        "num_warmup": mcmc.num_warmup,
        "steps_per_jump": mcmc.thinning,
    }
    return SampleResult(sites, sites, info, state, settings)  # pyright: ignore


def _step(potential: Any, state: WalkKernelState) -> WalkKernelState:
    """One step of one chain, with the tuning that it has."""
    rng_key, key = jax.random.split(state.rng_key)
    walk = state.adaptation.walk
    kernel: Any
    kernel, info = walk(potential).step(key, state.kernel)
    stats = walk.stats(info)
    rate = jnp.asarray(stats.get("acceptance_rate", 1.0), state.accept_prob.dtype)
    is_warming = state.i < state.num_warmup
    since = jnp.where(is_warming, state.i, state.i - state.num_warmup) + 1
    mean = jnp.where(since == 1, 0.0, state.mean_accept_prob)
    return WalkKernelState(
        i=state.i + 1,
        z=kernel.position,
        potential_energy=_energy(potential, kernel),
        accept_prob=rate,
        mean_accept_prob=mean + (rate - mean) / since,
        step_size=jnp.asarray(walk.step_size),
        diverging=jnp.asarray(stats["diverging"]),
        nonfinite=jnp.asarray(stats.get("nonfinite", False)),
        kernel=kernel,
        adaptation=state.adaptation,
        num_warmup=state.num_warmup,
        rng_key=rng_key,
    )


def _tune(state: WalkKernelState, is_warming: Array, tune: Callable) -> WalkKernelState:
    """In warm-up, the tuning that follows from the step just made."""
    return jax.lax.cond(is_warming, tune, lambda same: same, state)


def _tune_one(state: WalkKernelState) -> WalkKernelState:
    made = state.i - 1
    batch = jax.tree.map(lambda leaf: leaf[None], state.kernel)
    adaptation, batch = adapt(state.adaptation, made, batch, state.accept_prob[None])
    is_last = made == state.num_warmup - 1
    walk = jax.tree.map(
        lambda new, old: jnp.where(is_last, new, old), finish(adaptation), adaptation.walk
    )
    return state._replace(
        kernel=jax.tree.map(lambda leaf: leaf[0], batch),
        adaptation=dataclasses.replace(adaptation, walk=walk),
        step_size=jnp.asarray(walk.step_size),
    )


def _split(keys: PRNGKey, count: int) -> PRNGKey:
    return jax.vmap(lambda key: jax.random.split(key, count))(keys)


def _energy(potential: Any, kernel: Any) -> Scalar:
    """The potential at the kernel's position, from the kernel where it keeps it."""
    known = getattr(kernel, "logdensity", None)
    return potential(kernel.position) if known is None else -known


def _with_energy(kernel: Any, fresh: Any) -> Any:
    """The kernel's state with the fresh one's energies; momenta and the rest stay."""
    names = ("logdensity", "logdensity_grad")
    kernel = kernel._replace(**{n: getattr(fresh, n) for n in names if hasattr(fresh, n)})
    if hasattr(kernel, "inner"):
        kernel = kernel._replace(inner=_with_energy(kernel.inner, fresh.inner))
    return kernel


def _check_shapes(given: PyTree, expected: Any) -> None:
    """Refuse start positions without a chain axis, before they are read as something else."""
    if expected is None:
        return
    named = given if isinstance(given, dict) else {"init_params": given}
    expected = expected if isinstance(expected, dict) else {"init_params": expected}
    if set(named) != set(expected):
        raise InvalidArgumentError(
            f"init_params has sites {sorted(named)}; the model's are {sorted(expected)}."
        )
    for name, shape in expected.items():
        seen = jnp.shape(named[name])
        if seen[1:] != shape:
            raise EventShapeError(
                f"init_params of {name} has shape {seen[1:]} for one chain; expected {shape}. With "
                "several chains, init_params have a leading chain axis: (num_chains, *shape)."
            )
