"""One contract for every walk, and errors in words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb

WALKS = {
    "ULA": neb.ULA(),
    "BAOAB": neb.KineticLangevin(),
    "ABOBA": neb.KineticLangevin(scheme="ABOBA"),
    "OBABO": neb.KineticLangevin(scheme="OBABO"),
    "cheng": neb.KineticLangevin(scheme="cheng"),
    "MALA": neb.MALA(),
    "HMC": neb.HMC(num_integration_steps=3),
    "NUTS": neb.NUTS(max_num_doublings=3),
    "GHMC": neb.GHMC(),
    "MCLMC": neb.MCLMC(),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_is_a_blackjax_algorithm_usable_alone(name):
    energy = mixture(3, 0.5)
    algorithm = WALKS[name](energy)
    state = algorithm.init(jnp.zeros(3), jax.random.key(0))
    new, info = jax.jit(algorithm.step)(jax.random.key(1), state)
    assert new.position.shape == (3,)
    assert jnp.isfinite(new.position).all()
    assert not bool(WALKS[name].stats(info)["diverging"])
    again, _ = jax.jit(algorithm.step)(jax.random.key(1), state)
    assert jnp.array_equal(new.position, again.position)


GAUSSIAN = neb.gaussian_mixture([1.0], [[0.5, -1.0, 0.0]], [[0.2, 0.5, 1.0]], 0.5)
STEPS = {"ULA": 0.01, "OBABO": 0.05, "cheng": 0.02, "MCLMC": 0.1}


def stationary_z(walk, num_steps: int = 40, chains: int = 4_000) -> np.ndarray:
    """z-scores of first and second moments of independent chains that start from the target."""
    energy = GAUSSIAN if isinstance(walk, neb.MCLMC) else mixture(3, 0.5)
    start = energy.sample(jax.random.key(1), (chains,))
    result = neb.sample(
        jax.random.key(2), energy, walk, start, num_samples=1, steps_per_jump=num_steps,
        num_warmup=0, progress_bar=False,
    )  # fmt: skip
    y = np.asarray(result.y[:, 0], np.float64)
    mean, covariance = np.asarray(energy.mean()), np.asarray(energy.covariance())
    terms = np.concatenate([y, y**2], axis=1)
    truth = np.concatenate([mean, mean**2 + covariance.diagonal()])
    return (terms.mean(axis=0) - truth) / (terms.std(axis=0) / np.sqrt(chains))


@pytest.mark.parametrize("name", WALKS)
def test_the_target_is_stationary(name):
    """Exact draws stay exact draws; unadjusted schemes at steps whose bias is far below 1 %.

    4,000 independent chains, six z-scores below 5: a false alarm in 4e-6 of runs.
    """
    walk = WALKS[name]
    if name in STEPS:
        walk = dataclasses.replace(walk, step_size=STEPS[name])
    assert np.abs(stationary_z(walk)).max() < 5


def test_a_biased_walk_is_seen():
    assert np.abs(stationary_z(neb.ULA(0.3))).max() > 5


def test_the_jitter_of_hmc_is_independent_of_its_acceptance(monkeypatch):
    """Long leapfrogs, 20,000 chains: abs z < 5; the mutant jitters with BlackJAX's own key.

    ``fold_in(key, 1)`` is the key that BlackJAX accepts with: variances were then off by 6 %.
    """
    walk = neb.HMC(step_size=0.4, num_integration_steps=10)
    assert np.abs(stationary_z(walk, chains=20_000)).max() < 5
    monkeypatch.setattr(neb.walks.blackjax, "JITTER_KEY", 1)
    jax.clear_caches()
    assert np.abs(stationary_z(walk, chains=20_000)).max() > 5
    jax.clear_caches()


@pytest.mark.parametrize("name", WALKS)
def test_walks_compose_with_vmap_over_their_own_tuning(name):
    """Step sizes are leaves: several run at once."""
    walks = jax.vmap(lambda h: WALKS[name].resolve(jnp.asarray(0.5), 3).with_step_size(h))(
        jnp.array([0.01, 0.02])
    )

    def move(walk, key):
        algorithm = walk(mixture(3, 0.5))
        return algorithm.step(key, algorithm.init(jnp.zeros(3), key))[0].position

    keys = jnp.stack([jax.random.key(3)] * 2)
    moved = jax.jit(jax.vmap(move))(walks, keys)
    assert jnp.isfinite(moved).all()
    assert not jnp.array_equal(moved[0], moved[1])


@pytest.mark.parametrize("name", WALKS)
def test_positions_may_be_trees(name):
    walk = WALKS[name].resolve(jnp.asarray(1.0), 4)
    algorithm = walk(lambda z: 0.5 * jnp.sum(z["a"] ** 2) + 0.5 * z["b"] ** 2)
    start = {"a": jnp.ones(3), "b": jnp.ones(())}
    state = algorithm.init(start, jax.random.key(0))
    new, _ = algorithm.step(jax.random.key(1), state)
    assert jax.tree.structure(new.position) == jax.tree.structure(start)


def test_one_step_of_ula_is_blackjax_mala_without_rejection():
    """The convention of h is BlackJAX's: same key, same proposal."""
    import blackjax

    energy = mixture(3, 0.5)
    mala = blackjax.mala(lambda y: -energy(y), 0.01)
    state, info = mala.step(jax.random.key(5), mala.init(jnp.ones(3)))
    assert info.is_accepted
    key_noise, _ = jax.random.split(jax.random.key(5))
    ula = neb.ULA(0.01)(energy)
    ours, _ = ula.step(key_noise, ula.init(jnp.ones(3)))
    assert jnp.allclose(ours.position, state.position, atol=1e-6)


def test_mala_is_blackjax_mala_in_law():
    """One leapfrog of sqrt(2 h): the same drift, and the same acceptance of the same proposal."""
    import blackjax

    energy, h, y = mixture(3, 0.5), 0.2, jnp.ones(3)
    theirs, ours = blackjax.mala(lambda y: -energy(y), h), neb.MALA(h)(energy)
    keys = jax.random.split(jax.random.key(0), 20_000)
    a = jax.vmap(lambda k: theirs.step(k, theirs.init(y)))(keys)
    b = jax.vmap(lambda k: ours.step(k, ours.init(y, k)))(keys)
    for left, right in ((a[0].position, b[0].position), (a[1].acceptance_rate[:, None],
                         b[1].acceptance_rate[:, None])):  # fmt: skip
        left, right = np.asarray(left), np.asarray(right)
        error = np.sqrt((left.var(0) + right.var(0)) / len(keys))
        assert (np.abs(left.mean(0) - right.mean(0)) < 5 * error).all()


def test_defaults_come_from_sigma():
    energy = mixture(8, 0.4)
    assert neb.ULA().resolve(energy.sigma, 8).step_size == pytest.approx(0.4**2 / 8)
    kinetic = neb.KineticLangevin().resolve(energy.sigma, 8)
    assert (kinetic.step_size, kinetic.friction) == (pytest.approx(0.2), pytest.approx(2.5))
    assert neb.MALA().resolve(energy.sigma, 8).step_size == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("walk", "message"),
    [
        (neb.ULA(-0.1), "step_size must be positive and finite; got -0.1"),
        (neb.MALA(np.nan), "step_size must be positive"),
        (neb.KineticLangevin(friction=0.0), "friction must be positive"),
        (neb.KineticLangevin(scheme="BAB"), "scheme must be a word"),
        (neb.KineticLangevin(scheme="BAOX"), "scheme must be a word"),
    ],
)
def test_bad_tuning(walk, message):
    with pytest.raises(neb.errors.InvalidArgumentError, match=message):
        walk(mixture(2, 0.4))


def test_a_potential_without_sigma_needs_a_step():
    with pytest.raises(neb.errors.InvalidArgumentError, match="needs step_size and friction"):
        neb.KineticLangevin()(lambda y: jnp.sum(y**2))
    with pytest.raises(neb.errors.InvalidArgumentError, match=r"init\(position, rng_key\)"):
        neb.KineticLangevin()(mixture(2, 0.4)).init(jnp.zeros(2))
