"""Many measurements: the identities of their laws, and the bias that they leave behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.inverse import (
    all_at_once,
    exact_posterior,
    from_matrix,
    gaussian,
    once_at_a_time,
    posterior_energy,
)
from neb_ppl.inverse.measurements import Levels, NextMeasurementEnergy

D, SIGMA = 2, 0.8
PRIOR = mixture(D, SIGMA)
OBSERVATION = gaussian(from_matrix([[1.0, 0.5]]), [0.4], 0.5)


def test_the_joint_law_is_that_of_stacked_noise():
    """T11: the energy of (y_1 .. y_m) is that of the mixture with covariance P (x) 11' + sigma^2 I.

    Up to a constant, in float64, to 1e-9.
    """
    with jax.enable_x64(True):
        prior, m = mixture(D, SIGMA), 3
        covariances = jnp.einsum(
            "kde,ke,kfe->kdf", prior.eigenvectors, prior.eigenvalues, prior.eigenvectors
        )
        ones = np.ones((m, m))
        stacked = neb.gaussian_mixture(
            jnp.exp(prior.log_weights),
            np.tile(np.asarray(prior.means)[:, None], (1, m, 1)),
            np.stack([np.kron(ones, covariance) for covariance in covariances]),
            SIGMA,
        )
        joint = all_at_once(prior, SIGMA, m)
        y = stacked.sample(jax.random.key(0), (20,))
        gap = jax.vmap(lambda y: joint(y) - stacked(y))(y)
        np.testing.assert_allclose(gap, gap[0], atol=1e-9)
        for sample in y[:5]:
            mean = stacked.posterior_mean(sample)[0]
            np.testing.assert_allclose(neb.bayes_estimator(joint, sample), mean, atol=1e-9)


def test_conditionals_make_up_the_joint_law():
    """Energy of y_3 given the first two = joint of three - joint of two, up to a constant."""
    with jax.enable_x64(True):
        prior = mixture(D, SIGMA)
        y = np.random.default_rng(0).normal(size=(10, 3, D))
        two, three = all_at_once(prior, SIGMA, 2), all_at_once(prior, SIGMA, 3)
        for first in y[:3, :2]:
            following = NextMeasurementEnergy(
                Levels(prior, None),
                jnp.asarray(SIGMA),
                jnp.asarray(first.mean(0)),
                jnp.asarray(3.0),
            )
            gaps = [
                following(jnp.asarray(last))
                - three(jnp.concatenate([first, last[None]])) + two(jnp.asarray(first))
                for last in y[:, 2]
            ]  # fmt: skip
            np.testing.assert_allclose(gaps, gaps[0], atol=1e-9)


def errors(x, exact):
    """Largest z of means, and the largest relative error of deviations."""
    x = np.asarray(x)
    spread = np.sqrt(np.diag(np.asarray(exact.covariance()) - float(exact.sigma) ** 2 * np.eye(D)))
    z = (x.mean(0) - np.asarray(exact.mean())) / (x.std(0) / np.sqrt(len(x)))
    return np.abs(z).max(), np.abs(x.std(0) / spread - 1).max()


def test_once_at_a_time_draws_x():
    """4,000 draws through 4 measurements: means abs z < 5, deviations within 5 %."""
    found = once_at_a_time(jax.random.key(0), PRIOR, SIGMA, 4, 4_000, progress_bar=False)
    assert found.means.shape == (4_000, 4, D) and (found.acceptance > 0.8).all()
    z, gap = errors(found.x, PRIOR)
    assert z < 5 and gap < 0.05


def test_posteriors_once_at_a_time():
    """Given one number, by `moment` on a Gaussian, for which it is exact: means abs z < 5,
    deviations within 5 %, whatever the number of measurements."""
    prior = neb.gaussian_mixture([1.0], np.zeros((1, D)), [1.0], SIGMA)
    exact = exact_posterior(prior, OBSERVATION).density
    posterior = posterior_energy(prior, OBSERVATION, "moment")
    for m in (1, 4):
        found = once_at_a_time(
            jax.random.key(1), prior, SIGMA, m, 4_000, posterior=posterior, progress_bar=False
        )
        z, gap = errors(found.x, exact)
        assert z < 5 and gap < 0.05


@pytest.mark.parametrize("closure", ["split", "direct", "inflated", "plugin"])
def test_closures_whose_conditionals_do_not_fit_are_refused(closure):
    """A chain of splits would end a quarter too narrow: their y differ by more than noise."""
    posterior = posterior_energy(PRIOR.at(0.3), OBSERVATION, closure)
    with pytest.raises(InvalidArgumentError, match="settle elsewhere"):
        once_at_a_time(jax.random.key(0), PRIOR, SIGMA, 4, 10, posterior=posterior)
    if closure == "split":
        with pytest.raises(InvalidArgumentError, match="exists below"):
            all_at_once(PRIOR, SIGMA, 2, posterior)


def test_all_at_once_walks_like_any_energy():
    energy = all_at_once(PRIOR, SIGMA, 3)
    start = neb.start_at_noise(jax.random.key(0), energy, 64)
    result = neb.sample(
        jax.random.key(1), energy, neb.HMC(), start, num_samples=100, num_warmup=200,
        progress_bar=False,
    )  # fmt: skip
    assert result.x.shape == (64, 100, D)
    ess = neb.diagnostics.effective_sample_size(result.x).min()
    x = np.asarray(result.x).reshape(-1, D)
    z = (x.mean(0) - np.asarray(PRIOR.mean())) / (x.std(0) / np.sqrt(ess))
    assert np.abs(z).max() < 5


def walked_mean(joint, key):
    """Draws of x from a walk on all measurements, and their effective number."""
    start = neb.start_at_noise(jax.random.key(0), joint, 64)
    result = neb.sample(
        key, joint, neb.HMC(), start, num_samples=100, num_warmup=200, jump=neb.stochastic_jump,
        progress_bar=False,
    )  # fmt: skip
    return result.x, neb.diagnostics.effective_sample_size(result.x).min()


def test_posteriors_all_at_once():
    """Under split, which is exact: means abs z < 5, deviations within 5 %. Without the data, or at
    the level of one measurement, the mean energy would be another function (float64, 1e-9)."""
    family = mixture(D, SIGMA)
    posterior = posterior_energy(family.at(0.3), OBSERVATION, "split")
    exact = exact_posterior(family, OBSERVATION).density
    x, ess = walked_mean(all_at_once(family, SIGMA, 4, posterior), jax.random.key(1))
    z, gap = errors(np.asarray(x).reshape(-1, D), exact)
    assert z * (ess / x.shape[0] / x.shape[1]) ** 0.5 < 5 and gap < 0.05
    with jax.enable_x64(True):
        family = mixture(D, SIGMA)
        posterior = posterior_energy(family.at(0.3), OBSERVATION, "split")
        joint = all_at_once(family, SIGMA, 4, posterior)
        lower = posterior_energy(family.at(SIGMA / 2), OBSERVATION, "split")
        y = jax.random.normal(jax.random.key(2), (5, 4, D))
        spread = 0.5 * jnp.sum((y - y.mean(1, keepdims=True)) ** 2, (1, 2)) / SIGMA**2
        wanted = jax.vmap(lower)(y.mean(1)) + spread
        np.testing.assert_allclose(jax.vmap(joint)(y), wanted, atol=1e-9)


def test_what_measurements_leave_of_the_bias():
    """A skewed prior in one dimension, `moment` at sigma = 1.2: the error of the posterior mean.

    All at once it is that of the level sigma / sqrt(m), by quadrature: it vanishes. One after the
    other keeps the first measurement's law, taken from the closure at the largest sigma: it falls
    as well, and is left behind by far more than sampling explains (.09 at m = 16).
    """
    prior = neb.gaussian_mixture([0.5, 0.5], [[-1.0], [1.0]], [0.02, 0.3], 1.2)
    look = gaussian(from_matrix([[1.0]]), [0.3], 0.6)
    truth = float(exact_posterior(prior, look).density.mean()[0])
    posterior = posterior_energy(prior, look, "moment")
    grid = jnp.linspace(-6, 6, 4_001)[:, None]
    gaps = []
    for m in (1, 4, 16):
        level = posterior_energy(prior.at(1.2 / m**0.5), look, "moment")
        weights = jax.nn.softmax(-jax.vmap(level)(grid))
        gaps.append(abs(float(weights @ jax.vmap(level.clean_mean)(grid)[:, 0]) - truth))
    assert gaps[1] < 0.6 * gaps[0] and gaps[2] < 0.01
    found = once_at_a_time(
        jax.random.key(0), prior, 1.2, 16, 4_000, posterior=posterior, progress_bar=False
    ).x
    left, error = abs(found.mean() - truth), found.std() / len(found) ** 0.5
    assert 5 * error < left < 0.6 * gaps[0]


def test_forces_that_are_no_gradients_stay_so():
    """Of moment: unadjusted walks would settle elsewhere, on measurements too."""
    look = neb.inverse.gaussian(neb.inverse.identity((D,)), np.zeros(D), 0.5)
    posterior = neb.posterior_energy(PRIOR, look, "moment")
    joint = all_at_once(PRIOR, SIGMA, 2, posterior)
    with pytest.raises(InvalidArgumentError, match="settle elsewhere"):
        neb.ULA()(joint)
    with pytest.raises(InvalidArgumentError, match="force"):
        neb.inverse.maximum(joint, jnp.zeros((2, D)))
    with pytest.raises(InvalidArgumentError, match="settle elsewhere"):
        once_at_a_time(
            jax.random.key(0), PRIOR, SIGMA, 2, 4, posterior=posterior, walk=neb.ULA(),
            progress_bar=False,
        )  # fmt: skip


def test_refused():
    one_level = neb.deen(jax.random.key(0), (D,), SIGMA)
    with pytest.raises(InvalidArgumentError, match="several noise levels"):
        all_at_once(one_level, SIGMA, 4)
    with pytest.raises(InvalidArgumentError, match="num_measurements"):
        once_at_a_time(jax.random.key(0), PRIOR, SIGMA, 0, 10)
    with pytest.raises(InvalidArgumentError, match="posterior must come"):
        all_at_once(PRIOR, SIGMA, 4, PRIOR)
