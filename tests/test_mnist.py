"""Learned convolutional energies on MNIST: denoising errors on the first 1,000 test images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb

LIMITS = {0.3: 0.0042, 0.5: 0.0077, 1.0: 0.0205}


@pytest.mark.slow
@pytest.mark.parametrize("sigma", LIMITS)
def test_denoising_error(sigma):
    """Limits at .3 and .5 are the goals; at 1 it is the pilot's .0198 with 4 % to spare."""
    try:
        train, test = neb.data.mnist("train").x, neb.data.mnist("test").x[:1_000]
    except neb.errors.DataNotFoundError as error:
        pytest.skip(f"MNIST is not here: {error}")
    energy = neb.deen(jax.random.key(0), (28, 28), sigma)
    energy, _ = neb.fit(
        jax.random.key(1), energy, train, num_steps=7_600, batch_size=32, learning_rate=3e-3,
        progress_bar=False,
    )  # fmt: skip
    loss = jax.jit(neb.denoising_loss)
    errors = [float(loss(energy, jax.random.key(i), jnp.asarray(test))) for i in range(5)]
    assert np.mean(errors) <= LIMITS[sigma]
