"""Learned convolutional energies on MNIST: denoising errors, and walks that stay digits."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.diagnostics import diagnose

LIMITS = {0.3: 0.0042, 0.5: 0.0077, 1.0: 0.0205}


def images(split: str) -> np.ndarray:
    try:
        return neb.data.mnist(split).x
    except neb.errors.DataNotFoundError as error:
        pytest.skip(f"MNIST is not here: {error}")


@lru_cache
def trained(sigma: float) -> neb.NeuralEnergy:
    energy = neb.deen(jax.random.key(0), (28, 28), sigma)
    energy, _ = neb.fit(
        jax.random.key(1), energy, images("train"), num_steps=7_600, batch_size=32,
        learning_rate=3e-3, progress_bar=False,
    )  # fmt: skip
    return energy


@lru_cache
def refined() -> neb.NeuralEnergy:
    return neb.refine(jax.random.key(2), trained(0.3), images("train"), progress_bar=False)[0]


def error(energy: neb.NeuralEnergy) -> float:
    """Squared error per pixel on 1,000 test images, mean of five draws of the noise."""
    loss, test = jax.jit(neb.denoising_loss), jnp.asarray(images("test")[:1_000])
    return float(np.mean([loss(energy, jax.random.key(i), test) for i in range(5)]))


def walk_from_noise(energy: neb.NeuralEnergy, num_samples: int) -> neb.SampleResult:
    """Eight chains of the default walk, a jump every 100 steps."""
    start = neb.start_at_noise(jax.random.key(3), energy, 8)
    return neb.sample(
        jax.random.key(4), energy, neb.KineticLangevin(), start, num_samples=num_samples,
        steps_per_jump=100, progress_bar=False,
    )  # fmt: skip


def ink(x) -> np.ndarray:
    return np.asarray(x).sum(axis=(-2, -1))


@pytest.mark.slow
@pytest.mark.parametrize("sigma", LIMITS)
def test_denoising_error(sigma):
    """Limits at .3 and .5 are the goals; at 1 it is the pilot's .0198 with 4 % to spare."""
    assert error(trained(sigma)) <= LIMITS[sigma]


@pytest.mark.slow
def test_a_refined_walk_from_noise_stays_on_digits():
    """6,000 steps: ink as in the data, where the walk on the energy before left none.

    Ink of 99 % of test images lies between 33 and 199. Of eight chains' last forty jumps, one in
    ten may lie outside; the mean of eight chains, each of deviation 42, within 3 errors.
    """
    before = ink(walk_from_noise(trained(0.3), 20).x)[:, 10:]
    assert np.median(before) < 10
    after = ink(walk_from_noise(refined(), 60).x)[:, 20:]
    data = ink(images("test"))
    low, high = np.quantile(data, [0.005, 0.995])
    assert ((after < low) | (after > high)).mean() < 0.1
    assert abs(after.mean() - data.mean()) < 3 * data.std() / np.sqrt(8)


@pytest.mark.slow
def test_refinement_costs_hardly_any_denoising():
    assert error(refined()) < 1.02 * error(trained(0.3))


@pytest.mark.slow
def test_diagnose_tells_the_two_walks_apart():
    """The energies that a trained energy remembers of its data are enough."""
    assert "no data are" in str(diagnose(walk_from_noise(trained(0.3), 40)))
    assert "no data are" not in str(diagnose(walk_from_noise(refined(), 40)))
