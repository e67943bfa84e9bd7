"""Calibration of inferences whose faults are known, and bands, coverage and TARP by themselves.

Two normal coordinates seen with noise have an exact posterior. A right one fails with chance
LEVEL at a seed that was not searched for. Of a posterior a fifth too narrow or a quarter too wide,
1,000 simulations find each coordinate with a chance of at least .98; of one shifted by .4
deviations, or of a dropped likelihood, always.
"""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import neb_ppl as neb
from neb_ppl.diagnostics.tarp import _predictions
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError

LEVEL = 1e-4
COUNT = 300
NUM_DRAWS = 99
NOISE = 0.7
VARIANCE = 1 / (1 + 1 / NOISE**2)


def simulate(key):
    key_truth, key_noise = jax.random.split(key)
    truth = jax.random.normal(key_truth, (2,))
    return truth, truth + NOISE * jax.random.normal(key_noise, (2,))


def posterior(shift=0.0, scale=1.0):
    def infer(key, data):
        noise = jax.random.normal(key, (NUM_DRAWS, 2))
        return VARIANCE / NOISE**2 * data + np.sqrt(VARIANCE) * (shift + scale * noise)

    return infer


def at_once(shift=0.0, scale=1.0, count=1_000):
    """The same, truths and data and draws of many simulations together."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(count, 2))
    data = truth + NOISE * random.normal(size=truth.shape)
    noise = random.normal(size=(count, NUM_DRAWS, 2))
    draws = VARIANCE / NOISE**2 * data[:, None] + np.sqrt(VARIANCE) * (shift + scale * noise)
    return draws, truth, data


def prior(key, data):
    return jax.random.normal(key, (NUM_DRAWS, 2))


def log_likelihood(theta, data):
    return -0.5 * ((data - theta) ** 2).sum() / NOISE**2


def calibrated(infer, count=COUNT, **settings):
    settings = {"alpha": LEVEL, "progress_bar": False} | settings
    return neb.diagnostics.calibrate(
        jax.random.key(0), simulate, infer, num_simulations=count, **settings
    )


@pytest.fixture(scope="module")
def exact():
    return calibrated(posterior(), log_likelihood=log_likelihood)


def judged(found, **settings):
    return neb.diagnostics.tarp(
        jax.random.key(1), found.draws, found.truth, alpha=LEVEL, **settings
    )


def test_an_exact_posterior_passes(exact):
    draws, truth, data = at_once()
    assert neb.diagnostics.tarp(jax.random.key(1), draws, truth, data=data, alpha=LEVEL).ok
    assert exact.ok and exact.is_complete
    assert exact.names == ("theta[0]", "theta[1]", "log_likelihood")
    assert exact.num_simulations == COUNT and exact.num_draws == NUM_DRAWS
    assert "No quantity leaves its band" in str(exact)
    assert judged(exact, data=exact.data).ok
    assert judged(exact, references=exact.data).ok


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": 0.8}, "too narrow, about 0.8"),
        ({"scale": 1.25}, "too wide, about 1."),
        ({"shift": 0.4}, "shifted up by about 0.4 sd"),
        ({"shift": -0.4}, "shifted down by about 0.4 sd"),
    ],
)
def test_a_wrong_posterior_fails_in_words(settings, words):
    draws, truth, data = at_once(**settings)
    ranks = neb.diagnostics.truth_ranks(jax.random.key(0), draws, truth)
    found = neb.diagnostics.judge_ranks(ranks, NUM_DRAWS, names=["a", "b"], alpha=LEVEL)
    assert found.failing == ("a", "b")
    assert str(found).count(f"FAILS: {words}") == 2
    if "scale" in settings:
        assert not neb.diagnostics.tarp(jax.random.key(1), draws, truth, data=data, alpha=LEVEL).ok


def test_a_dropped_likelihood_is_seen_by_the_log_likelihood_alone():
    found = calibrated(prior, log_likelihood=log_likelihood)
    assert found.failing == ("log_likelihood",)
    assert "shifted down" in str(found)
    without = calibrated(prior, count=100)
    assert without.ok
    assert "log_likelihood is not among the quantities" in str(without)


def test_tarp_sees_a_dropped_likelihood_by_references_that_depend_on_the_data():
    found = calibrated(prior)
    assert not judged(found, data=found.data).ok
    assert not judged(found, references=found.data).ok
    blind = judged(found, references=np.random.default_rng(0).normal(size=(COUNT, 2)))
    assert blind.ok


def test_tarp_says_where_it_leaves_its_band():
    found = calibrated(prior, count=100)
    curve = judged(found, data=found.data)
    assert "leaves its band" in str(curve)
    outside = (curve.coverage < curve.lower) | (curve.coverage > curve.upper)
    assert outside.any()


def test_references_are_predictions():
    """Far from the truth for 16 simulations, then nearer than the prior's deviation."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(512, 5)) * 3 + 7
    data = truth[:, ::-1] + 0.1 * random.normal(size=truth.shape)
    draws = np.repeat(truth[:, None], 30, axis=1) + 0.1 * random.normal(size=(512, 30, 5))
    own = neb.diagnostics.tarp(jax.random.key(0), draws, truth, data=data)
    scaled = neb.diagnostics.tarp(jax.random.key(0), draws * 1e3, truth * 1e3, data=data)
    assert np.array_equal(own.coverage, scaled.coverage)
    standard = (truth - truth.mean(axis=0)) / truth.std(axis=0)
    errors = np.abs(_predictions(jax.random.key(0), data, standard) - standard)
    assert errors[:16].mean() > 0.8
    assert errors[256:].mean() < 0.1


def test_predicted_references_leave_exact_draws_exact():
    """20,000 exact simulations in 250 sets: p-values fall below .1 as often as said."""
    draws, truth, data = at_once(count=20_000)
    p_values = [
        neb.diagnostics.tarp(
            jax.random.key(0), draws[i : i + 80, :39], truth[i : i + 80], data=data[i : i + 80]
        ).p_value
        for i in range(0, 20_000, 80)
    ]
    error = np.sqrt(0.1 * 0.9 / 250)
    assert abs(np.mean(np.array(p_values) <= 0.1) - 0.1) < 4 * error


def test_uniform_ranks_leave_the_band_as_often_as_said():
    """20,000 sets of ranks: the share outside is the exact chance, within 5 standard errors."""
    count, num_draws, alpha = 60, 29, 0.1
    ranks = np.random.default_rng(0).integers(0, num_draws + 1, (count, 20_000))
    band = neb.diagnostics.rank_band(count, num_draws, alpha)
    below = (ranks[..., None] < np.arange(1, num_draws + 1)).mean(axis=0)
    outside = ((below < band.lower - 1e-9) | (below > band.upper + 1e-9)).any(axis=1)
    error = np.sqrt(alpha * (1 - alpha) / 20_000)
    assert np.allclose(band.points, np.arange(1, 30) / 30)
    assert alpha - 0.01 - 5 * error < outside.mean() < alpha + 5 * error
    p_values = neb.diagnostics.rank_p_values(ranks[:, :2_000], num_draws)
    assert np.array_equal(p_values <= alpha, outside[:2_000])


@pytest.mark.parametrize(("count", "num_draws"), [(25, 19), (200, 1_000), (3, 2)])
def test_bands_of_every_size(count, num_draws):
    band = neb.diagnostics.rank_band(count, num_draws, 0.05)
    assert len(band.points) == min(num_draws, 128)
    assert (np.diff(band.points) > 0).all() and 0 < band.points[0] < band.points[-1] < 1
    assert (band.lower <= band.points).all() and (band.points <= band.upper).all()
    assert (np.diff(band.lower) >= 0).all() and (np.diff(band.upper) >= 0).all()


def test_the_chance_of_one_point_is_binomial():
    """One draw: the ranks are coins, and the p-value the two-sided one."""
    ranks = np.repeat([[0], [1]], [30, 10], axis=0)
    (found,) = neb.diagnostics.rank_p_values(ranks, 1)
    assert found == pytest.approx(stats.binomtest(10, 40).pvalue, rel=1e-9)


def test_small_p_values_keep_their_size():
    """Every rank 0: below any point but the first, all counts are as they can be at most."""
    ranks = np.zeros((200, 1), int)
    (found,) = neb.diagnostics.rank_p_values(ranks, 99)
    assert 100.0**-200 <= found <= 200 * 100.0**-200


def test_ties_are_broken_at_random():
    draws, truth = np.zeros((4_000, 19, 1)), np.zeros((4_000, 1))
    ranks = neb.diagnostics.truth_ranks(jax.random.key(0), draws, truth)
    assert set(np.unique(ranks)) == set(range(20))
    assert neb.diagnostics.judge_ranks(ranks, 19, alpha=LEVEL).ok


def test_ranks_of_pytrees_have_a_column_for_each_number():
    draws = {"a": np.arange(20.0)[None].repeat(3, 0), "b": np.zeros((3, 20, 2))}
    truth = {"a": np.array([-1.0, 4.5, 30.0]), "b": np.ones((3, 2))}
    ranks = neb.diagnostics.truth_ranks(jax.random.key(0), draws, truth)
    assert ranks.tolist() == [[0, 20, 20], [5, 20, 20], [20, 20, 20]]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.123])
@pytest.mark.parametrize("num_draws", [19, 20, 200])
def test_coverage_over_all_ranks_is_the_level(level, num_draws):
    draws = np.tile(np.arange(num_draws), (num_draws + 1, 1))
    truth = np.arange(num_draws + 1) - 0.5
    found = neb.diagnostics.coverage(draws, truth, level)
    assert found.share == pytest.approx(level, abs=1e-12)
    assert found.standard_error <= np.sqrt(level * (1 - level) / len(truth)) + 1e-12


def test_coverage_of_exact_draws_where_quantiles_fall_short():
    """40,000 truths among 200 draws: .900 +- .0015; intervals of numpy.quantile hold .891."""
    random = np.random.default_rng(0)
    draws, truth = random.normal(size=(40_000, 200)), random.normal(size=40_000)
    found = neb.diagnostics.coverage(draws, truth, 0.9)
    assert abs(found.z) < 4
    assert found.standard_error == pytest.approx(0.0015, rel=0.02)
    low, high = np.quantile(draws, [0.05, 0.95], axis=1)
    quantiles = ((low < truth) & (truth < high)).mean()
    assert (quantiles - 0.9) / found.standard_error < -4


def test_coverage_of_ties_is_the_level():
    few = neb.diagnostics.coverage(np.arange(39.0)[None].repeat(3, 0), np.full(3, 20.5))
    assert str(few).endswith("(error unknown: 3 simulations without spread)")
    found = neb.diagnostics.coverage(np.ones((5, 39, 2)), np.ones((5, 2)), [0.5, 0.95])
    assert np.allclose(found.share, [[0.5, 0.5], [0.95, 0.95]])


def test_the_mean_coverage_knows_that_numbers_of_one_event_agree():
    """Copies of one number: the mean is as uncertain as the one."""
    random = np.random.default_rng(0)
    draws, truth = random.normal(size=(500, 99, 1)), random.normal(size=(500, 1))
    found = neb.diagnostics.coverage(draws.repeat(50, 2), truth.repeat(50, 1), 0.8)
    assert found.share.shape == (50,)
    assert found.mean_error == pytest.approx(found.standard_error, rel=0.1)
    assert "80% intervals hold" in str(found)


def test_coverage_of_a_calibration_is_that_of_its_draws(exact):
    own = exact.coverage([0.5, 0.9]).share[:, :2]
    assert np.allclose(own, neb.diagnostics.coverage(exact.draws, exact.truth, [0.5, 0.9]).share)


def test_quantities_by_name_and_of_large_events():
    def named(theta, data):
        return {"total": theta.sum(), "misfit": (theta - data) ** 2}

    assert calibrated(posterior(), 20, quantities=named).names == (
        "misfit[0]",
        "misfit[1]",
        "total",
    )

    def large(key):
        return {"gain": jnp.ones(()), "y": jax.random.normal(key, (4, 4))}, jnp.zeros(())

    def infer(key, data):
        return {"gain": jnp.ones(19), "y": jax.random.normal(key, (19, 4, 4))}

    found = neb.diagnostics.calibrate(
        jax.random.key(0), large, infer, num_simulations=20, progress_bar=False
    )
    assert len(found.names) == 9 and found.names[-1] == "squared norm"
    assert found.draws["y"].shape == (20, 19, 4, 4)
    assert calibrated(posterior(), 20, keep=False).draws is None


def test_simulations_do_not_depend_on_their_number():
    few, many = calibrated(posterior(), 20), calibrated(posterior(), 40)
    assert np.array_equal(few.ranks, many.ranks[:20])


def test_ctrl_c_keeps_what_is_there():
    calls = []

    def interrupted(key):
        calls.append(1)
        if len(calls) == 25:
            signal.raise_signal(signal.SIGINT)
        return simulate(key)

    def run():
        return neb.diagnostics.calibrate(
            jax.random.key(0), interrupted, posterior(), num_simulations=50, progress_bar=False
        )

    found = run()
    assert found.num_simulations == 25 and not found.is_complete
    assert "ended early" in str(found)
    calls[:] = [1] * 14
    with pytest.raises(KeyboardInterrupt, match="after 11 simulations"):
        run()


def test_a_second_ctrl_c_leaves_the_simulation_at_hand():
    calls = []

    def infer(key, data):
        calls.append(1)
        for _ in range(2 if len(calls) == 31 else 0):
            signal.raise_signal(signal.SIGINT)
        return posterior()(key, data)

    found = calibrated(infer, 60)
    assert found.num_simulations == 30 and not found.is_complete


def test_an_inference_that_was_interrupted_ends_the_run():
    calls = []

    def infer(key, data):
        calls.append(1)
        return posterior()(key, data)[: 50 if len(calls) == 31 else None]

    found = calibrated(infer, 60)
    assert found.num_simulations == 30 and not found.is_complete
    calls[:] = [1] * 25
    with pytest.raises(InvalidArgumentError, match="got 50 after 99"):
        calibrated(infer, 60)


def nan_at(key, data):
    return posterior()(key, data).at[3, 1].set(jnp.nan)


@pytest.mark.parametrize(
    ("infer", "settings", "error", "match"),
    [
        (nan_at, {}, NonFiniteDataError, "got 1 of 198 numbers"),
        (lambda key, data: data, {}, EventShapeError, r"shape \(draws, 2\)"),
        (lambda key, data: {"a": data}, {}, EventShapeError, "same arrays"),
        (lambda key, data: jnp.zeros((9, 2)), {}, InvalidArgumentError, "at least 19 draws"),
        (posterior(), {"count": 19}, InvalidArgumentError, "num_simulations must be at least 20"),
        (
            posterior(),
            {"alpha": 0.0},
            InvalidArgumentError,
            "alpha must be a number between 0 and 1",
        ),
        (
            posterior(),
            {"quantities": lambda theta, data: jnp.log(-(theta**2))},
            InvalidArgumentError,
            r"quantity\[0\] is NaN at 100 of 100",
        ),
        (
            posterior(),
            {
                "quantities": lambda theta, data: {"log_likelihood": theta[0]},
                "log_likelihood": log_likelihood,
            },
            InvalidArgumentError,
            "log_likelihood once",
        ),
    ],
)
def test_bad_inferences(infer, settings, error, match):
    with pytest.raises(error, match=match):
        calibrated(infer, **({"count": 20} | settings))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"simulate": "prior"}, r"simulate must be a function rng_key -> .* got str"),
        ({"infer": None}, "infer must be a function .* got NoneType"),
        ({"quantities": [1]}, "quantities must be a function .* got list"),
        ({"log_likelihood": 3}, "log_likelihood must be a function .* got int"),
        ({"simulate": jax.random.normal}, r"simulate must return a pair .* got ArrayImpl"),
        ({"simulate": lambda key: (0.0, 0.0, 0.0)}, "got 3 of them"),
        (
            {"simulate": lambda key: ("a", 0), "infer": lambda *_: np.array(["a"] * 20)},
            "numbers; got dtype",
        ),
        ({"quantities": lambda theta, data: None}, "quantity must be a number.*got None"),
    ],
)
def test_what_is_no_simulation(wrong, match):
    good = {"simulate": lambda key: (0.0, 0.0), "infer": lambda key, data: np.arange(20.0)}
    with pytest.raises((InvalidArgumentError, EventShapeError), match=match):
        neb.diagnostics.calibrate(
            jax.random.key(0), **(good | wrong), num_simulations=20, progress_bar=False
        )


def test_errors_say_which_simulation():
    with pytest.raises(NonFiniteDataError) as caught:
        calibrated(nan_at, 20)
    assert "simulation 0" in caught.value.__notes__[0]


def test_bad_ranks():
    judge = neb.diagnostics.judge_ranks
    good = np.zeros((20, 2), int)
    with pytest.raises(InvalidArgumentError, match="lie in 0 .. 19; got 20"):
        judge(good + 20, 19)
    with pytest.raises(InvalidArgumentError, match="whole numbers of shape"):
        judge(good / 19, 19)
    with pytest.raises(InvalidArgumentError, match="at least 20 simulations"):
        judge(good[:19], 19)
    with pytest.raises(InvalidArgumentError, match="at least 19 draws"):
        judge(good, 18)
    with pytest.raises(InvalidArgumentError, match="2 different names"):
        judge(good, 19, names=["a", "a"])


def test_bad_draws_for_coverage():
    covers = neb.diagnostics.coverage
    with pytest.raises(InvalidArgumentError, match="level 0.95 needs at least 39 draws"):
        covers(np.zeros((5, 38)), np.zeros(5), 0.95)
    with pytest.raises(InvalidArgumentError, match="level must be a number between 0 and 1"):
        covers(np.zeros((5, 38)), np.zeros(5), 1.0)
    with pytest.raises(EventShapeError, match=r"shape \(5, draws, 3\)"):
        covers(np.zeros((5, 38)), np.zeros((5, 3)))


def test_bad_references():
    draws, truth = np.zeros((30, 20, 2)), np.zeros((30, 2))
    key = jax.random.key(0)
    with pytest.raises(InvalidArgumentError, match="exactly one of data and references"):
        neb.diagnostics.tarp(key, draws, truth)
    with pytest.raises(EventShapeError, match="a row for each of 30 truths"):
        neb.diagnostics.tarp(key, draws, truth, data=truth[:3])
    with pytest.raises(EventShapeError, match="must hold 2 numbers"):
        neb.diagnostics.tarp(key, draws, truth, references=np.zeros((30, 3)))
    with pytest.raises(NonFiniteDataError, match="data must be finite"):
        neb.diagnostics.tarp(key, draws, truth, data=truth * np.nan)
