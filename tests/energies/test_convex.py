"""Convex energies: convex whatever the weights, right for what is log-concave, wrong for modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError

KEY = jax.random.key(0)


def learned(x, sigma, steps=2_000):
    """A small one, trained until the risks below no longer move."""
    energy = neb.convex(KEY, x.shape[1:], sigma, hidden=64)
    settings = {"num_steps": steps, "learning_rate": 1e-2, "progress_bar": False}
    return neb.fit(jax.random.key(1), energy, np.asarray(x), **settings)[0]


def modes(sigma):
    """Two of deviation .2 at -1 and 1, in one dimension."""
    return neb.gaussian_mixture([0.5, 0.5], [[-1.0], [1.0]], [0.04, 0.04], sigma)


def excess(energy, exact, count=100_000):
    """Risk above the Bayes risk: ``sigma^4`` times the mean squared error of the score."""
    y = exact.sample(jax.random.key(2), (count,))
    gap = jax.vmap(energy.score)(y) - jax.vmap(exact.score)(y)
    return float(exact.sigma**4 * jnp.mean(gap**2))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_convex_along_every_segment_whatever_the_weights(layers):
    """Midpoint inequality at 500 random segments, weights of deviation 3, in float64.

    The slack is rounding: some 1e3 additions of terms no larger than the energies, at 2e-16 each.
    """
    with jax.enable_x64(True):
        energy = neb.convex(KEY, (2, 3), 0.4, hidden=16, layers=layers)
        leaves, structure = jax.tree.flatten(energy.weights)
        keys = jax.random.split(jax.random.key(layers), len(leaves))
        pairs = zip(keys, leaves, strict=True)
        wild = [3 * jax.random.normal(key, leaf.shape) for key, leaf in pairs]
        energy = energy.__class__(
            jax.tree.unflatten(structure, wild), energy.sigma, energy.scale, energy.data_energy,
            energy.network, energy.event_shape,
        )  # fmt: skip
        ends = 5 * jax.random.normal(jax.random.key(3), (2, 500, 2, 3))
        phi = jax.vmap(energy)
        mean, middle = (phi(ends[0]) + phi(ends[1])) / 2, phi(ends.mean(axis=0))
        assert (middle <= mean + 1e-12 * (1 + jnp.abs(mean))).all()
        hessian = jax.vmap(jax.hessian(lambda y: energy(y.reshape(2, 3))))(ends[0].reshape(-1, 6))
        values = jnp.linalg.eigvalsh(hessian)
        assert (values[:, 0] >= -1e-12 * values[:, -1]).all() and (values[:, 0] > 0).any()


def test_starts_near_the_best_linear_estimator():
    """Of data with deviation 1, in 16 dimensions: risk within 10 % before any step."""
    energy = neb.convex(KEY, (16,), 0.5)
    exact = neb.gaussian_mixture([1.0], np.zeros((1, 16)), np.ones(1), 0.5)
    assert excess(energy, exact, 5_000) < 0.1 * 0.25 / 1.25


def test_learns_a_gaussian():
    """Excess over the Bayes risk ``mean s^2 sigma^2 / (s^2 + sigma^2)`` below 1 % of it.

    10,000 events tell a covariance to ``sqrt(2 / n)`` = 1.4 %, whose square is far below that.
    """
    variances, sigma = np.array([4.0, 1.0, 0.25, 0.01]), 0.5
    exact = neb.gaussian_mixture([1.0], [[1.0, -2.0, 0.0, 0.0]], variances[None], sigma)
    energy = learned(exact.sample_clean(jax.random.key(4), (10_000,)), sigma)
    bayes = np.mean(variances * sigma**2 / (variances + sigma**2))
    assert excess(energy, exact) < 0.01 * bayes


def test_two_modes_at_small_sigma_are_bridged_as_well_as_can_be():
    """The least excess of a log-concave density is the isotonic regression of the exact score.

    In one dimension a convex energy has a decreasing score and nothing else; at sigma = .3 that
    costs .027 on a Bayes risk of .032. The network comes within 5 % of it, and cannot go below.
    """
    exact = modes(0.3)
    energy = learned(exact.sample_clean(jax.random.key(5), (10_000,)), 0.3)
    y = jnp.linspace(-4, 4, 4_001)[:, None]
    score, density = (
        np.asarray(jax.vmap(f)(y)) for f in (exact.score, lambda y: jnp.exp(-exact(y)))
    )
    best = IsotonicRegression(increasing=False).fit_transform(
        np.ravel(y), score[:, 0], sample_weight=density
    )
    least = 0.3**4 * np.average((best - score[:, 0]) ** 2, weights=density)
    assert least == pytest.approx(0.0271, abs=2e-4)
    assert 0.98 * least < excess(energy, exact) < 1.05 * least


def test_two_modes_at_large_sigma_are_log_concave():
    """At sigma = 1 the excess is below 1 % of the Bayes risk; the best linear one's is 9 %."""
    exact = modes(1.0)
    energy = learned(exact.sample_clean(jax.random.key(6), (10_000,)), 1.0)
    assert excess(energy, exact) < 0.01 * 0.4675


def test_saved_and_loaded_bit_for_bit(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 2, 3)).astype(np.float32)
    energy, _ = neb.fit(
        KEY, neb.convex(KEY, (2, 3), 0.4, hidden=8, layers=3), x, num_steps=2, progress_bar=False
    )
    path = neb.save_energy(tmp_path / "e", energy)
    loaded, y = neb.load_energy(path), jnp.ones((2, 3))
    assert isinstance(loaded, neb.ConvexEnergy) and loaded(y) == energy(y)
    assert (loaded.data_energy == energy.data_energy).all()
    assert jax.tree.structure(loaded) == jax.tree.structure(energy)
    facts = neb.describe_energy(path)
    assert facts["kind"] == "Convex"
    assert facts["architecture"] == {"name": "icnn", "fields": {"hidden": 8, "layers": 3}}


def test_walks_and_jumps_run():
    x = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    energy = learned(x, 0.5, steps=200)
    start = neb.start_at_data(jax.random.key(7), energy, x, 4)
    result = neb.sample(jax.random.key(8), energy, neb.MALA(), start, num_samples=100,
                        num_warmup=100, jump=neb.stochastic_jump, progress_bar=False)  # fmt: skip
    assert np.isfinite(result.x).all() and np.isfinite(energy.data_energy).all()
    assert neb.diagnostics.asymmetry(KEY, energy, x[:8]).ratio < 1e-5


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: neb.convex(0, (2,), 0.5), InvalidArgumentError, "rng_key .* got 0"),
        (lambda: neb.convex(KEY, (2,), -1.0), InvalidArgumentError, "sigma .* got -1"),
        (lambda: neb.convex(KEY, (), 0.5), EventShapeError, r"event_shape .* got \(\)"),
        (lambda: neb.convex(KEY, (2,), 0.5, hidden=0), InvalidArgumentError, "hidden .* got 0"),
        (lambda: neb.convex(KEY, (2,), 0.5, layers=1.5), InvalidArgumentError, "layers .* got 1.5"),
    ],
)
def test_refused(build, error, words):
    with pytest.raises(error, match=words):
        build()
