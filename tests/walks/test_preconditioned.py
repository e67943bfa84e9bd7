"""Walks in other coordinates, and the warm-up that finds them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.walks.adaptation import adapt, finish, start_adaptation
from neb_ppl.walks.preconditioned import unit_scale

KEY = jax.random.key(0)
ENERGY = mixture(3, 0.5)
VECTOR = jnp.array([0.4, 1.0, 2.5])
MATRIX = jnp.array([[0.5, 0.0, 0.0], [0.7, 1.2, 0.0], [-0.3, 0.4, 2.0]])
SCALES = [VECTOR, MATRIX]


@pytest.mark.parametrize("scale", SCALES, ids=["vector", "matrix"])
@pytest.mark.parametrize("walk", [neb.MALA(), neb.GHMC(), neb.NUTS(), neb.KineticLangevin(0.1)])
def test_the_target_is_stationary(walk, scale):
    """4,000 exact draws stay exact draws: six z-scores below 5."""
    start = ENERGY.sample(jax.random.key(1), (4_000,))
    result = neb.sample(
        jax.random.key(2), ENERGY, neb.Preconditioned(walk, scale), start, num_samples=1,
        steps_per_jump=30, num_warmup=0, progress_bar=False,
    )  # fmt: skip
    y = np.asarray(result.y[:, 0], np.float64)
    terms = np.concatenate([y, y**2], axis=1)
    mean, variance = np.asarray(ENERGY.mean()), np.diag(ENERGY.covariance())
    truth = np.concatenate([mean, mean**2 + variance])
    z = (terms.mean(axis=0) - truth) / (terms.std(axis=0) / np.sqrt(4_000))
    assert np.abs(z).max() < 5
    assert np.allclose(result.info["lp"][:, 0], -jax.vmap(ENERGY)(y), atol=1e-4)


@pytest.mark.parametrize("walk", [neb.MALA(), neb.GHMC(), neb.ULA(), neb.MCLMC()])
@pytest.mark.parametrize("old", SCALES, ids=["from vector", "from matrix"])
@pytest.mark.parametrize("new", SCALES, ids=["to vector", "to matrix"])
def test_a_state_in_other_coordinates_is_that_of_a_fresh_start(walk, old, new):
    """Position and energy stay; the gradient is the one that would be evaluated there."""
    before = neb.Preconditioned(walk, old).resolve(None, 3)
    after = dataclasses.replace(before, scale=new)
    y = jnp.array([0.3, -0.2, 0.8])
    moved = before.rebase(before(ENERGY).init(y, KEY), new)
    fresh = after(ENERGY).init(y, KEY)
    assert jnp.array_equal(moved.position, y)
    assert jnp.allclose(moved.inner.position, fresh.inner.position, atol=1e-6)
    assert jnp.allclose(moved.inner.logdensity_grad, fresh.inner.logdensity_grad, atol=1e-4)
    assert jnp.allclose(moved.logdensity, fresh.logdensity, atol=1e-5)


def test_a_rejected_step_does_not_move_by_rounding():
    """Stuck chains are found, and Gibbs refreshes, by bits."""
    walk = neb.Preconditioned(neb.MALA(1e6), VECTOR).resolve(None, 3)
    algorithm = walk(ENERGY)
    state = algorithm.init(jnp.array([0.1, 0.2, 0.3]), KEY)
    first, _ = algorithm.step(KEY, state)
    second, _ = algorithm.step(jax.random.key(9), first)
    assert jnp.array_equal(first.position, second.position)


def test_scales_keep_the_shape_of_what_is_walked_on():
    potential = lambda z: 0.5 * jnp.sum(z["a"] ** 2) + 8.0 * z["b"] ** 2  # noqa: E731
    start = {"a": jnp.ones((4, 3)), "b": jnp.ones(4)}
    result = neb.sample(
        KEY, potential, neb.NUTS(), start, num_samples=500, num_warmup=500,
        adapt_scale="diagonal", progress_bar=False,
    )  # fmt: skip
    assert result.y["a"].shape == (4, 500, 3)
    found = np.asarray(result.state.walk.scale)  # of the order of the sites' names
    assert np.allclose(found, [1, 1, 1, 0.25], rtol=0.15)
    assert np.isclose(result.y["b"].std(), 0.25, rtol=0.15)


@pytest.mark.parametrize("kind", ["diagonal", "dense"])
def test_warm_up_learns_the_covariance(kind):
    """64 chains x 500 draws of the last window, of MALA: within 15 % of the truth."""
    energy = neb.gaussian_mixture(
        [1.0], [[1.0, -2.0]], [[[4.0, 1.9], [1.9, 1.0]]], 0.1
    )  # correlation .95
    start = jax.random.normal(KEY, (64, 2))
    result = neb.sample(
        KEY, energy, neb.MALA(), start, num_samples=8, num_warmup=1_000, adapt_scale=kind,
        progress_bar=False,
    )  # fmt: skip
    scale, truth = np.asarray(result.state.walk.scale), np.asarray(energy.covariance())
    found = np.diag(scale**2) if kind == "diagonal" else scale @ scale.T
    assert np.allclose(np.diag(found), np.diag(truth), rtol=0.15)
    if kind == "dense":
        assert np.allclose(found, truth, rtol=0.15)


def test_nothing_is_adapted_after_warm_up():
    start = jax.random.normal(KEY, (4, 3))
    settings = {"num_samples": 30, "adapt_scale": "dense", "progress_bar": False}
    first = neb.sample(KEY, ENERGY, neb.MALA(), start, num_warmup=200, **settings)
    again = neb.sample(None, ENERGY, None, first.state, num_samples=30, progress_bar=False)
    for a, b in zip(
        jax.tree.leaves(first.state.walk), jax.tree.leaves(again.state.walk), strict=True
    ):
        assert jnp.array_equal(a, b)


def test_the_windows_are_stans():
    """1,000 steps: 75 fast, windows that end at 100, 150, 250, 450, 950, 50 fast."""
    walk = neb.Preconditioned(neb.MALA(), unit_scale("diagonal", 2, 1)).resolve(None, 2)
    adaptation = start_adaptation(walk, 3, 1_000, step_size=True, scale=True)
    assert int(adaptation.slow) == 75
    assert adaptation.ends[:6].tolist() == [99, 149, 249, 449, 949, -1]


def test_one_chain_that_stands_still_is_not_hidden_by_the_others():
    """Mean acceptance .9 of ten chains, one of which never moves: the step shrinks, not grows."""
    walk = neb.MALA().resolve(jnp.asarray(1.0), 2)
    states = jax.vmap(walk(ENERGY2).init)(jnp.zeros((10, 2)))
    rates = jnp.ones(10).at[3].set(0.0)

    def step_after(rates, steps=200):
        adaptation = start_adaptation(walk, 10, steps, step_size=True, scale=False)
        for i in range(steps):
            adaptation, _ = adapt(adaptation, jnp.asarray(i), states, rates)
        return float(finish(adaptation).step_size)

    assert step_after(rates) < 0.1 * float(walk.step_size) < step_after(jnp.ones(10))


ENERGY2 = mixture(2, 0.5)


def test_going_on_cannot_ask_for_another_scale():
    start = jax.random.normal(KEY, (4, 3))
    result = neb.sample(
        KEY, ENERGY, neb.MALA(), start, num_samples=5, num_warmup=50, adapt_scale="auto",
        progress_bar=False,
    )  # fmt: skip
    with pytest.raises(neb.errors.InvalidArgumentError, match="adapt_scale must be None"):
        neb.sample(None, ENERGY, None, result.state, num_samples=5, adapt_scale="dense")
    for same in (neb.MALA(), result.state.walk):
        neb.sample(None, ENERGY, same, result.state, num_samples=5, progress_bar=False)
    for other in (neb.GHMC(), neb.Preconditioned(neb.MALA(), jnp.ones(3))):
        with pytest.raises(neb.errors.InvalidArgumentError, match="the state was made by"):
            neb.sample(None, ENERGY, other, result.state, num_samples=5)
