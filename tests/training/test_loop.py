"""fit: learns, continues exactly, stops when told, and says what went wrong."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.errors import DataRangeWarning
from neb_ppl.training.checks import check_scale
from neb_ppl.training.loop import _train_chunk, batch_indices
from neb_ppl.training.state import copy

SMALL = neb.MLP(hidden=32, blocks=1)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def moons():
    return neb.data.two_moons(jax.random.key(1), 2_000)


@pytest.fixture
def untrained():
    return neb.deen(KEY, (2,), 0.3, network=SMALL)


def quick(energy, x, **settings):
    settings = {"num_steps": 200, "validate_every": 50, "progress_bar": False} | settings
    return neb.fit(KEY, energy, x, **settings)


def test_training_lowers_the_risk_below_the_linear_estimator(untrained, moons):
    energy, history = quick(untrained, moons, num_steps=600)
    covariance = np.cov(np.asarray(moons).T)
    linear = np.trace(covariance @ np.linalg.inv(covariance + 0.09 * np.eye(2))) * 0.09 / 2
    assert history.best_risk < 0.95 * linear
    assert float(neb.denoising_loss(energy, jax.random.key(9), moons)) < 0.95 * linear
    assert f"{history.best_risk:.5g} (denoising risk per dimension)" in repr(history)
    _, history = quick(neb.noise_conditional(KEY, (2,), (0.1, 1.0)), moons, num_steps=1)
    assert "per dimension, weighed by 1/sigma^2" in repr(history)


def test_going_on_from_a_state_is_exact(untrained, moons):
    """Weights and losses after a pause are those of one run, bit for bit."""
    whole, full = quick(untrained, moons)
    _, first = quick(untrained, moons, callbacks=[lambda step, *_: step == 100])
    assert "callback at step 100" in first.stopped
    again, second = quick(untrained, moons, state=first.state)
    assert all(np.array_equal(whole.weights[n], again.weights[n]) for n in whole.weights)
    assert np.array_equal(full.loss, np.concatenate([first.loss, second.loss]))


def test_the_bar_changes_nothing(untrained, moons):
    with_bar, _ = quick(untrained, moons, progress_bar=True)
    without, _ = quick(untrained, moons)
    assert all(np.array_equal(with_bar.weights[n], without.weights[n]) for n in without.weights)


def test_the_callers_weights_survive(untrained, moons):
    """The compiled loop takes over buffers: not those of the model that was passed in."""
    before = copy(untrained.weights)
    _, history = quick(untrained, moons)
    quick(untrained, moons, state=history.state, num_steps=200)
    assert all(np.array_equal(before[n], untrained.weights[n]) for n in before)


def test_a_second_fit_compiles_nothing(untrained, moons):
    quick(untrained, moons)
    size = _train_chunk._cache_size()
    other = neb.deen(jax.random.key(5), (2,), 0.5, network=SMALL)
    quick(other, moons)
    assert _train_chunk._cache_size() == size


def test_early_stopping_returns_the_best(untrained, moons):
    """With data to memorise, the risk turns; the weights returned are those of the lowest."""
    energy, history = quick(
        untrained, moons[:24], validation=moons[1000:], num_steps=3_000, patience=3, batch_size=24
    )
    assert "stopped early" in history.stopped
    assert history.best_risk == min(history.risk) < history.risk[-1]
    assert len(history.loss) < 3_000


def test_batches_are_permutations_and_depend_on_the_step_alone():
    rows = batch_indices([1, 2], 10, 3, 0, 9)
    for epoch in range(3):
        assert len(np.unique(rows[3 * epoch : 3 * epoch + 3])) == 9
    assert np.array_equal(batch_indices([1, 2], 10, 3, 4, 3), rows[4:7])
    assert not np.array_equal(rows[:3], rows[3:6])


def test_the_scale_of_the_data_becomes_part_of_the_energy(untrained, moons):
    energy, _ = quick(untrained, moons * 50 + 7, num_steps=20)
    assert abs(energy.scale.shift - float(jnp.mean(moons * 50 + 7))) < 1
    assert energy.scale.low == pytest.approx(float(jnp.min(moons * 50 + 7)))


def test_constant_pixels_are_harmless(moons):
    """Row 4: a dimension without variance needs no division."""
    x = np.concatenate([np.asarray(moons), np.zeros((len(moons), 1), np.float32)], axis=1)
    energy, _ = quick(neb.deen(KEY, (3,), 0.3, network=SMALL), x, num_steps=40)
    assert np.isfinite(energy.score(jnp.zeros(3))).all()
    same = np.ones((50, 3), np.float32)
    energy, _ = quick(neb.deen(KEY, (3,), 0.3, network=SMALL), same, num_steps=40)
    assert np.isfinite(energy.score(jnp.ones(3))).all()


def test_divergence_keeps_the_last_good_model(untrained, moons):
    """Row 6: says step and rate; what it hands back is finite."""
    with pytest.raises(neb.errors.TrainingDivergedError, match=r"at step \d+ .*1e\+20") as caught:
        quick(untrained, moons, learning_rate=1e20)
    weights = caught.value.energy.weights
    assert all(np.isfinite(weights[n]).all() for n in weights)


def test_foreign_params_are_trained(moons):
    """Any pytree of weights learns by the same loss."""

    def phi(params, u):
        return 0.5 * jnp.sum(((u - params["m"]) @ params["a"]) ** 2)

    start = {"m": jnp.zeros(2), "a": jnp.eye(2)}
    energy = neb.from_energy(phi, 0.3, params=start, event_shape=(2,))
    trained, history = quick(energy, moons, num_steps=800, learning_rate=2e-2)
    covariance = np.cov(np.asarray(moons).T) + 0.09 * np.eye(2)
    learned = np.linalg.inv(np.asarray(trained.params["a"] @ trained.params["a"].T))
    assert np.allclose(learned, covariance, atol=0.1)
    assert history.best_risk < history.risk[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a whole number of at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive, finite number; got -1"),
        ({"learning_rate": "a"}, "learning_rate must be a positive, finite number; got 'a'"),
        ({"learning_rate": np.inf}, "learning_rate must be a positive, finite number; got inf"),
        ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\); got 1"),
        ({"ema_decay": "a"}, r"ema_decay must lie in \[0, 1\); got 'a'"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \[0, 1\)"),
    ],
)
def test_bad_arguments(untrained, moons, settings, message):
    with pytest.raises(neb.errors.InvalidArgumentError, match=message):
        quick(untrained, moons, **settings)


def test_bad_data(untrained, moons):
    bad = np.asarray(moons).copy()
    bad[3, 1] = np.nan
    with pytest.raises(neb.errors.NonFiniteDataError, match=r"1 .*\(3, 1\)"):
        quick(untrained, bad)
    with pytest.raises(neb.errors.EventShapeError):
        quick(untrained, np.zeros((5, 3), np.float32))
    with pytest.raises(neb.errors.InvalidArgumentError):
        quick(untrained, np.zeros((5, 2), np.uint8))
    with pytest.raises(neb.errors.InvalidArgumentError):
        quick(untrained, np.zeros((0, 2), np.float32))


@pytest.mark.parametrize(
    ("spread", "words"), [(1e-3, "lowest sigma=0.05 is 50"), (1.0, None), (1e4, "highest sigma=8")]
)
def test_levels_in_other_units_than_the_data_are_told(spread, words):
    """Above all that the data are, or below it; a low end that hardly joins events is no fault."""
    energy = neb.noise_conditional(jax.random.key(0), (2,), (0.05, 8.0))
    x = np.random.default_rng(0).normal(size=(500, 2), scale=spread).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_scale(energy, x / x.std() * np.float32(spread))
    assert [w.category for w in caught] == ([] if words is None else [DataRangeWarning])
    assert words is None or words in str(caught[0].message)
