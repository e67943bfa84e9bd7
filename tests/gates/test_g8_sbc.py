"""G8: simulation-based calibration of an exact smoothed prior in a NumPyro model.

Draw (y, gain) from the prior and data from the model, then 99 thinned posterior draws: the rank of
the truth among them is uniform (Talts et al. 2018). The largest distance of the ranks' ECDF from
uniform stays inside the Kolmogorov band of 99.99 %, shared by five quantities, the log-likelihood
among them: without it a dropped likelihood would pass (Modrak et al. 2023).
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from gates.posterior import ENERGY
from scipy import stats

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, sample_model

LEVEL = 1e-4
NOISE = 0.3


def model(seen, energy=ENERGY):
    """Two noisy products of a gain and of Y."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
    numpyro.sample("seen", dist.Normal(gain * y, NOISE).to_event(1), obs=seen)


def blind(seen, energy=ENERGY):
    """The mutant without a likelihood."""
    numpyro.sample("y", SmoothedDensity(energy))
    numpyro.sample("gain", dist.LogNormal(0.0, 0.5))


def twice(seen, energy=ENERGY):
    """The mutant that counts the prior twice."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    numpyro.factor("again", -energy(y))
    gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
    numpyro.sample("seen", dist.Normal(gain * y, NOISE).to_event(1), obs=seen)


def quantities(y, gain, seen):
    """Five numbers of each draw: y, the gain, its energy and its log-likelihood."""
    y = np.asarray(y).reshape(-1, 2)
    gain = np.asarray(gain).ravel()
    misfit = -0.5 * ((seen - gain[:, None] * y) ** 2).sum(axis=1) / NOISE**2
    phi = np.asarray(jax.vmap(ENERGY)(jnp.asarray(y)))
    return np.column_stack([y, gain, phi, misfit])


def ranks(fitted, count, energy=ENERGY):
    """Ranks in (0, 1), ties and steps broken at random: exactly uniform where all is right."""
    keys = jax.random.split(jax.random.key(0), 4)
    y = np.asarray(ENERGY.sample(keys[0], (count,)))
    gain = np.exp(0.5 * np.asarray(jax.random.normal(keys[1], (count,))))
    noise = NOISE * np.asarray(jax.random.normal(keys[2], (count, 2)))
    seen = (gain[:, None] * y + noise).astype(np.float32)
    rng, out = np.random.default_rng(0), []
    for i in range(count):
        result = sample_model(
            jax.random.fold_in(keys[3], i), fitted, neb.NUTS(), args=(seen[i], energy),
            num_chains=3, num_samples=33, num_warmup=300, steps_per_jump=10, progress_bar=False,
        )  # fmt: skip
        truth = quantities(y[i], gain[i], seen[i])
        below = (quantities(result.x["y"], result.x["gain"], seen[i]) < truth).sum(axis=0)
        out.append((below + rng.random(5)) / 100)
    return np.array(out)


def p_values(found):
    return np.array([stats.kstest(column, "uniform").pvalue for column in found.T])


def test_ranks_are_uniform():
    """A fifth of the simulations, and the plainest mutant."""
    assert p_values(ranks(model, 100)).min() > LEVEL / 5
    assert p_values(ranks(blind, 100)).min() < LEVEL / 5


@pytest.mark.slow
def test_ranks_of_500_simulations_are_uniform():
    assert p_values(ranks(model, 500)).min() > LEVEL / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "fitted, energy",
    [(blind, ENERGY), (twice, ENERGY), (model, ENERGY.at(1.5 * 0.3))],
    ids=["likelihood dropped", "prior counted twice", "sigma off by half"],
)
def test_mutants_are_not(fitted, energy):
    assert p_values(ranks(fitted, 500, energy)).min() < LEVEL / 5
