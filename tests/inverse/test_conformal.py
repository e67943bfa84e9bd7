"""Calibrated intervals against exact risks, over many calibrations of a few pairs.

The truths are ``x = a_j r`` with r standard normal, one for all entries of an event ("shared") or
one for each ("own"), and every half-width is .5: the risk of a factor is then a tail of the normal
distribution. With a shared r the risk of a pair is 0 or 1, where the guarantees are tightest.
Bounds are 3.89 standard errors of the calibrations: a false alarm in 1e-4 runs.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog
from scipy.special import bdtr, ndtr

from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.inverse import conformal
from neb_ppl.inverse.conformal import calibrate_intervals, shortest_factors

HALF = 0.5
SPREAD = np.array([0.2, 0.2, 0.5, 1.0, 3.0, 3.0])
EQUAL = np.ones(6)
STANDARD_ERRORS = 3.89


def truths(rng, num_pairs: int, spread, law: str) -> np.ndarray:
    columns = 1 if law == "shared" else len(spread)
    return spread * rng.standard_normal((num_pairs, columns))


def calibrated(x, **options):
    return calibrate_intervals(x, np.full(x.shape, -HALF), np.full(x.shape, HALF), **options)


def risks(result, spread) -> np.ndarray:
    """Exact share of each entry outside, from the interval itself."""
    _, upper = result.apply(np.full(spread.shape, -HALF), np.full(spread.shape, HALF))
    return 2 * ndtr(-upper / spread)


def repeated(num_times: int, num_pairs: int, spread, law: str, **options) -> np.ndarray:
    """Mean exact risk of each of many calibrations."""
    rng = np.random.default_rng(0)
    draws = (truths(rng, num_pairs, spread, law) for _ in range(num_times))
    return np.array([risks(calibrated(x, **options), spread).mean() for x in draws])


def is_within(values: np.ndarray, low: float, high: float) -> bool:
    slack = STANDARD_ERRORS * values.std() / np.sqrt(len(values))
    return bool(low - slack <= values.mean() <= high + slack)


def plug_in(monkeypatch):
    """The mutant: the empirical risk itself, instead of a bound on the risk."""
    monkeypatch.setattr(
        conformal, "_misses", lambda _, shape, level, __: int((1 - level) * np.prod(shape) + 1e-9)
    )


@pytest.mark.parametrize("widening", ["multiply", "add"])
@pytest.mark.parametrize(("num_pairs", "level"), [(9, 0.9), (20, 0.9), (50, 0.75)])
def test_split_covers_as_order_statistics_do(num_pairs, level, widening):
    """2,000 independent entries are as many calibrations: coverage ceil((n + 1) level) / (n + 1).

    Which lies between the level and level + 1 / (n + 1). Nine pairs are just enough for .9.
    """
    spread = np.ones(2_000)
    x = truths(np.random.default_rng(0), num_pairs, spread, "own")
    result = calibrated(x, method="split", level=level, widening=widening)
    coverage = 1 - risks(result, spread)
    exact = np.ceil((num_pairs + 1) * level - 1e-9) / (num_pairs + 1)
    assert result.factor.shape == (2_000,)
    assert level <= exact < level + 1 / (num_pairs + 1)
    assert is_within(coverage, exact, exact)


def test_an_order_statistic_too_low_is_seen(monkeypatch):
    """The mutant ceil(n level): .857 instead of .905 for 20 pairs, below the level .9."""
    plug_in(monkeypatch)
    spread = np.ones(2_000)
    x = truths(np.random.default_rng(0), 20, spread, "own")
    coverage = 1 - risks(calibrated(x, method="split", level=0.9), spread)
    assert not is_within(coverage, 0.9, 1.0)
    assert is_within(coverage, 18 / 21, 18 / 21)


@pytest.mark.parametrize("law", ["shared", "own"])
def test_conformal_risk_is_controlled_on_average(law):
    """And, for continuous scores, is above 1 - level - 2 / (n + 1): Angelopoulos et al."""
    assert is_within(repeated(1_000, 30, EQUAL, law), 0.1 - 2 / 31, 0.1)


def test_the_plug_in_risk_is_not(monkeypatch):
    """Three pairs of 30 may miss instead of two: risk 4/31."""
    plug_in(monkeypatch)
    seen = repeated(1_000, 30, EQUAL, "shared")
    assert not is_within(seen, 0.0, 0.1)
    assert is_within(seen, 4 / 31, 4 / 31)


def violations(method: str, law: str, delta: float) -> tuple[float, float]:
    """Share of calibrations whose risk exceeds .1, and what chance leaves of delta."""
    share = np.mean(repeated(1_000, 80, SPREAD, law, method=method, delta=delta) > 0.1)
    return float(share), delta + STANDARD_ERRORS * np.sqrt(delta * (1 - delta) / 1_000)


@pytest.mark.parametrize("law", ["shared", "own"])
@pytest.mark.parametrize("method", ["rcps", "k-rcps"])
def test_the_risk_is_controlled_with_high_probability(method, law):
    share, allowed = violations(method, law, delta=0.2)
    assert share <= allowed


@pytest.mark.parametrize("method", ["rcps", "k-rcps"])
def test_without_the_bound_it_is_not(monkeypatch, method):
    plug_in(monkeypatch)
    share, allowed = violations(method, "shared", delta=0.2)
    assert share > allowed


@pytest.mark.parametrize("num_pairs", [60, 2_000])
@pytest.mark.parametrize("mean", [0.0, 0.002, 0.015, 0.0625, 0.099, 0.1, 0.4])
def test_the_bound_is_that_of_hoeffding_and_bentkus(num_pairs, mean):
    """Bates et al. (2021), with Hoeffding's as the least of Chernoff's bounds, by a grid."""
    size, risk = 8, 0.1
    misses = round(mean * num_pairs * size)
    mean = misses / (num_pairs * size)
    t = np.linspace(-20, 0, 200_001)
    chernoff = np.min(num_pairs * (np.log1p(risk * np.expm1(t)) - mean * t))
    bentkus = np.e * stats.binom.cdf(np.ceil(num_pairs * mean), num_pairs, risk)
    bound = min(np.exp(chernoff), bentkus, 1.0)
    seen = conformal._tail(misses, num_pairs, size, conformal._risk(0.9))
    assert seen == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("delta", [0.01, 0.1, 0.3])
@pytest.mark.parametrize(("num_pairs", "level"), [(99, 0.95), (60, 0.9), (500, 0.9), (20, 0.7)])
def test_the_bound_holds_for_binomial_risks(num_pairs, level, delta):
    """Exactly: shares of 0 and 1 of mean 1 - level are so low with a probability below delta.

    It is not idle either: with twice the misses, and two, they would be so more often.
    """
    misses = conformal._misses("rcps", (num_pairs, 1), level, delta)
    assert bdtr(misses, num_pairs, 1 - level) <= delta
    assert bdtr(2 * misses + 2, num_pairs, 1 - level) > delta
    lumps = conformal._misses("rcps", (num_pairs, 7), level, delta)
    assert misses * 7 <= lumps < (misses + 1) * 7


def test_groups_make_intervals_shorter():
    """One factor for six entries of spreads .2 to 3 is too long for most: paired, by 20 %."""
    rng = np.random.default_rng(1)
    lengths = []
    for _ in range(100):
        x = truths(rng, 200, SPREAD, "own")
        both = (calibrated(x, method=method) for method in ("rcps", "k-rcps"))
        lengths.append([np.mean(np.broadcast_to(result.factor, 6)) for result in both])
    one, many = np.array(lengths).T
    assert is_within(many / one, 0.0, 0.8)


def test_the_factors_of_groups_solve_the_linear_program():
    """Against HiGHS on all convex combinations of the points of each group's curve."""
    rng = np.random.default_rng(0)
    labels, costs = np.array([0, 1, 1, 2, 2]), rng.uniform(1, 3, 5)
    scores = rng.gamma(2.0, 1.0, (30, 5)) * [1, 2, 2, 5, 5]
    factors = shortest_factors(scores, costs, labels, misses=20)
    values = [np.sort(scores[:, labels == k], axis=None) for k in range(3)]
    sizes = [len(v) for v in values]
    cost = np.concatenate([costs[labels == k].sum() * v for k, v in enumerate(values)])
    misses = np.concatenate([len(v) - 1 - np.arange(len(v)) for v in values])
    groups = np.repeat(np.eye(3), sizes, axis=1)
    best = linprog(cost, A_ub=misses[None], b_ub=[20], A_eq=groups, b_eq=np.ones(3))
    lengths = [costs[labels == k].sum() for k in range(3)]
    assert np.dot(lengths, factors) == pytest.approx(best.fun, rel=1e-9)


def test_groups_may_be_given_and_share_a_factor():
    x = truths(np.random.default_rng(0), 100, SPREAD, "own").reshape(100, 2, 3)
    labels = np.array([[7, 7, 3], [3, 5, 5]])
    factor = calibrated(x, method="k-rcps", groups=labels).factor
    assert factor.shape == (2, 3)
    assert len(np.unique(factor)) == 3
    assert all(len(np.unique(factor[labels == k])) == 1 for k in (3, 5, 7))
    single = calibrated(x, method="k-rcps", groups=1).factor
    assert np.ptp(single) == 0


@pytest.mark.parametrize("widening", ["multiply", "add"])
def test_entries_of_width_zero_widen(widening):
    """Two of six entries: they reach the level as well, which no multiple of zero would."""
    rng = np.random.default_rng(0)
    x = truths(rng, 400, EQUAL, "own")
    half = np.broadcast_to([0, 0, 1, 1, 1, 1.0], x.shape)
    result = calibrate_intervals(x, -half, half, method="split", widening=widening)
    lower, upper = result.apply(-half[0], half[0])
    assert np.allclose(2 * ndtr(-upper), 0.1, atol=STANDARD_ERRORS * 0.3 / np.sqrt(402))
    assert np.allclose(lower, -upper)


def test_scalars_of_width_zero_widen_by_a_sum():
    x = np.random.default_rng(0).standard_normal(50)
    result = calibrate_intervals(x, 0 * x, 0 * x, widening="add")
    lower, upper = result.apply(np.zeros(3), np.zeros(3))
    assert np.allclose(upper, result.factor, rtol=1e-12)
    assert result.factor.shape == ()
    with pytest.raises(InvalidArgumentError, match="50 events have lower equal to upper"):
        calibrate_intervals(x, 0 * x, 0 * x)
    wide = calibrated(x)
    with pytest.raises(InvalidArgumentError, match="1 events .* widening='add'"):
        wide.apply([1.0, 2.0], [1.0, 3.0])


def test_intervals_too_wide_become_narrower():
    x = 0.01 * np.random.default_rng(0).standard_normal((100, 3))
    for widening in ("multiply", "add"):
        lower, upper = calibrated(x, widening=widening).apply(np.full(3, -HALF), np.full(3, HALF))
        assert (upper < 0.05).all()
        assert (lower <= upper).all()
    shifted = calibrated(x, widening="add")
    lower, upper = shifted.apply(np.zeros(3), np.full(3, 0.1))
    assert np.allclose(lower, 0.05)
    assert np.allclose(upper, 0.05)


@pytest.mark.parametrize("widening", ["multiply", "add"])
def test_rounding_pushes_no_truth_off_the_edge(widening):
    """Coin tosses: half of all truths are on the edge, and one rounded edge in 15 is too low."""
    rng = np.random.default_rng(0)
    for size, half in rng.uniform(0.1, 1, (200, 2)):
        x = size * np.tile([0.5, 1.0], 20)
        bounds = np.full(40, -half), np.full(40, half)
        lower, upper = calibrate_intervals(x, *bounds, widening=widening).apply(*bounds)
        assert ((lower <= x) & (x <= upper)).all()


def test_what_holds_is_said():
    x = truths(np.random.default_rng(0), 100, EQUAL, "own")
    words = {method: calibrated(x, method=method).guarantee for method in conformal.METHODS}
    assert "probability at least 0.9, over new truths and draws of the 100 pairs" in words["split"]
    assert "On average over new truths and draws of the 100 pairs" in words["crc"]
    assert "at most 0.1 of a new truth's entries lie outside" in words["crc"]
    assert "probability at least 0.9 over draws of the 100 pairs" in words["rcps"]
    assert "draws of the 75 pairs" in words["k-rcps"]


def test_jax_arrays_and_single_precision_are_taken():
    x = truths(np.random.default_rng(0), 40, EQUAL, "own")
    single = calibrated(jnp.asarray(x))
    assert single.factor == pytest.approx(float(calibrated(x).factor), rel=1e-5)
    assert single.apply(jnp.zeros((2, 6)), jnp.ones((2, 6)))[0].shape == (2, 6)


@pytest.mark.parametrize(
    ("method", "level", "needed"),
    [("split", 0.9, 9), ("crc", 0.95, 19), ("rcps", 0.9, 22), ("k-rcps", 0.9, 30)],
)
def test_too_few_pairs(method, level, needed):
    """One fewer is refused, and says how many are needed."""
    x = truths(np.random.default_rng(0), needed, EQUAL, "own")
    assert np.isfinite(calibrated(x, method=method, level=level).factor).all()
    with pytest.raises(InvalidArgumentError, match=f"{needed - 1} pairs.* at least {needed} for"):
        calibrated(x[1:], method=method, level=level)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level must be a number between 0 and 1; got 1"),
        ({"delta": 0.0, "method": "rcps"}, "delta must be a number between 0 and 1; got 0"),
        ({"delta": 0.2}, "delta is a setting of method='rcps' and 'k-rcps', which method='crc'"),
        ({"groups": 2, "method": "rcps"}, "groups is a setting of method='k-rcps'"),
        ({"method": "rpcs"}, "method must be one of .*; got 'rpcs'"),
        ({"widening": "both"}, "widening must be one of .*; got 'both'"),
        ({"method": "k-rcps", "groups": 7}, r"groups must be a whole number in 1 \.\. 6"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        calibrated(truths(np.random.default_rng(0), 60, EQUAL, "own"), **options)


def test_bad_arrays():
    x = truths(np.random.default_rng(0), 60, EQUAL, "own")
    bad = x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(NonFiniteDataError, match="truth holds 1 values"):
        calibrated(bad)
    with pytest.raises(EventShapeError, match=r"truth has shape \(60, 6\) and lower \(60, 5\)"):
        calibrate_intervals(x, x[:, :5], x[:, :5])
    with pytest.raises(EventShapeError, match=r"\(60, 6\) and upper \(6,\); expected the same"):
        calibrate_intervals(x, x, x[0])
    with pytest.raises(InvalidArgumentError, match=r"360 places, the first at index \(0, 0\)"):
        calibrate_intervals(x, x + 1, x - 1)
    with pytest.raises(InvalidArgumentError, match="groups must be labels.*float64"):
        calibrated(x, method="k-rcps", groups=np.ones(6))
    with pytest.raises(EventShapeError, match=r"groups has shape \(2,\); expected labels"):
        calibrated(x, method="k-rcps", groups=np.array([0, 1]))
    with pytest.raises(EventShapeError, match=r"lower has shape \(5,\); .* \(6,\)"):
        calibrated(x, method="split").apply(np.zeros(5), np.ones(5))
