"""One step of kinetic Langevin dynamics: words over A, B, O, and the exact frozen-force step.

Every function here has the signature ``(rng_key, y, v, here, target, step_size, friction) ->
(y, v, here)`` where ``here`` is ``(logdensity, score)`` at y, or ``(None, None)``.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from neb_ppl.types import Array, PRNGKey, PyTree, Scalar
from neb_ppl.walks.base import noise_like

__all__ = ["exact_ou", "keeps_score", "splitting"]

UNKNOWN = (None, None)


def splitting(scheme: str) -> Callable[..., tuple[PyTree, PyTree, tuple]]:
    r"""A step that composes the exact flows of drift, kick and Ornstein-Uhlenbeck in turn.

    A: :math:`y \mathrel{+}= v\,\delta/n_A`; B: :math:`v \mathrel{-}= \nabla\phi(y)\,\delta/n_B`;
    O: :math:`v = \eta v + \sqrt{1 - \eta^2}\,\xi`, :math:`\eta = e^{-\gamma\delta/n_O}`, with
    :math:`n` the number of times the letter occurs. A gradient is evaluated only where y moved
    since the last one.
    """
    share = {letter: 1 / scheme.count(letter) for letter in "ABO"}

    def step(rng_key, y, v, here, target, step_size, friction):
        keys = _keys(rng_key, scheme.count("O"))
        for letter in scheme:
            duration = step_size * share[letter]
            if letter == "A":
                y, here = _axpy(duration, v, y), UNKNOWN
            elif letter == "B":
                here = target(y) if here[1] is None else here
                v = _axpy(duration, here[1], v)
            else:
                decay = jnp.exp(-friction * duration)
                spread = jnp.sqrt(-jnp.expm1(-2 * friction * duration))
                noise = noise_like(next(keys), v)
                v = jax.tree.map(lambda a, n, d=decay, s=spread: d * a + s * n, v, noise)
        return y, v, here

    return step


def keeps_score(scheme: str) -> bool:
    """Whether a step ends with the score at its final position known."""
    return scheme.rfind("B") > scheme.rfind("A")


def exact_ou(rng_key, y, v, here, target, step_size, friction):
    r"""Cheng et al.'s step: the dynamics solved exactly with the gradient frozen at y.

    With :math:`a = \gamma\delta`, :math:`m = 1 - e^{-a}` the noise of (y, v) is Gaussian with
    variances :math:`(2(a - m) - m^2)/\gamma^2` and :math:`1 - e^{-2a}` and covariance
    :math:`m^2/\gamma`.
    """
    score = here[1]
    a = friction * step_size
    m = -jnp.expm1(-a)
    var_v = -jnp.expm1(-2 * a)
    slope = m**2 / (friction * var_v)
    spread = jnp.sqrt(jnp.maximum(_drift_variance(a) / friction**2 - slope**2 * var_v, 0.0))
    key_v, key_y = jax.random.split(rng_key)
    noise_v = jax.tree.map(lambda n: jnp.sqrt(var_v) * n, noise_like(key_v, v))
    to_y = (step_size - m / friction) / friction

    def drift(y, v, score, noise_v, noise_y):
        return y + (m / friction) * v + to_y * score + slope * noise_v + spread * noise_y

    new_y = jax.tree.map(drift, y, v, score, noise_v, noise_like(key_y, y))
    new_v = jax.tree.map(lambda v, g, n: (1 - m) * v + (m / friction) * g + n, v, score, noise_v)
    return new_y, new_v, target(new_y)


def _drift_variance(a: Scalar) -> Scalar:
    """``2(a - m) - m^2``, by its series where the terms cancel: it is 2 a^3 / 3 for small a."""
    m = -jnp.expm1(-a)
    coefficients = []
    factorial = 2.0
    for k in range(3, 16):
        factorial *= k
        coefficients.append((-1) ** k * (4.0 - 2.0**k) / factorial)
    small = jnp.minimum(a, 0.5)
    series = jnp.zeros_like(a)
    for coefficient in reversed(coefficients):
        series = series * small + coefficient
    return jnp.where(a < 0.5, series * small**3, 2 * (a - m) - m**2)


def _keys(rng_key: PRNGKey, count: int):
    return iter([rng_key] if count == 1 else jax.random.split(rng_key, count))


def _axpy(factor: Array, x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: b + factor * a, x, y)
