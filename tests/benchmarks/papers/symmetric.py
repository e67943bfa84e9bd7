"""A feed-forward network whose Jacobian is made symmetric, and what is left of its features."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import neb_ppl as neb
from neb_ppl._pytree import value
from neb_ppl.diagnostics import asymmetry
from neb_ppl.energies.layers import Dense
from neb_ppl.energies.modules import build_module

__all__ = ["PENALTIES", "bends", "blocks", "exactly", "penalised"]

PENALTIES = {"corners": (0.0, 1.0, 10.0, 100.0, 1e3, 1e4), "digits": (0.0, 1.0, 10.0, 100.0)}


def corners() -> neb.GaussianMixtureEnergy:
    """Five modes in four dimensions, in general position: several features are needed."""
    directions = np.vstack([np.eye(4), -np.ones(4) / 2])
    return neb.gaussian_mixture([0.3, 0.25, 0.2, 0.15, 0.1], 2 * directions, np.full(5, 0.05), 0.6)


@dataclasses.dataclass(frozen=True)
class Plain:
    """``U = c^2 u + sigma c psi(c u)`` with psi feed-forward, without skips.

    The multiple of u is symmetric and the best linear estimator's; psi has the rest to itself, so
    that symmetric means symmetric psi.
    """

    widths: tuple[int, ...]
    name: ClassVar[str] = "plain"

    def build(self, event_shape: tuple[int, ...], rngs: nnx.Rngs) -> "PlainModule":
        return PlainModule(self.widths, int(np.prod(event_shape)), rngs)


class PlainModule(nnx.Module):
    def __init__(self, widths: tuple[int, ...], size: int, rngs: nnx.Rngs):
        sizes = (size, *widths, size)
        self.layers = nnx.List([Dense(a, b, rngs=rngs) for a, b in pairwise(sizes)])

    def psi(self, u: jax.Array) -> jax.Array:
        return self.after(self.layers[0](u))

    def after(self, h: jax.Array) -> jax.Array:
        """Psi as a function of what enters the first hidden layer's activation."""
        for layer in self.layers[1:]:
            h = layer(jnp.tanh(h))
        return h

    def __call__(self, u: jax.Array, sigma: jax.Array) -> jax.Array:
        c = 1 / jnp.sqrt(1 + sigma**2)
        return c**2 * u + sigma * c * self.psi(c * u.ravel()).reshape(u.shape)


@value
class SymmetricLoss:
    r"""Denoising risk over sigma^2, and ``weight / d * |J - J^T|_F^2`` of the estimator, probed."""

    keeps_best: ClassVar[bool] = False
    learns_from_y: ClassVar[bool] = False
    weight: jax.Array

    def init(self, rng_key, model, x):
        return None

    def advance(self, rng_key, model, x, state):
        return state

    def __call__(self, rng_key, model, x, state):
        key_risk, key_noise, key_probe = jax.random.split(rng_key, 3)
        y = neb.smooth(key_noise, x, model.sigma)
        probes = jax.random.rademacher(key_probe, y.shape, y.dtype)

        def odd(y, v):
            estimate = lambda y: neb.bayes_estimator(model, y)  # noqa: E731
            _, forward = jax.jvp(estimate, (y,), (v,))
            (backward,) = jax.vjp(estimate, y)[1](v)
            return jnp.mean((forward - backward) ** 2)

        penalty = jnp.mean(jax.vmap(odd)(y, probes))
        risk = self.risk(model, key_risk, x)
        return risk / model.sigma**2 + self.weight * penalty, {"odd": penalty}

    def risk(self, model, rng_key, x):
        return neb.denoising_loss(model, rng_key, x)


def share(matrix: np.ndarray) -> float:
    """Of squared singular values, the largest's part: 1 where all columns are parallel."""
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    return float(squares[0] / squares.sum())


def bends(estimate: Callable, y: jax.Array) -> dict[str, float]:
    """Of the Jacobian less its mean, which affine maps have nothing of: size, asymmetry, share.

    Share is that of the first of the input directions: 1 where psi sees one feature alone.
    """
    jacobians = np.asarray(jax.jit(jax.vmap(jax.jacfwd(estimate)))(y), np.float64)
    rest = jacobians - jacobians.mean(axis=0)
    odd, even = rest - rest.swapaxes(1, 2), rest + rest.swapaxes(1, 2)
    return {
        "bend": float(np.sqrt(np.mean(np.sum(rest**2, axis=(1, 2))))),
        "asymmetry of bends": float(np.linalg.norm(odd) / np.linalg.norm(even)),
        "share": share(rest.reshape(-1, y.shape[1])),
    }


def entering(model: Any, y: jax.Array) -> tuple[Any, jax.Array]:
    """The module, and what enters the first hidden layer's activation."""
    module = build_module(model.network, model.event_shape, model.weights)
    c = 1 / jnp.sqrt(1 + (model.sigma / model.scale.scale) ** 2)
    return module, jax.vmap(module.layers[0])(c * model.scale.to_network(y))


def used_weights(model: Any, y: jax.Array) -> np.ndarray:
    """Input weights, each unit's times its use: dead units and units used linearly count nothing.

    Use is the deviation over places of the derivative of psi in what enters the unit.
    """
    module, h = entering(model, y)
    derivatives = np.asarray(jax.jit(jax.vmap(jax.jacfwd(module.after)))(h))
    use = np.sqrt(np.sum(derivatives.var(axis=0), axis=0))
    return np.asarray(module.layers[0].kernel[...]) * use


def second_layer(model: Any, y: jax.Array) -> float:
    """Part of the bends that goes where the second hidden layer is made linear.

    Its derivatives are replaced by their means: 0 says that there is one hidden layer in effect.
    """
    module, h = entering(model, y)
    first, second, last = (np.asarray(layer.kernel[...]) for layer in module.layers)
    slopes = 1 - np.tanh(np.asarray(h)) ** 2
    after = 1 - np.tanh(np.asarray(jax.vmap(module.layers[1])(jnp.tanh(h)))) ** 2
    inner = (first * slopes[:, None]) @ second
    whole = (inner * after[:, None]) @ last
    frozen = (inner * after.mean(axis=0)) @ last
    lost = (whole - whole.mean(axis=0)) - (frozen - frozen.mean(axis=0))
    return float(np.mean(lost**2) / np.mean((whole - whole.mean(axis=0)) ** 2))


class Problem(NamedTuple):
    """Training data, noisy places, and what an estimate there is compared with."""

    x: np.ndarray
    y: jax.Array
    target: jax.Array
    sigma: float
    widths: dict[int, tuple[int, ...]]
    steps: int


def problem(name: str) -> Problem:
    """Corners, with the exact estimate as target; or flat digits, with the clean ones."""
    if name == "digits":
        x, clean = (neb.data.digits(split).x.reshape(-1, 64) for split in ("train", "test"))
        y = neb.smooth(jax.random.key(6), jnp.asarray(clean), 0.3)
        return Problem(x, y, jnp.asarray(clean), 0.3, {2: (64, 64), 1: (128,)}, 2_000)
    exact = corners()
    x = np.asarray(exact.sample_clean(jax.random.key(4), (20_000,)))
    y = exact.sample(jax.random.key(6), (2_000,))
    target = jax.vmap(exact.posterior_mean)(y)
    return Problem(x, y, target, float(exact.sigma), {2: (32, 32), 1: (64,)}, 6_000)


def penalised(name: str, layers: int, weight: float, seed: int) -> dict:
    """A plain network trained under a penalty, and what became of its features."""
    x, y, target, sigma, widths, steps = problem(name)
    network, loss = Plain(widths[layers]), SymmetricLoss(jnp.asarray(weight))
    model = neb.score_network(jax.random.key(seed), y.shape[1:], sigma, network=network)
    model, _ = neb.fit(jax.random.key(5), model, x, loss=loss, num_steps=steps, progress_bar=False)
    estimate = lambda y: neb.bayes_estimator(model, y)  # noqa: E731
    errors = np.mean(np.asarray(target - jax.vmap(estimate)(y)) ** 2, axis=1)
    places = y[:200] if name == "digits" else y[:500]
    ratio = asymmetry(jax.random.key(7), model, places)
    return {
        "hidden layers": layers,
        "penalty": weight,
        "seed": seed,
        "error": float(errors.mean()),
        "standard error": float(errors.std() / len(y) ** 0.5),
        "asymmetry": ratio.ratio,
        "share of weights": share(used_weights(model, places)),
        "second layer": second_layer(model, places) if layers == 2 else 0.0,
        **bends(estimate, places),
    }


def exactly() -> dict:
    """What the exact score of the corners has, and the excess of the best affine estimator."""
    exact = corners()
    y = exact.sample(jax.random.key(6), (2_000,))
    covariance = exact.covariance()
    gain = jnp.eye(4) - exact.sigma**2 * jnp.linalg.inv(covariance)
    affine = exact.mean() + (y - exact.mean()) @ gain
    gap = affine - jax.vmap(exact.posterior_mean)(y)
    return {"affine": float(jnp.mean(gap**2))} | bends(exact.posterior_mean, y[:500])


def blocks(mixing: float) -> dict:
    """Two hidden layers that do not mix two features, ``psi_i = tanh(tanh(u_i))``, then mixed.

    Symmetric, with input weights at right angles: the theorem is of networks without such zeros.
    """
    turn = jnp.eye(2) + mixing * jnp.array([[0.3, 1.0], [-0.6, 0.2]])
    psi = lambda y: jnp.tanh(turn @ jnp.tanh(y))  # noqa: E731
    return bends(psi, jax.random.normal(jax.random.key(8), (500, 2)))
