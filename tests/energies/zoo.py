"""One energy of every kind, small and untrained."""

import jax
import jax.numpy as jnp
import numpy as np

import neb_ppl as neb

SHAPE = (2, 3)


def network(**settings):
    return neb.MLP(hidden=8, blocks=1, **settings)


def build(name, sigma=0.4, seed=0):
    """An energy by name; another seed gives other leaves of the same shapes."""
    key = jax.random.key(seed)
    x = np.random.default_rng(seed).normal(size=(20, *SHAPE))
    params = jnp.arange(1.0, 7.0).reshape(SHAPE) + seed
    return {
        "mixture": lambda: neb.gaussian_mixture([0.7, 0.3], x[:2], np.ones(2), sigma),
        "kernel density": lambda: neb.kernel_density(x, sigma, chunk_size=8),
        "network": lambda: neb.deen(key, SHAPE, sigma, network=network()),
        "noise level": lambda: neb.noise_conditional(
            key, SHAPE, (0.1, 1.0), network=network(conditional=True)
        ).at(sigma),
        "variational": lambda: neb.uvb(key, SHAPE, sigma, network=neb.VAE(2, hidden=8)),
        "convex": lambda: neb.convex(key, SHAPE, sigma, hidden=8),
        "foreign": lambda: neb.from_energy(
            weighted, sigma, params=params, shift=0.5, scale=2.0, event_shape=SHAPE
        ),
    }[name]()


def weighted(params, u):
    return 0.5 * jnp.sum(params * u**2)


NAMES = [
    "mixture",
    "kernel density",
    "network",
    "noise level",
    "variational",
    "convex",
    "foreign",
]
