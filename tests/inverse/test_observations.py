"""Observations: their densities are those that their simulations follow, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.inverse import (
    bernoulli,
    from_matrix,
    gaussian,
    identity,
    laplace,
    likelihood,
    mask,
    poisson,
    student_t,
)

MATRIX = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
OPERATOR = from_matrix(MATRIX)
X = jnp.array([0.5, 1.0, 0.3])
SEEN = MATRIX @ np.asarray(X)
COVARIANCE = np.array([[0.5, 0.2], [0.2, 0.3]])

CONTINUOUS = {
    "gaussian": gaussian(OPERATOR, SEEN, 0.3),
    "gaussian, two scales": gaussian(OPERATOR, SEEN, [0.3, 0.6]),
    "gaussian, correlated": gaussian(OPERATOR, SEEN, noise_covariance=COVARIANCE),
    "student_t": student_t(OPERATOR, SEEN, 0.3, df=4.0),
    "laplace": laplace(OPERATOR, SEEN, 0.3),
}


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_simulations_follow_the_density(kind):
    """Probability of half-planes around the mean: simulated shares against the density summed.

    4,000 simulations on either side of three lines, abs z < 5; the grid's error is below 1e-3.
    """
    observation = CONTINUOUS[kind]
    keys = jax.random.split(jax.random.key(0), 4_000)
    drawn = np.asarray(jax.vmap(lambda key: observation.simulate(key, X))(keys))
    axis = np.linspace(-6, 6, 301)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2) + SEEN
    density = np.exp(
        jax.vmap(lambda o: observation.with_value(o).log_likelihood(X))(jnp.asarray(grid))
    )
    mass = density * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(mass.sum(), 1, atol=2e-2)
    for direction, offset in [((1, 0), 0.2), ((0, 1), -0.1), ((1, -1), 0.3)]:

        def inside(points, direction=direction, offset=offset):
            return (points - SEEN) @ np.array(direction) < offset

        p, share = mass[inside(grid)].sum() / mass.sum(), inside(drawn).mean()
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4_000) + 0.02  # the grid's step


def test_spreads_are_standard_deviations():
    """Second moments of 20,000 simulations: abs z < 5, with the fourth moment as it is."""
    wanted = {"gaussian": 0.09, "laplace": 0.09, "student_t": 0.18}
    keys = jax.random.split(jax.random.key(1), 20_000)
    for kind, variance in wanted.items():
        drawn = jax.vmap(lambda key, o=CONTINUOUS[kind]: o.simulate(key, X))(keys)
        terms = (np.asarray(drawn)[:, 0] - SEEN[0]) ** 2 - variance
        if kind != "student_t":  # its fourth moment is infinite
            assert abs(terms.mean()) < 5 * terms.std() / np.sqrt(len(terms))
        assert abs(terms.mean()) < 0.1 * variance


def test_correlated_noise_has_its_covariance():
    keys = jax.random.split(jax.random.key(2), 20_000)
    observation = CONTINUOUS["gaussian, correlated"]
    drawn = jax.vmap(lambda key: observation.simulate(key, X))(keys)
    np.testing.assert_allclose(np.cov(np.asarray(drawn).T), COVARIANCE, atol=0.02)
    exact = stats.multivariate_normal.logpdf(SEEN + 0.1, SEEN, COVARIANCE)
    np.testing.assert_allclose(
        observation.with_value(SEEN + 0.1).log_likelihood(X), exact, rtol=1e-5
    )


def test_counts_and_signs_have_their_probabilities():
    eye = identity((1,))
    x = jnp.array([0.7])
    for count in range(4):
        exact = stats.poisson.logpmf(count, 3 * 0.7 + 0.5)
        found = poisson(eye, [count], exposure=3.0, background=0.5).log_likelihood(x)
        np.testing.assert_allclose(found, exact, rtol=1e-5)
    probit = bernoulli(eye, [1], noise_scale=2.0).log_likelihood(x)
    np.testing.assert_allclose(probit, stats.norm.logcdf(0.35), rtol=1e-5)
    logit = bernoulli(eye, [0], link="logit").log_likelihood(x)
    np.testing.assert_allclose(logit, stats.logistic.logcdf(-0.7), rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4_000)
    for observation, mean in [
        (poisson(eye, [0], exposure=3.0, background=0.5), 2.6),
        (bernoulli(eye, [0], noise_scale=2.0), stats.norm.cdf(0.35)),
        (bernoulli(eye, [0], link="logit"), stats.logistic.cdf(0.7)),
    ]:
        drawn = np.asarray(jax.vmap(lambda key, o=observation: o.simulate(key, x))(keys))
        assert abs(drawn.mean() - mean) < 5 * drawn.std() / np.sqrt(4_000)


def test_no_counts_from_negative_rates():
    observation = poisson(identity((1,)), [2])
    x = jnp.array([-0.1])
    assert observation.log_likelihood(x) == -jnp.inf
    assert jnp.isfinite(jax.grad(observation.log_likelihood)(x)).all()
    assert jnp.isnan(observation.simulate(jax.random.key(0), x)).all()


def test_any_likelihood():
    observation = likelihood(
        lambda seen, o: -jnp.sum(jnp.abs(seen - o)), SEEN, OPERATOR,
        sampler=lambda key, seen: seen + jax.random.laplace(key, seen.shape),
    )  # fmt: skip
    np.testing.assert_allclose(observation.log_likelihood(X), 0, atol=1e-6)
    assert observation.simulate(jax.random.key(0), X).shape == (2,)


def test_a_mask_takes_the_whole_event():
    keep = np.array([True, False, True])
    observation = gaussian(mask(keep), [1.0, 2.0, 3.0], 0.1)
    np.testing.assert_array_equal(observation.value, [1.0, 3.0])


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: gaussian(OPERATOR, SEEN, 0.0), InvalidArgumentError, "noise_scale"),
        (lambda: gaussian(OPERATOR, SEEN, [0.1, -1]), InvalidArgumentError, "noise_scale"),
        (lambda: gaussian(OPERATOR, SEEN, [0.1] * 3), EventShapeError, "(3,)"),
        (lambda: gaussian(OPERATOR, SEEN), InvalidArgumentError, "exactly one"),
        (
            lambda: gaussian(OPERATOR, SEEN, noise_covariance=-COVARIANCE),
            InvalidArgumentError, "definite",
        ),
        (lambda: gaussian(OPERATOR, SEEN, noise_covariance=np.eye(3)), EventShapeError, "(3, 3)"),
        (lambda: gaussian(OPERATOR, [1.0], 0.1), EventShapeError, "(1,)"),
        (lambda: gaussian(OPERATOR, [1.0, np.nan], 0.1), NonFiniteDataError, "1 numbers"),
        (lambda: gaussian(3.0, [1.0, 1.0], 0.1), InvalidArgumentError, "LinearOperator"),
        (lambda: poisson(OPERATOR, [0.5, 1]), InvalidArgumentError, "counts"),
        (lambda: bernoulli(OPERATOR, [2, 1]), InvalidArgumentError, "zeros and ones"),
        (lambda: bernoulli(OPERATOR, [0, 1], link="cloglog"), InvalidArgumentError, "cloglog"),
        (lambda: student_t(OPERATOR, SEEN, 0.1, df=0), InvalidArgumentError, "df"),
        (
            lambda: poisson(identity((2,)), [1, 2]).with_value([0.5, 1]),
            InvalidArgumentError, "counts",
        ),
        (
            lambda: bernoulli(identity((2,)), [1, 0]).with_value([7, 1]),
            InvalidArgumentError, "zeros and ones",
        ),
        (
            lambda: poisson(identity((2,)), [1, 2], background=[[1.0], [2.0]]),
            EventShapeError, "background",
        ),
        (
            lambda: poisson(identity((2,)), [1, 2], exposure=[1.0, 2.0, 3.0]),
            EventShapeError, "exposure",
        ),
        (lambda: gaussian(OPERATOR, None, 0.1), InvalidArgumentError, "got None"),
        (lambda: gaussian(OPERATOR, [1j, 2], 0.1), InvalidArgumentError, "complex"),
        (lambda: gaussian(SEEN, OPERATOR, 0.1), InvalidArgumentError, "swapped"),
        (
            lambda: likelihood(OPERATOR, SEEN, lambda seen, o: 0.0),
            InvalidArgumentError, "function must be (seen, o)",
        ),
        (lambda: gaussian(OPERATOR, SEEN, "0.1"), InvalidArgumentError, "noise_scale"),
        (lambda: CONTINUOUS["gaussian"].with_value([1.0]), EventShapeError, "(1,)"),
        (
            lambda: likelihood(lambda s, o: 0.0, SEEN, OPERATOR).simulate(jax.random.key(0), X),
            InvalidArgumentError, "sampler",
        ),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
