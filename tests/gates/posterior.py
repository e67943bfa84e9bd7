"""A learned-prior model whose posterior is known: by quadrature over y and a gain."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from gates.oracles import effective_size

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity

ENERGY = neb.gaussian_mixture(
    [0.6, 0.4], [[-1.0, 0.0], [1.0, 1.0]], [[[0.2, 0.0], [0.0, 0.1]]] * 2, 0.3
)
SEEN = jnp.asarray(0.7)


def model(seen=None, energy=ENERGY):
    """Y from a mixture, a gain, and one noisy number of their product."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
    numpyro.deterministic("x", neb.bayes_estimator(energy, y))
    numpyro.sample("seen", dist.Normal(gain * y.sum(), 0.3), obs=seen)


def functions(y, gain):
    """What is compared: y, its squares, and the gain, one column each."""
    columns = [y[..., 0], y[..., 1], y[..., 0] ** 2, y[..., 1] ** 2, gain, gain**2]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=-1)


def truth():
    """Posterior means of `functions`, by the trapezoid rule on 120 x 120 x 160 points."""
    axis, logs = np.linspace(-4, 4, 120), np.linspace(-2.5, 2.5, 160)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = -np.asarray(jax.vmap(ENERGY)(jnp.asarray(grid)), np.float64)
    gain = np.exp(logs)
    log_joint = (
        prior[:, None] - logs**2 / (2 * 0.25) - (0.7 - grid.sum(1)[:, None] * gain) ** 2 / 0.18
    )
    weights = np.exp(log_joint - log_joint.max())
    weights /= weights.sum()
    values = functions(
        np.broadcast_to(grid[:, None], (len(grid), len(gain), 2)),
        np.broadcast_to(gain, (len(grid), len(gain))),
    )
    return np.einsum("ij,ijk->k", weights, values)


def z_scores(y, gain):
    """Of draws (chains, draws, ...) against the truth, errors by effective sample size."""
    draws = functions(y, gain)
    error = draws.std(axis=(0, 1)) / np.sqrt(effective_size(draws))
    return (draws.mean(axis=(0, 1)) - truth()) / error
