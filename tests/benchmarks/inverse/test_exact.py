"""The references of the benchmark. Part of no CI run: ``pytest -m benchmark``."""

import numpy as np
import pytest

import neb_ppl as neb
from tests.benchmarks.inverse.metrics import energy_distance, judge
from tests.benchmarks.inverse.mixture import Mixture
from tests.benchmarks.inverse.problems import groups

pytestmark = pytest.mark.benchmark


def test_the_posterior_of_denoising_is_the_bayes_estimator():
    problem = groups("A", "denoise", "test")[0][0]
    energy = problem.energy(problem.scale)
    y = problem.observation.reshape(problem.event_shape).astype(np.float32)
    estimate = np.ravel(neb.bayes_estimator(energy, y))
    np.testing.assert_allclose(problem.posterior.mean, estimate, atol=2e-5)
    sd = np.sqrt(np.diag(np.asarray(energy.posterior_covariance(y))))
    np.testing.assert_allclose(problem.posterior.sd, sd, atol=2e-5)


def test_posterior_and_evidence_agree_with_weighted_draws():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((3, 2, 2))
    covariances = factors @ factors.swapaxes(1, 2) + 0.1 * np.eye(2)
    prior = Mixture(np.log([0.2, 0.5, 0.3]), rng.standard_normal((3, 2)), covariances)
    matrix, scale, o = np.array([[1.0, -0.5]]), 0.4, np.array([0.3])
    posterior, evidence = prior.given(matrix, scale, o)
    x = prior.draw(rng, 400_000)
    density = np.exp(-0.5 * ((o - x @ matrix.T) / scale)[:, 0] ** 2) / (scale * (2 * np.pi) ** 0.5)
    error = density.std() / len(x) ** 0.5
    assert abs(density.mean() - np.exp(evidence)) < 4 * error
    weights = density / density.sum()
    mean = weights @ x
    errors = np.sqrt((weights**2) @ (x - mean) ** 2)
    assert np.all(np.abs(mean - posterior.mean) < 4 * errors)
    below = weights @ (x < posterior.mean)
    np.testing.assert_allclose(below, posterior.marginal_cdf(posterior.mean), atol=0.01)


def test_exact_draws_reach_the_floor_and_wrong_ones_do_not():
    problem = groups("A", "pool", "test")[0][0]
    exact = judge(problem.exact(2_000, seed=4)[:, None], problem, seconds=1.0)
    assert abs(exact["energy"]) < 2e-3
    assert abs(exact["coverage"] - 0.9) < 0.01 and abs(exact["sd_ratio"] - 1) < 0.03
    prior = problem.prior.draw(np.random.default_rng(1), 2_000)
    assert judge(prior[:, None], problem)["energy"] > 0.1


def test_energy_distance_is_unbiased():
    rng = np.random.default_rng(2)
    each = [energy_distance(*rng.standard_normal((2, 20, 3))) for _ in range(400)]
    assert abs(np.mean(each)) < 4 * np.std(each) / 20
