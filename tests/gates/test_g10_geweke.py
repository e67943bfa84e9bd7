"""G10: a learned energy of digits inside a NumPyro model, by Geweke's joint distribution test.

The joint law of (y, o) is drawn in two ways: y by MALA on the energy and o given y; and in turns, o
given y and y by MALA steps on the model's posterior given o. Six functions have the same means, abs
z < 5, if and only if the posterior that the plugin walks on is that of the model. Source: Geweke,
"Getting it right" (2004).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from gates.oracles import effective_size

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, energy_factor, model_potential

CHAINS, TURNS, STEPS, NOISE = 32, 1_000, 10, 0.3
KEY = jax.random.key(0)


def model(seen, energy, noise=NOISE):
    """The left half of a smoothed digit, with noise."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    numpyro.sample("seen", dist.Normal(y[:, :4], noise).to_event(2), obs=seen)


def loud(seen, energy):
    """The mutant whose noise is half as large again."""
    model(seen, energy, noise=1.5 * NOISE)


def twice(seen, energy):
    """The mutant that counts the prior twice."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    energy_factor("again", energy, y)
    numpyro.sample("seen", dist.Normal(y[:, :4], NOISE).to_event(2), obs=seen)


def functions(energy, y, seen):
    """Six functions of one (y, o)."""
    misfit = jnp.sum((seen - y[:, :4]) ** 2)
    return jnp.stack(
        [energy(y), jnp.sum(y**2), jnp.mean(y), y[3, 3], misfit, jnp.sum(seen * y[:, 4:])]
    )


def observe(key, y):
    return y[:, :4] + NOISE * jax.random.normal(key, (8, 4))


@jax.jit
def by_prior(energy, walk, start):
    """y by MALA on the energy, o given y."""
    algorithm = walk(energy)

    def turn(state, key):
        key_walk, key_seen = jax.random.split(key)
        for key_step in jax.random.split(key_walk, STEPS):
            state, _ = algorithm.step(key_step, state)
        seen = observe(key_seen, state.position)
        return state, functions(energy, state.position, seen)

    def chain(key, y):
        return jax.lax.scan(turn, algorithm.init(y), jax.random.split(key, TURNS))[1]

    return jax.vmap(chain)(jax.random.split(jax.random.key(1), CHAINS), start)


@jax.jit
def in_turns(potential, energy, walk, start):
    """o given y, then y by MALA on the posterior given o."""

    def turn(y, key):
        key_seen, key_walk = jax.random.split(key)
        seen = observe(key_seen, y)
        given = dataclasses.replace(potential, arrays=[seen, *potential.arrays[1:]])
        algorithm = walk(given)
        state = algorithm.init({"y": y})
        for key_step in jax.random.split(key_walk, STEPS):
            state, _ = algorithm.step(key_step, state)
        y = state.position["y"]
        return y, functions(energy, y, seen)

    def chain(key, y):
        return jax.lax.scan(turn, y, jax.random.split(key, TURNS))[1]

    return jax.vmap(chain)(jax.random.split(jax.random.key(2), CHAINS), start)


@pytest.fixture(scope="module")
def learned():
    x = neb.data.digits("train").x
    energy = neb.deen(KEY, (8, 8), 0.3)
    energy, _ = neb.fit(KEY, energy, x, num_steps=1_500, progress_bar=False)
    start = neb.start_at_data(KEY, energy, x, CHAINS)
    warm = neb.sample(KEY, energy, neb.MALA(), start, num_samples=100, steps_per_jump=5,
                      progress_bar=False)  # fmt: skip
    walk, start = warm.state.walk, warm.state.position
    return energy, start, walk, np.asarray(by_prior(energy, walk, start), np.float64)


def z_scores(learned, fitted):
    energy, start, walk, a = learned
    potential = model_potential(fitted, jnp.zeros((8, 4)), energy)
    b = np.asarray(in_turns(potential, energy, walk, start), np.float64)
    error = [draws.std(axis=(0, 1)) / np.sqrt(effective_size(draws)) for draws in (a, b)]
    return (a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) / np.hypot(*error)


def test_the_joint_law_is_the_same_both_ways(learned):
    assert np.abs(z_scores(learned, model)).max() < 5


@pytest.mark.parametrize("mutant", [pytest.param(loud, marks=pytest.mark.slow), twice])
def test_mutants_are_seen(learned, mutant):
    assert np.abs(z_scores(learned, mutant)).max() > 8
