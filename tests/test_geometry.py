"""Spheres and chi against direct distances, and the published numbers of the digits."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neb_ppl import geometry
from neb_ppl.data import digits, mnist
from neb_ppl.energies.kde import kernel_density
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.geometry import (
    chi,
    critical_sigma,
    median_chi,
    overlap_graph,
    sphere_radius,
    sphere_thickness,
    suggest_sigma,
)

RNG = np.random.default_rng(3)
X = RNG.uniform(size=(41, 3, 4)).astype(np.float32)
Z = RNG.uniform(size=(17, 3, 4)).astype(np.float32)


def direct_chi(x, z):
    x, z = (a.reshape(len(a), 1, -1).astype(np.float64) for a in (x, z))
    difference = x - z.transpose(1, 0, 2)
    return np.linalg.norm(difference, axis=-1) / (2 * np.sqrt(x.shape[-1]))


def direct_pairs(x):
    return direct_chi(x, x)[np.triu_indices(len(x), 1)]


def test_noise_lies_near_the_sphere():
    noise = 0.3 * jax.random.normal(jax.random.key(0), (200, 784))
    radius = sphere_radius(0.3, 784)
    assert radius == pytest.approx(0.3 * 28)
    # The norm spreads by sigma / sqrt(2) around it: five of these.
    assert np.all(np.abs(np.linalg.norm(noise, axis=1) - radius) < 5 * 0.3 / np.sqrt(2))


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf, np.array([0.1, 0.0])])
def test_radius_refuses_bad_sigma(sigma):
    with pytest.raises(InvalidArgumentError, match="sigma must be positive"):
        sphere_radius(sigma, 4)


def test_radius_under_jit_and_of_nothing():
    assert float(jax.jit(sphere_radius, static_argnums=1)(0.5, 4)) == 1.0
    with pytest.raises(InvalidArgumentError, match="event_size"):
        sphere_radius(0.5, 0)


@pytest.mark.parametrize("block_size", [7, 1000])
def test_chi_agrees_with_direct_distances(block_size):
    np.testing.assert_allclose(chi(X, Z, block_size=block_size), direct_chi(X, Z), atol=1e-6)
    own = chi(X, block_size=block_size)
    np.testing.assert_allclose(own, direct_chi(X, X), atol=1e-6)
    assert np.all(np.diag(own) == 0)


def test_chi_of_data_far_from_the_origin():
    # Without centring, the squares (1e8) would swallow the distances in float32.
    x, z = X + 4096, Z + 4096
    np.testing.assert_allclose(chi(x, z), direct_chi(x, z), atol=1e-5)
    assert critical_sigma(x) == pytest.approx(direct_pairs(x).max(), abs=1e-5)


def test_near_pairs_are_known_to_the_stated_accuracy():
    x = RNG.uniform(size=(50, 784)).astype(np.float32)
    z = x + np.float32(1e-4)
    spread = 2 * x.std()
    error = np.asarray(chi(x, z), np.float64) ** 2 - direct_chi(x, z) ** 2
    assert np.all(np.abs(error) < 1e-6 * spread**2)


def test_constant_pixels_and_equal_points_stay_finite():
    x = np.array(X)
    x[:, 0] = 0.5
    x[1] = x[0]
    np.testing.assert_allclose(chi(x), direct_chi(x, x), atol=2e-4)
    gradient = jax.jit(jax.grad(lambda v: chi(v).sum()))(jnp.asarray(x))
    assert np.all(np.isfinite(gradient))


def test_chi_under_jit_and_vmap():
    np.testing.assert_allclose(jax.jit(chi)(X, Z), chi(X, Z), atol=1e-6)
    batched = jax.vmap(chi)(jnp.stack([X, 2 * X]))
    np.testing.assert_allclose(batched[1], 2 * direct_chi(X, X), atol=1e-5)


def test_chi_refuses_wrong_arguments(monkeypatch):
    with pytest.raises(EventShapeError, match=r"\(12,\); expected those of x, \(3, 4\)"):
        chi(X, Z.reshape(17, 12))
    with pytest.raises(InvalidArgumentError, match="x has shape"):
        chi(X[:0])
    with pytest.raises(InvalidArgumentError, match="z has dtype uint8"):
        chi(X, Z.astype(np.uint8))
    with pytest.raises(InvalidArgumentError, match="block_size"):
        chi(X, block_size=0)
    monkeypatch.setattr(geometry, "MAX_PAIRS", 1_000)
    with pytest.raises(InvalidArgumentError, match="1,681 pairs.*critical_sigma"):
        chi(X)


@pytest.mark.parametrize(
    ("block_size", "num_points"), [(1, 4), (7, 2), (7, 3), (7, 41), (20, 40), (20, 41), (41, 41)]
)
def test_reductions_see_every_pair_once(monkeypatch, block_size, num_points):
    monkeypatch.setattr(geometry, "BLOCK_SIZE", block_size)
    x = X[:num_points]
    pairs = np.sort(direct_pairs(x))
    assert critical_sigma(x) == pytest.approx(pairs[-1], abs=1e-6)
    assert median_chi(x) == pytest.approx(pairs[(len(pairs) - 1) // 2], abs=1e-6)


def test_median_with_many_ties():
    corners = np.array([[0.0], [0.0], [0.0], [1.0]])
    assert median_chi(corners) == 0.0
    assert median_chi(np.array([[0.0], [0.0], [1.0]])) == pytest.approx(0.5)


def test_subset_is_the_same_each_time_unless_a_key_is_given():
    first = critical_sigma(X, num_points=5)
    assert first == critical_sigma(X, num_points=5)
    others = {critical_sigma(X, num_points=5, rng_key=jax.random.key(k)) for k in range(1, 5)}
    assert others != {first}
    assert max(others | {first}) <= critical_sigma(X)


@pytest.mark.parametrize("measure", [critical_sigma, median_chi, suggest_sigma])
def test_measures_refuse_unusable_data(measure):
    with pytest.raises(InvalidArgumentError, match="x is empty"):
        measure(X[:0])
    with pytest.raises(InvalidArgumentError, match="at least 2"):
        measure(X[:1])
    with pytest.raises(InvalidArgumentError, match="num_points must be at least 2; got 1"):
        measure(X, num_points=1)
    with pytest.raises(NonFiniteDataError):
        measure(np.where(X > 0.9, np.nan, X))
    with pytest.raises(InvalidArgumentError, match="squares overflow"):
        measure(1e30 * X)


def test_suggestion_gives_its_reason():
    x = np.random.default_rng(0).uniform(size=(41, 4, 5)).astype(np.float32)
    suggestion = suggest_sigma(x, fraction=0.5)
    assert suggestion.critical_sigma == critical_sigma(x)
    assert suggestion.sigma == 0.5 * suggestion.critical_sigma
    assert "0.5 times sigma_c" in suggestion.reason and "of 41 points" in suggestion.reason
    reasons = {suggest_sigma(x, f).reason.split(";")[1] for f in (0.5, 1.0, 2.5)}
    assert len(reasons) == 3
    assert "about 40 nats" in suggestion.reason  # 20 / 2 / 0.5^2


def test_an_outlier_does_not_set_sigma():
    """One of 1,000 points fifty times as far: sigma is twice the median chi, and says so."""
    x = np.random.default_rng(0).normal(size=(1_000, 64)).astype(np.float32)
    calm = suggest_sigma(x)
    assert calm.sigma == calm.critical_sigma
    x[0] *= 50
    suggestion = suggest_sigma(x)
    assert suggestion.critical_sigma > 20 and suggestion.sigma == 2 * median_chi(x) < 1.5
    assert "outliers set sigma_c" in suggestion.reason


def test_barriers_of_two_points():
    """At chi = sigma the barrier is d / 2 nats less log 2: phi half-way less phi at a point."""
    axis = np.zeros((1, 64), np.float32)
    axis[0, 0] = 8.0  # chi is half the distance, 8, over the root of 64
    energy = kernel_density(np.concatenate([-axis, axis]), 1.0)
    barrier = energy(np.zeros(64, np.float32)) - energy(axis[0])
    assert barrier == pytest.approx(64 / 2 - np.log(2), rel=1e-4)


def test_in_few_dimensions_sigma_follows_the_spread():
    """sigma_c of a cloud in three dimensions exceeds its deviation: nothing would be left of it."""
    x = 2 * np.random.default_rng(0).normal(size=(3_000, 3)).astype(np.float32)
    suggestion = suggest_sigma(x)
    assert suggestion.sigma == pytest.approx(1.0, rel=0.05)
    assert suggestion.critical_sigma > 2
    assert "half the data's standard deviation" in suggestion.reason


@pytest.mark.parametrize("fraction", [0.0, -1.0, np.nan, np.inf])
def test_suggestion_refuses_bad_fractions(fraction):
    with pytest.raises(InvalidArgumentError, match="fraction must be positive"):
        suggest_sigma(X, fraction)


def test_no_sigma_follows_from_equal_points():
    with pytest.raises(InvalidArgumentError, match="Are all events the same"):
        suggest_sigma(np.ones((5, 3)))


def test_digits_reference():
    x = digits("all").x
    # The reference has three digits; all 1,797 points are used, so nothing else can vary.
    assert critical_sigma(x) == pytest.approx(0.301, abs=5e-4)
    assert median_chi(x) == pytest.approx(0.192, abs=5e-4)


@pytest.mark.skipif(not os.environ.get("NEB_PPL_DATA"), reason="NEB_PPL_DATA names no MNIST folder")
def test_mnist_reference():
    x = mnist("train").x
    # 3,000 of 60,000: over twelve keys the maximum was .271 to .292, the median .181 to .183.
    assert 0.27 < critical_sigma(x) < 0.30
    assert median_chi(x) == pytest.approx(0.183, abs=1e-3)


def test_the_overlap_graph_of_points_on_a_line():
    """At 0, 1, 3 and 10 spheres touch at half the gaps: parts, degrees, and what joins all."""
    x = np.array([[0.0], [1.0], [3.0], [10.0]])
    for sigma, labels, degree in (
        (0.4, [0, 1, 2, 3], [0, 0, 0, 0]),
        (0.6, [0, 0, 1, 2], [1, 1, 0, 0]),
        (1.2, [0, 0, 0, 1], [1, 2, 1, 0]),
        (3.6, [0, 0, 0, 0], [2, 2, 3, 1]),
    ):
        graph = overlap_graph(x, sigma)
        assert graph.labels.tolist() == labels and graph.num_components == max(labels) + 1
        assert graph.degree.tolist() == degree
        assert graph.connecting_sigma == pytest.approx(3.5, rel=1e-5)


def test_the_noise_lies_on_its_sphere():
    """Norms of 100,000 draws: deviation within 5 standard errors, which 1 / sqrt(2) nears."""
    for d in (1, 3, 64):
        norms = np.linalg.norm(np.random.default_rng(d).normal(size=(100_000, d)), axis=1)
        assert abs(norms.std() / sphere_thickness(1.0, d) - 1) < 5 / np.sqrt(2 * 50_000)
    assert sphere_thickness(2.0, 10_000) == pytest.approx(2 / 2**0.5, rel=1e-3)
    assert sphere_thickness(1.0, 1_001) == pytest.approx(sphere_thickness(1.0, 1_000), rel=1e-6)
    assert sphere_thickness(1.0, 10**8) == pytest.approx(0.5**0.5, rel=1e-8)
