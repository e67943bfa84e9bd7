"""A walk in coordinates in which the target has about unit scale."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Self

import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular

from neb_ppl._pytree import value
from neb_ppl.types import Array, PRNGKey, PyTree, Scalar
from neb_ppl.walks.base import Walk, WalkTarget

__all__ = ["Preconditioned", "PreconditionedState", "Scale", "unit_scale"]

Scale = Literal["auto", "diagonal", "dense"]

DENSE_DIMENSIONS, POOLED_CHAINS = 16, 4


class PreconditionedState(NamedTuple):
    """Where the chain is in y, and the inner walk's own state in u."""

    position: PyTree
    logdensity: Scalar
    inner: Any


@value
class Preconditioned(Walk):
    r"""Another walk, run on :math:`u = L^{-1} y`: the mass matrix of Hamiltonian walks, for all.

    Step sizes are those in u, with defaults for unit scale. Needs an energy or a potential.

    Attributes
    ----------
    walk : Walk
    scale : array, shape ``(d,)`` or ``(d, d)``
        Diagonal of L (standard deviations of y), or L itself, lower triangular (a Cholesky factor
        of the covariance of y), in the order of `jax.flatten_util.ravel_pytree`.

    Notes
    -----
    Cost beside the walk's: d multiplications a gradient, or two products with L.
    """

    walk: Walk
    scale: Any

    @property
    def step_size(self) -> Any:
        """The inner walk's."""
        return self.walk.step_size

    @property
    def is_adjusted(self) -> bool:
        """The inner walk's."""
        return self.walk.is_adjusted

    @property
    def target_acceptance(self) -> float | None:
        """The inner walk's."""
        return self.walk.target_acceptance

    @property
    def name(self) -> str:
        """The inner walk's."""
        return self.walk.name

    def tuning(self) -> dict[str, Any]:
        """The inner walk's."""
        return self.walk.tuning()

    def defaults(self, sigma: Scalar, size: int) -> dict[str, Any]:
        """The inner walk's."""
        return self.walk.defaults(sigma, size)

    def with_step_size(self, step_size: Scalar) -> Self:
        """The same walk with another step size."""
        return dataclasses.replace(self, walk=self.walk.with_step_size(step_size))

    def resolve(self, sigma: Scalar | None, size: int | None) -> Self:
        """Defaults of the inner walk at unit scale, whatever the model's sigma."""
        one = jnp.ones((), self.scale.dtype)
        return dataclasses.replace(self, walk=self.walk.resolve(one, self.scale.shape[0]))

    def validate(self) -> None:
        """The inner walk's tuning."""
        self.walk.validate()

    def stats(self, info: Any) -> dict[str, Array]:
        """The inner walk's."""
        return self.walk.stats(info)

    def algorithm(self, model: WalkTarget) -> SamplingAlgorithm:
        """The inner walk's algorithm on the potential ``u -> model(L u)``."""

        def inner(unravel: Callable[[Array], PyTree]) -> SamplingAlgorithm:
            return self.walk.algorithm(lambda u: model(unravel(stretch(self.scale, u))))  # pyright: ignore

        def init(position: PyTree, rng_key: PRNGKey | None = None) -> PreconditionedState:
            flat, unravel = ravel_pytree(position)
            state: Any = inner(unravel).init(shrink(self.scale, flat), rng_key)
            return PreconditionedState(position, state.logdensity, state)

        def step(rng_key: PRNGKey, state: Any) -> tuple[PreconditionedState, Any]:
            _, unravel = ravel_pytree(state.position)
            moved: Any
            moved, info = inner(unravel).step(rng_key, state.inner)
            position = unravel(stretch(self.scale, moved.position))
            return PreconditionedState(position, moved.logdensity, moved), info

        return SamplingAlgorithm(init, step)

    def rebase(self, state: PreconditionedState, scale: Array) -> PreconditionedState:
        """The same state for another L. Linear: no gradient is evaluated."""
        inner = state.inner._replace(position=shrink(scale, ravel_pytree(state.position)[0]))
        if inner.logdensity_grad is not None:
            gradient = shrink_transposed(self.scale, inner.logdensity_grad)
            inner = inner._replace(logdensity_grad=stretch_transposed(scale, gradient))
        return state._replace(inner=inner)


def unit_scale(kind: Scale, size: int, num_chains: int) -> Array:
    """L of the identity, as a vector or a matrix.

    "auto" is a matrix up to 16 dimensions for one chain and 64 for four or more, whose warm-up is
    pooled: the last of Stan's windows has some 500 draws of each, and a covariance wants several
    effective draws a dimension.
    """
    if kind == "auto":
        limit = DENSE_DIMENSIONS * min(num_chains, POOLED_CHAINS)
        kind = "dense" if size <= limit else "diagonal"
    ones = jnp.ones(size, jnp.result_type(float))
    return ones if kind == "diagonal" else jnp.diag(ones)


def stretch(scale: Array, u: Array) -> Array:
    """L u."""
    return scale * u if scale.ndim == 1 else jnp.dot(scale, u, precision="highest")


def shrink(scale: Array, y: Array) -> Array:
    """L^{-1} y."""
    return y / scale if scale.ndim == 1 else solve_triangular(scale, y, lower=True)


def stretch_transposed(scale: Array, gradient: Array) -> Array:
    """L^T g: a gradient in y as one in u."""
    return scale * gradient if scale.ndim == 1 else jnp.dot(scale.T, gradient, precision="highest")


def shrink_transposed(scale: Array, gradient: Array) -> Array:
    """L^{-T} g: a gradient in u as one in y."""
    if scale.ndim == 1:
        return gradient / scale
    return solve_triangular(scale, gradient, lower=True, trans=1)
