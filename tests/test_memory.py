"""Attractors of energies where they are known, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import neb_ppl as neb
from neb_ppl.errors import (
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NonFiniteDataError,
    NotAnEnergyError,
)
from neb_ppl.memory import FLOW, memories, recall

PAIR = np.array([[-1.0], [1.0]])
SIGMA = 0.6


def attractor(sigma):
    """Of two points at -1 and 1: the positive root of ``y = tanh(y / sigma^2)``."""
    return brentq(lambda y: y - np.tanh(y / sigma**2), 0.1, 1.0)


@pytest.mark.parametrize("method", ["flow", "robbins"])
def test_two_points_are_two_memories(method):
    """Places to 1e-3, curvature ``1 - sech^2(y / sigma^2) / sigma^2`` to 1e-2, basins by sign."""
    energy = neb.kernel_density(PAIR, SIGMA)
    starts = np.linspace(-3, 2, 50)[:, None]
    found = memories(energy, starts, PAIR, method=method, progress_bar=False)
    y = attractor(SIGMA)
    np.testing.assert_allclose(found.y[:, 0], [-y, y], atol=1e-3)
    np.testing.assert_allclose(found.basins, [0.6, 0.4])
    np.testing.assert_array_equal(found.owner, (starts[:, 0] > 0).astype(int))
    np.testing.assert_allclose(
        found.curvature, 1 - np.cosh(y / SIGMA**2) ** -2 / SIGMA**2, atol=0.01
    )
    assert found.error.max() < 1e-3 and found.nearest.tolist() == [0, 1]
    np.testing.assert_allclose(found.distance, (1 - y) / SIGMA, atol=2e-3)
    assert "2 attractors of 50 starts" in str(found)


def test_they_become_one_as_sigma_passes_their_distance():
    """Half the distance is 1: below it there are two memories, above it the mean, new to both."""
    for sigma, count in ((0.97, 2), (1.03, 1)):
        found = memories(neb.kernel_density(PAIR, sigma), PAIR, PAIR, progress_bar=False)
        assert len(found) == count
    np.testing.assert_allclose(found.y, 0, atol=0.05)
    np.testing.assert_allclose(found.distance, 1 / 1.03, atol=0.05)


def test_a_saddle_is_told_from_a_minimum():
    """The flow stays where the gradient is 0; the curvature there is ``1 - 1 / sigma^2``."""
    energy = neb.kernel_density(PAIR, SIGMA)
    found = recall(energy, np.zeros((1, 1)), progress_bar=False)
    np.testing.assert_allclose(found.curvature, 1 - 1 / SIGMA**2, rtol=1e-4)
    assert np.isinf(found.error[0]) and not found.converged[0]
    none = memories(energy, np.zeros((1, 1)), PAIR, progress_bar=False)
    assert len(none) == 0 and none.owner.tolist() == [-1] and none.distance.shape == (0,)
    assert "1 starts ended at no minimum" in str(none)


@pytest.mark.parametrize("method", ["flow", "robbins"])
def test_a_flat_valley_is_one_memory(method):
    """A Gaussian whose flattest curvature is .003, 20 dimensions, 40 starts: its mean, to 1 %."""
    variances = np.append(np.geomspace(0.01, 1, 19), 0.25 / 0.003 - 0.25)
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 20)), np.diag(variances)[None], 0.5)
    starts = np.asarray(energy.sample(jax.random.key(0), (40,)))
    found = memories(energy, starts, method=method, progress_bar=False)
    assert len(found) == 1 and found.basins[0] == 1.0
    assert found.curvature[0] == pytest.approx(0.003, rel=0.01)
    assert np.linalg.norm(found.y[0]) < 0.01 * 0.5


def test_two_memories_close_together_in_many_dimensions():
    """784 dimensions, points 2.2 sigma apart: ``u = 1.1 tanh(1.1 u)`` along the line, in sigma.

    Basins by sign, but for starts within .06 sigma of the ridge, whose curvature is -.21.
    """
    axis = np.random.default_rng(0).normal(size=784)
    axis /= np.linalg.norm(axis)
    energy = neb.kernel_density(1.1 * 0.3 * np.stack([-axis, axis]), 0.3)
    offsets = np.linspace(-1, 1, 41)[np.abs(np.linspace(-1, 1, 41)) > 0.06]
    found = memories(energy, 0.3 * offsets[:, None] * axis, progress_bar=False)
    place = brentq(lambda u: u - 1.1 * np.tanh(1.1 * u), 0.1, 2)
    np.testing.assert_allclose(np.sort(found.y @ axis) / 0.3, [-place, place], atol=0.01)
    curvature = 1 - 1.1**2 / np.cosh(1.1 * place) ** 2
    np.testing.assert_allclose(found.curvature, curvature, rtol=0.01)
    side = np.sign(found.y @ axis)[found.owner]
    np.testing.assert_array_equal(side, np.sign(offsets))


def test_the_flow_is_that_of_the_energy():
    """A Gaussian's flow ends at its mean, after a time set by its flattest direction.

    Along an eigenvector of variance v the gap decays as ``exp(-t sigma^2 / (v + sigma^2))``.
    """
    spread = np.diag([0.05, 3.0])
    energy = neb.gaussian_mixture([1.0], [[1.0, -1.0]], spread[None], 0.5)
    found = recall(energy, np.array([[3.0, 4.0]]), tolerance=1e-4, progress_bar=False)
    np.testing.assert_allclose(found.memory[0], [1.0, -1.0], atol=5e-3)
    rate = 0.25 / 3.25
    expected = np.log(0.5 * 5 / 3.25 / FLOW) / rate
    assert found.time[0] == pytest.approx(expected, rel=0.1)
    assert found.curvature[0] == pytest.approx(rate, rel=1e-3)


def test_digits_share_memories_from_half_their_distance_on():
    """Two points part where sigma is half their distance, so that 60 digits, the nearest two of
    them .4 from half-way, are 60 memories at .3, recalled from noise; at twice the largest such
    distance there is one, a mean of many."""
    x = neb.data.digits("train").x[:60]
    gaps = np.linalg.norm((x[:, None] - x[None]).reshape(60, 60, -1), axis=-1) + 99 * np.eye(60)
    half = gaps.min(axis=1) / 2
    low = neb.kernel_density(x, 0.75 * half.min())
    kept = memories(low, x, x, progress_bar=False)
    assert len(kept) == 60 and kept.curvature.min() > 0.5 and kept.distance.max() < 0.05
    noisy = neb.smooth(jax.random.key(0), x, 0.1)
    again = recall(low, noisy, progress_bar=False)
    np.testing.assert_allclose(again.memory, recall(low, x, progress_bar=False).memory, atol=2e-3)
    one = memories(neb.kernel_density(x, 2 * half.max()), x, x, progress_bar=False)
    assert len(one) == 1 and one.distance[0] > 0.05


def test_curvature_without_a_matrix():
    """200 dimensions, by Lanczos: the smallest of spread eigenvalues to 5 %."""
    variances = np.geomspace(0.01, 10, 200)
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 200)), np.diag(variances)[None], 0.5)
    found = recall(energy, np.ones((1, 200)), progress_bar=False)
    assert found.curvature[0] == pytest.approx(0.25 / (10 + 0.25), rel=0.05)


def test_starts_in_other_units_are_told():
    """An energy of numbers in -1 .. 1, and starts in 0 .. 255."""
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    energy = neb.deen(jax.random.key(0), (1,), 0.5, network=neb.MLP(hidden=8, blocks=1))
    energy, _ = neb.fit(jax.random.key(1), energy, x, num_steps=20, progress_bar=False)
    with pytest.warns(DataRangeWarning, match="starts lies in"):
        memories(energy, 255 * x[:2], method="robbins", progress_bar=False)


def test_starts_that_do_not_converge_are_counted():
    flat = neb.from_energy(lambda y: -jnp.sum(y), 0.5, event_shape=(2,))  # downhill for ever
    found = memories(flat, np.zeros((3, 2)), method="robbins", progress_bar=False)
    assert len(found) == 0 and found.owner.tolist() == [-1, -1, -1]
    assert "3 starts ended at no minimum" in str(found)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: recall(neb.from_score(lambda y: -y, 0.5), PAIR), NotAnEnergyError, "circles"),
        (lambda: recall(neb.kernel_density(PAIR, 1.0), np.zeros((2, 3))), EventShapeError, "3"),
        (
            lambda: recall(neb.kernel_density(PAIR, 1.0), np.full((2, 1), np.nan)),
            NonFiniteDataError, "finite",
        ),
        (
            lambda: recall(neb.kernel_density(PAIR, 1.0), PAIR, method="newton"),
            InvalidArgumentError, "'newton'",
        ),
        (
            lambda: recall(neb.kernel_density(PAIR, 1.0), PAIR, tolerance=0.0),
            InvalidArgumentError, "tolerance",
        ),
        (
            lambda: memories(neb.kernel_density(PAIR, 1.0), PAIR, merge=-1),
            InvalidArgumentError, "merge must be",
        ),
        (
            lambda: memories(neb.kernel_density(PAIR, 1.0), PAIR, merge=0.01),
            InvalidArgumentError, "twice the tolerance",
        ),
        (
            lambda: memories(neb.kernel_density(PAIR, 1.0), PAIR[:, 0]),
            EventShapeError, "starts has shape",
        ),
        (
            lambda: recall(neb.deen(jax.random.key(0), (1,), 0.5), PAIR),
            InvalidArgumentError, "not been trained",
        ),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
