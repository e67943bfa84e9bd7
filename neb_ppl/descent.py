"""Down the energy by L-BFGS, to the bottom of the basin that a start is in, or to a saddle."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from neb_ppl.energies.base import SmoothedEnergy
from neb_ppl.estimators import lanczos
from neb_ppl.types import Array, Bool, Event, Float, Int, Scalar

__all__ = ["Descent", "curvature_at", "descend"]

DENSE_SIZE = 128
LANCZOS_STEPS = 40


class Descent(NamedTuple):
    """Where it ends.

    Attributes
    ----------
    y : array, shape ``(*event,)``
    gradient_norm : scalar array
        Root mean square over entries, times sigma: without units.
    num_steps : int array
    converged : bool array
    """

    y: Event
    gradient_norm: Scalar
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]


def descend(
    energy: SmoothedEnergy, initial: Event, max_steps: int, tolerance: float | Scalar
) -> Descent:
    """Minimise the energy from one start, until the gradient's norm is below `tolerance`.

    Source: Liu and Nocedal (1989), by optax.
    """
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(energy)

    def norm(gradient: Array) -> Array:
        return energy.sigma * jnp.sqrt(jnp.mean(gradient**2))

    def step(carry: tuple) -> tuple:
        y, state, _, count = carry
        phi, gradient = value_and_grad(y, state=state)
        updates, state = optimizer.update(
            gradient, state, y, value=phi, grad=gradient, value_fn=energy
        )
        y = optax.apply_updates(y, updates)
        return y, state, norm(optax.tree.get(state, "grad")), count + 1

    def goes_on(carry: tuple) -> Array:
        _, _, size, count = carry
        return (count < max_steps) & (size > tolerance)

    start = initial, optimizer.init(initial), norm(-energy.score(initial)), 0
    y, _, size, count = jax.lax.while_loop(goes_on, step, start)
    return Descent(y, size, jnp.asarray(count), size <= tolerance)


def curvature_at(energy: SmoothedEnergy, y: Event) -> tuple[Scalar, Scalar]:
    """Smallest and largest eigenvalue of sigma^2 times the Hessian.

    One Hessian product an entry; beyond 128 entries 40, by Lanczos, whose values lie between them.
    """
    _, product = jax.linearize(jax.grad(energy), y)

    def flat(v: Float[Array, " d"]) -> Float[Array, " d"]:
        return energy.sigma**2 * jnp.ravel(product(v.reshape(y.shape)))

    if y.size <= DENSE_SIZE:
        hessian = jax.vmap(flat)(jnp.eye(y.size, dtype=y.dtype))
        eigenvalues = jnp.linalg.eigvalsh(0.5 * (hessian + hessian.T))
        return eigenvalues[0], eigenvalues[-1]
    start = jax.random.normal(jax.random.key(0), (y.size,), y.dtype)
    eigenvalues, _, _ = lanczos(flat, start, LANCZOS_STEPS)
    return eigenvalues[0], eigenvalues[-1]
