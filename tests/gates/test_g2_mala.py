"""G2: MALA on the exact smoothed mixture, and seven broken kernels that must fail.

16 chains from exact draws of y; effective sample size at least 600; acceptance .5 to .7. Then

- first and second moments along 8 fixed directions and the component weights: abs z < 5. Under
  normal theory 19 two-sided tests at 5 fail in about 1e-5 of runs;
- Kolmogorov-Smirnov tests of 8 fixed projections on thinned draws: each p > 1e-5;
- sliced squared 2-Wasserstein distance to fresh exact draws below the 99.9 % quantile of the same
  distance between exact sets of the same size. Its failure rate is 1e-3 where the others' is 1e-5
  to 1e-4: a fixed seed meets it or not, once.

Mutants run through the same function, with the same kernel but for the named fault.
"""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import (
    directions,
    effective_size,
    mixture,
    projected_cdf,
    responsibilities,
    sliced_wasserstein,
    z_of_means,
)
from scipy import stats

import neb_ppl as neb
from neb_ppl._pytree import static, value

SIGMA, CHAINS, DRAWS = 0.5, 16, 1_500


def draw(d: int, walk, steps_per_jump: int):
    energy = mixture(d, SIGMA)
    start = energy.sample(jax.random.key(1), (CHAINS,))
    result = neb.sample(
        jax.random.key(2),
        energy,
        walk,
        start,
        num_samples=DRAWS,
        steps_per_jump=steps_per_jump,
        progress_bar=False,
    )
    return energy, result


def failures(energy, y: np.ndarray) -> list[str]:
    """Which of the gate's statistics refuse draws (chains, draws, d)."""
    vectors = directions(y.shape[2])
    projections = y.astype(np.float64) @ vectors
    found = []
    mean = np.asarray(energy.mean()) @ vectors
    second = mean**2 + np.einsum("ip,ij,jp->p", vectors, np.asarray(energy.covariance()), vectors)
    weights = np.exp(np.asarray(energy.log_weights))
    for name, draws, truth in (
        ("mean", projections, mean),
        ("second moment", projections**2, second),
        ("component weights", responsibilities(energy, y), weights),
    ):
        if not np.all(np.abs(z_of_means(draws, truth)) < 5):
            found.append(name)
    ess = float(effective_size(projections).min())
    if ess < 600:
        found.append(f"ESS {ess:.0f}")
    gap = max(1, int(np.ceil(2 * CHAINS * y.shape[1] / ess)))
    thinned = projections[:, ::gap].reshape(-1, vectors.shape[1])
    for column, vector in zip(thinned.T, vectors.T, strict=True):
        if stats.kstest(column, projected_cdf(energy, vector)).pvalue <= 1e-5:
            found.append("KS")
    return found + _wasserstein(energy, y[:, ::gap].reshape(-1, y.shape[2]), vectors)


def _wasserstein(energy, y: np.ndarray, vectors: np.ndarray, replicates: int = 1_000) -> list[str]:
    size = len(y)
    pool = np.asarray(energy.sample(jax.random.key(5), (40 * size,))).reshape(40, size, -1)
    pairs = np.random.default_rng(0).integers(0, 40, (replicates, 2))
    null = [sliced_wasserstein(pool[i], pool[j], vectors) for i, j in pairs if i != j]
    return ["W2"] if sliced_wasserstein(y, pool[0], vectors) > np.quantile(null, 0.999) else []


@pytest.mark.parametrize(("d", "steps_per_jump"), [(2, 4), (16, 8)])
def test_mala_is_exact(d, steps_per_jump):
    energy, result = draw(d, neb.MALA(), steps_per_jump)
    assert 0.5 < result.info["acceptance_rate"].mean() < 0.7
    assert failures(energy, result.y) == []


@value
class Broken(neb.MALA):
    """MALA written out, with one named fault."""

    step_size: object = None
    fault: str = static(default="none")

    def algorithm(self, model):
        h, fault = self.step_size, self.fault

        def density(y):
            value, gradient = jax.value_and_grad(lambda z: -model(z))(y)
            return value, gradient

        def init(y, rng_key=None):
            return blackjax.mcmc.mala.MALAState(y, *density(y))

        def step(rng_key, state):
            key_noise, key_accept = jax.random.split(rng_key)
            if fault == "reused key":
                key_accept = key_noise
            noise = jax.random.normal(key_noise, state.position.shape)
            spread = jnp.sqrt(h) if fault == "noise sqrt(h)" else jnp.sqrt(2 * h)
            y = state.position + h * state.logdensity_grad + spread * noise
            new = blackjax.mcmc.mala.MALAState(y, *density(y))
            forward = jnp.sum((y - state.position - h * state.logdensity_grad) ** 2)
            backward = jnp.sum((state.position - y - h * new.logdensity_grad) ** 2)
            ratio = (forward - backward) / (4 * h)
            ratio = {"no proposal ratio": 0.0, "flipped proposal ratio": -ratio}.get(fault, ratio)
            log_accept = new.logdensity - state.logdensity + ratio
            uniform = jax.random.uniform(key_accept)
            if fault == "reused key":
                uniform = jax.scipy.stats.norm.cdf(noise.ravel()[0])
            accept = jnp.log(uniform) < log_accept
            accept = True if fault == "no accept/reject" else accept
            kept = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
            if fault == "frozen gradient":
                kept = kept._replace(logdensity_grad=state.logdensity_grad)
            if fault == "stale gradient":
                kept = kept._replace(logdensity_grad=density(state.position)[1])
            return kept, jnp.minimum(1.0, jnp.exp(log_accept))

        return blackjax.base.SamplingAlgorithm(init, step)

    def stats(self, info):
        return {"acceptance_rate": info, "diverging": jnp.zeros((), bool)}


FAULTS = [
    "no accept/reject",
    "no proposal ratio",
    "flipped proposal ratio",
    "noise sqrt(h)",
    "stale gradient",
    "frozen gradient",
    "reused key",
]
STEP = 0.25


def test_the_written_out_kernel_without_a_fault_passes():
    """The mutants differ from a right kernel by their fault alone."""
    energy, result = draw(2, Broken(STEP), 4)
    assert failures(energy, result.y) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_mutants_fail(fault):
    """By the law of their draws: too few effective draws alone is no verdict on a kernel."""
    energy, result = draw(2, Broken(STEP, fault=fault), 4)
    assert [name for name in failures(energy, result.y) if not name.startswith("ESS")]
