"""Closures against the exact posterior of a Gaussian mixture (float64, nothing random but draws).

The yardstick is ``log p(o | y) = log p(y | o) + log p(o) - log p_sigma(y)``, in closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture
from scipy import stats

import neb_ppl as neb
from neb_ppl.inverse import (
    bernoulli,
    exact_posterior,
    from_matrix,
    gaussian,
    identity,
    poisson,
    posterior_energy,
    student_t,
    weighted,
)
from neb_ppl.inverse.smc import bridge

D, TAU = 4, 0.4
MATRIX = np.random.default_rng(3).normal(size=(2, D))
MATRIX /= np.linalg.norm(MATRIX, 2)
SEEN = np.array([0.3, -0.5])
ORDERS = {"direct": 2, "plugin": 2, "annealed": 2, "isotropic": 4, "moment": 6}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def problem(sigma=0.2, noise=TAU):
    """A mixture prior smoothed by sigma, two noisy numbers of it, and its exact posterior."""
    prior = mixture(D, sigma)
    observation = gaussian(from_matrix(MATRIX), SEEN, noise)
    return prior, observation, exact_posterior(prior, observation)


def annealed(prior, observation):
    """The target on the way down: noise covariance ``R + sigma^2 A A^T``."""
    way = bridge(prior, posterior_energy(prior, observation, "split"))
    way = type(way)(way.family, way.posterior, way.white, prior.sigma, jnp.asarray(1.0))
    return way


def closed(prior, observation, closure):
    if closure == "annealed":
        return annealed(prior, observation)
    return posterior_energy(prior, observation, closure)


def log_lambda(prior, exact, y):
    """Exact ``log p(o | y)``."""
    return -exact.density(y) + exact.log_evidence + prior(y)


def round_mixture(sigma):
    """Components with no direction thinner than the smallest sigmas."""
    rng = np.random.default_rng(1)
    factors = 0.3 * rng.normal(size=(3, D, D))
    covariances = 0.2 * np.eye(D) + factors @ factors.swapaxes(1, 2)
    return neb.gaussian_mixture([0.6, 0.3, 0.1], rng.normal(size=(3, D)), covariances, sigma)


def likelihood_error(sigma, closure) -> float:
    """RMS error of the closure's ``log p(o | y)`` over 200 draws of the smoothed posterior."""
    prior, observation = round_mixture(sigma), gaussian(from_matrix(MATRIX), SEEN, TAU)
    exact = exact_posterior(prior, observation)
    posterior = closed(prior, observation, closure)
    y = exact.density.sample(jax.random.key(0), (200,))
    gap = jax.vmap(lambda y: prior(y) - posterior(y) - log_lambda(prior, exact, y))(y)
    return float(jnp.sqrt(jnp.mean(gap**2)))


def test_the_yardstick_is_the_mean_likelihood(x64):
    """T2: the mean of L(o | x) over exact draws of x given y, abs z < 5 at 8 places."""
    prior, observation, exact = problem(0.5)
    places = exact.density.sample(jax.random.key(1), (8,))
    for i, y in enumerate(places):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(2), i), 20_000)
        x = jax.vmap(prior.sample_posterior, (0, None))(keys, y)
        terms = np.exp(jax.vmap(observation.log_likelihood)(x))
        z = (terms.mean() - np.exp(log_lambda(prior, exact, y))) / terms.std() * len(terms) ** 0.5
        assert abs(z) < 5


def test_the_posterior_has_a_bayes_estimator_too(x64):
    """T1: E[X | y, o] by conditioning twice is y + sigma^2 grad log p(y | o), to 1e-9."""
    prior, observation, exact = problem(0.5)
    for y in exact.density.sample(jax.random.key(1), (8,)):
        twice = exact_posterior(exact.density, gaussian(identity((D,)), y, 0.5)).density.mean()
        np.testing.assert_allclose(neb.bayes_estimator(exact.density, y), twice, atol=1e-9)


@pytest.mark.parametrize("closure", ORDERS)
def test_order_of_the_bias(closure, x64):
    """T4: the slope at the last halving of sigma is the theory's, within .3."""
    slope = np.log2(likelihood_error(0.05, closure) / likelihood_error(0.025, closure))
    assert abs(slope - ORDERS[closure]) < 0.3


def test_split_is_an_exact_change_of_variables(x64):
    """The split's target is the mixture of Y under noise R - sigma^2 A A^T, with p(o) in front."""
    prior, observation, exact = problem(0.3)
    law_of_y = unsmoothed(prior)
    less = TAU**2 * np.eye(2) - 0.3**2 * MATRIX @ MATRIX.T
    target = exact_posterior(law_of_y, gaussian(from_matrix(MATRIX), SEEN, noise_covariance=less))
    np.testing.assert_allclose(target.log_evidence, exact.log_evidence, atol=1e-9)
    posterior = posterior_energy(prior, observation, "split")
    y = target.density.sample(jax.random.key(0), (20_000,))
    gap = jax.vmap(lambda y: posterior(y) + exact.log_evidence - target.density(y))(y[:50])
    np.testing.assert_allclose(gap, 0, atol=1e-8)
    check_draws(posterior, exact.density, y)


def unsmoothed(prior):
    """The law of Y as a clean mixture."""
    vectors, spread = prior.eigenvectors, prior.eigenvalues + prior.sigma**2
    covariances = jnp.einsum("kde,ke,kfe->kdf", vectors, spread, vectors)
    return neb.gaussian_mixture(jnp.exp(prior.log_weights), prior.means, covariances, 1e-9)


def check_draws(posterior, exact, y):
    """T3: jumps of exact draws of y have the posterior's mean and covariance, abs z < 5."""
    keys = jax.random.split(jax.random.key(5), len(y))
    x = np.asarray(jax.vmap(neb.stochastic_jump, (0, None, 0))(keys, posterior, y))
    mean, spread = np.asarray(exact.mean()), clean_covariance(exact)
    terms = [x - mean, (x - mean) ** 2 - np.diag(spread)]
    terms.append((x - mean) * np.roll(x - mean, 1, axis=1) - np.diag(np.roll(spread, 1, axis=1)))
    terms = np.concatenate(terms, axis=1)
    assert np.abs(terms.mean(0) / terms.std(0) * len(x) ** 0.5).max() < 5
    jumps = np.asarray(jax.vmap(neb.mean_jump, (None, None, 0))(keys[0], posterior, y))
    short = (jumps - mean) ** 2 - np.diag(spread)
    assert np.abs(short.mean(0) / short.std(0) * len(x) ** 0.5).max() > 5


def clean_covariance(density):
    return np.asarray(density.covariance()) - float(density.sigma) ** 2 * np.eye(D)


def test_inflated_is_exact_for_more_noise(x64):
    """T8: p_sigma(y) L(o | y), then the jump, is the posterior under R + sigma^2 A A^T."""
    prior, observation, _ = problem(0.3)
    more = TAU**2 * np.eye(2) + 0.3**2 * MATRIX @ MATRIX.T
    exact = exact_posterior(prior, gaussian(from_matrix(MATRIX), SEEN, noise_covariance=more))
    law_of_y = unsmoothed(prior)
    y = exact_posterior(law_of_y, observation).density.sample(jax.random.key(0), (20_000,))
    check_draws(posterior_energy(prior, observation, "inflated"), exact.density, y)


def test_direct_is_the_posterior_of_the_smoothed_variable(x64):
    """T8, the other marginal: p_sigma(y) L(o | y) over its evidence, to 1e-9."""
    prior, observation, _ = problem(0.3)
    exact = exact_posterior(unsmoothed(prior), observation)
    posterior = posterior_energy(prior, observation, "direct")
    y = exact.density.sample(jax.random.key(0), (50,))
    gap = jax.vmap(lambda y: posterior(y) + exact.log_evidence - exact.density(y))(y)
    np.testing.assert_allclose(gap, 0, atol=1e-9)


TALL = np.random.default_rng(4).normal(size=(6, D))
NOISES = {
    "one": lambda: gaussian(from_matrix(MATRIX), SEEN, TAU),
    "unequal": lambda: gaussian(from_matrix(MATRIX), SEEN, [0.3, 0.7]),
    "correlated": lambda: gaussian(
        from_matrix(MATRIX), SEEN, noise_covariance=[[0.3, 0.2], [0.2, 0.5]]
    ),
    "more than x has": lambda: gaussian(from_matrix(TALL), np.ones(6), np.arange(3.0, 9.0) / 10),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("closure", ["moment", "isotropic"])
def test_gaussian_closures_are_exact_for_gaussian_priors(closure, noise, x64):
    """Energy with its constant, Kalman's mean and the covariance of jumps, at any sigma."""
    covariance = 0.5 * np.eye(D) if closure == "isotropic" else np.diag([0.1, 0.5, 1.0, 2.0])
    prior = neb.gaussian_mixture([1.0], np.ones((1, D)), covariance[None], 0.8)
    observation = NOISES[noise]()
    exact = exact_posterior(prior, observation)
    posterior = posterior_energy(prior, observation, closure)
    for y in exact.density.sample(jax.random.key(0), (5,)):
        gap = posterior(y) + exact.log_evidence - exact.density(y)
        np.testing.assert_allclose(gap, 0, atol=1e-9)
        expected = neb.bayes_estimator(exact.density, y)
        np.testing.assert_allclose(neb.bayes_estimator(posterior, y), expected, atol=1e-9)
        np.testing.assert_allclose(posterior.score(y), exact.density.score(y), atol=1e-9)
    keys = jax.random.split(jax.random.key(1), 20_000)
    noise = jax.vmap(lambda key: neb.jump_noise(key, posterior, y).noise)(keys)
    wanted = np.asarray(neb.posterior_covariance(exact.density, y))
    error = 5 * np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / 20_000)
    assert (np.abs(np.cov(np.asarray(noise).T) - wanted) < error).all()


@pytest.mark.parametrize("closure", ["split", "moment"])
def test_gibbs_leaves_the_posterior_alone(closure, x64):
    """T9: x from the posterior, y given x (and o), then the jump: x again, abs z < 5.

    Under `split`, any prior, the data see y as well: precision I / sigma^2 + A^T S^{-1} A, where
    S is the noise that is left. Under `moment`, a Gaussian prior, they do not; its jump does.
    """
    sigma, seen = 0.3, gaussian(from_matrix(MATRIX), SEEN, TAU)
    covariance = np.diag([0.1, 0.5, 1.0, 2.0])
    bell = neb.gaussian_mixture([1.0], np.ones((1, D)), covariance[None], sigma)
    prior = mixture(D, sigma) if closure == "split" else bell
    exact = exact_posterior(prior, seen).density
    x = np.asarray(exact.at(1e-9).sample(jax.random.key(0), (20_000,)))
    free = np.eye(D) / sigma**2
    left = np.linalg.inv(TAU**2 * np.eye(2) - sigma**2 * MATRIX @ MATRIX.T)
    data = MATRIX.T @ left if closure == "split" else np.zeros((D, 2))
    spread = np.linalg.inv(free + data @ MATRIX)
    noise = np.random.default_rng(1).multivariate_normal(np.zeros(D), spread, len(x))
    posterior = posterior_energy(prior, seen, closure)
    y = jnp.asarray((x @ free + data @ SEEN) @ spread + noise)
    check_draws(posterior, exact, y)
    if closure == "split":
        with pytest.raises(AssertionError):
            check_draws(posterior_energy(prior, seen, "split", recalibration=1.15), exact, y)
    if closure == "split":
        with pytest.raises(AssertionError):
            check_draws(posterior, exact, jnp.asarray(neb.smooth(jax.random.key(2), x, sigma)))


@pytest.mark.parametrize("noise", NOISES)
def test_the_split_has_its_constant(noise, x64):
    """The law of y under noise R - sigma^2 A A^T, with p(o) in front, for each kind of R."""
    observation = NOISES[noise]()
    sigma = 0.5 * float(neb.inverse.split_bound(observation))
    prior = mixture(D, sigma)
    matrix = np.asarray(observation.operator.matrix())
    less = np.asarray(observation.noise_covariance()) - sigma**2 * matrix @ matrix.T
    look = gaussian(observation.operator, observation.value, noise_covariance=less)
    target = exact_posterior(unsmoothed(prior), look)
    evidence = exact_posterior(prior, observation).log_evidence
    posterior = posterior_energy(prior, observation, "split")
    y = target.density.sample(jax.random.key(0), (50,))
    gap = jax.vmap(lambda y: posterior(y) + evidence - target.density(y))(y)
    np.testing.assert_allclose(gap, 0, atol=1e-8)


def test_an_indefinite_covariance_counts_as_nothing():
    """A learned energy's C may have negative directions: in value and jump their spread is 0."""
    energy = neb.from_energy(lambda y: 5 * jnp.sum(y**2) / 2, 1.0, event_shape=(D,))
    observation = gaussian(from_matrix(MATRIX), SEEN, 0.01)
    posterior = posterior_energy(energy, observation, "moment")
    y = jnp.ones(D)
    none = gaussian(lambda x: jnp.asarray(MATRIX) @ neb.bayes_estimator(energy, x), SEEN, 0.01)
    np.testing.assert_allclose(posterior(y), energy(y) - none.log_likelihood(y), rtol=1e-5)
    drawn = neb.jump_noise(jax.random.key(0), posterior, y)
    assert np.all(drawn.noise == 0) and drawn.num_clamped == D
    np.testing.assert_array_equal(neb.bayes_estimator(posterior, y), neb.bayes_estimator(energy, y))


def test_jumps_come_nearer_to_the_data_where_a_covariance_is_indefinite():
    """C of .5 and -.05 sigma^2, turned by 45 degrees against two precise measurements: the jump's
    residual is the estimator's times 1 / (1 + spread) and 1, never more."""
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    curvature = turn @ np.diag([0.5, 1.05]) @ turn.T
    energy = neb.from_energy(lambda y: y @ jnp.asarray(curvature) @ y / 2, 1.0, event_shape=(2,))
    posterior = posterior_energy(energy, gaussian(identity((2,)), SEEN, 0.1), "moment")
    y = jnp.array([0.7, 0.2])
    before = (SEEN - neb.bayes_estimator(energy, y)) @ turn
    after = (SEEN - neb.bayes_estimator(posterior, y)) @ turn
    np.testing.assert_allclose(after, before / np.array([1 + 50.0, 1.0]), rtol=1e-4)
    keys = jax.random.split(jax.random.key(0), 1_000)
    x = np.asarray(jax.vmap(neb.stochastic_jump, (0, None, None))(keys, posterior, y)) @ turn
    exact = np.sqrt(0.5 / 51)
    assert abs(x[:, 0].std() / exact - 1) < 5 / np.sqrt(2_000) and x[:, 1].std() < 1e-5


def test_loewner_sandwich(x64):
    """T5: for a Gaussian prior, Cov(plugin) <= Cov(X | o) <= Cov(direct)."""
    spread = np.diag([0.1, 0.5, 1.0, 2.0])
    prior = neb.gaussian_mixture([1.0], np.zeros((1, D)), spread[None], 0.5)
    observation = gaussian(from_matrix(MATRIX), SEEN, TAU)
    truth = clean_covariance(exact_posterior(prior, observation).density)
    y = jnp.ones(D)
    wide = np.linalg.inv(jax.hessian(posterior_energy(prior, observation, "direct"))(y))
    plugin = posterior_energy(prior, observation, "plugin")
    jump = np.asarray(jax.jacobian(lambda y: neb.bayes_estimator(plugin, y))(y))
    narrow = jump @ np.linalg.inv(jax.hessian(plugin)(y)) @ jump.T
    assert np.linalg.eigvalsh(truth - narrow).min() > -1e-9
    assert np.linalg.eigvalsh(wide - truth).min() > -1e-9
    assert np.trace(wide) > 1.05 * np.trace(truth) > 1.05**2 * np.trace(narrow)


def test_first_order_bias_of_direct(x64):
    """T12: E_direct f - E f = sigma^2 / 2 Cov(f, Laplacian p / p), by quadrature of one number."""
    means, variances, weights = np.array([-1.0, 1.0]), np.array([0.3, 0.5]), np.array([0.4, 0.6])
    sigma, grid = 0.05, np.linspace(-6, 6, 4001)
    prior = neb.gaussian_mixture(weights, means[:, None], variances[:, None], sigma)
    posterior = posterior_energy(prior, gaussian(identity((1,)), [0.2], 0.5), "direct")
    direct = np.exp(-np.asarray(jax.vmap(posterior)(jnp.asarray(grid)[:, None])))
    each = weights * stats.norm.pdf(grid[:, None], means, np.sqrt(variances))
    clean = each.sum(1)
    standard = (grid[:, None] - means) ** 2 / variances - 1
    ratio = (each * standard / variances).sum(1) / clean
    exact = clean * stats.norm.pdf(0.2, grid, 0.5)
    direct, exact = direct / direct.sum(), exact / exact.sum()
    for f in (grid, grid**2):
        predicted = 0.5 * sigma**2 * (exact @ (f * ratio) - exact @ f * (exact @ ratio))
        assert abs(direct @ f - exact @ f - predicted) < 0.02 * abs(predicted)


SPLITS = {
    "gaussian": lambda eye: gaussian(eye, [0.8], 0.5),
    "probit": lambda eye: bernoulli(eye, [1.0], noise_scale=0.5),
    "student_t, 4": lambda eye: student_t(eye, [0.8], 0.5, df=4.0),
    "student_t, 2000": lambda eye: student_t(eye, [0.8], 0.5, df=2_000.0),
    "student_t, 1": lambda eye: student_t(eye, [0.8], 0.5, df=1.0),
    "probit, gain 2": lambda eye: bernoulli(weighted(2.0, eye), [1.0], noise_scale=0.5),
    "student_t, gain 2": lambda eye: student_t(weighted(2.0, eye), [0.8], 0.5, df=4.0),
}


@pytest.mark.parametrize("kind", SPLITS)
def test_data_look_the_same_through_y(kind, x64):
    """``E[p_split(o | x + sigma xi)] = p(o | x)``, by 100 Gauss-Hermite nodes.

    Student-t noise leaves out precisions of probability at most 1e-4, and its integral over
    precisions has 64 nodes: 1e-3 of the largest density.
    """
    observation = SPLITS[kind](identity((1,)))
    sigma = 0.9 * min(float(neb.inverse.split_bound(observation)), 1.0)
    prior = neb.gaussian_mixture([1.0], np.zeros((1, 1)), np.ones((1, 1)), sigma)
    posterior = posterior_energy(prior, observation, "split")
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    for x in (-1.0, 0.3, 0.8, 2.0):
        y = jnp.asarray(x + sigma * nodes)[:, None]
        seen = np.exp(jax.vmap(lambda y: prior(y) - posterior(y))(y))
        found = weights @ seen / weights.sum()
        exact = float(jnp.exp(observation.log_likelihood(jnp.array([x]))))
        assert abs(found - exact) < (1e-3 if "student" in kind else 1e-8)


@pytest.mark.parametrize("df", [1.0, 4.0, 30.0, 2_000.0])
def test_outliers_keep_their_pull(df, x64):
    """At a sigma of 1e-3 tau, log density and force are those of Student's t, far into its tail.

    The smoothing adds 1e-6 of a variance; errors of the 64 nodes stay below 1e-4 of each.
    """
    tau = 0.5
    prior = neb.gaussian_mixture([1.0], np.zeros((1, 1)), np.ones((1, 1)), 1e-3 * tau)
    for residual in (0.0, 1.0, 6.0, 60.0, 300.0, 1_000.0):
        if df * np.log1p(residual**2 / df) > 1_000:
            continue  # beyond what any law but the Gaussian's own tail could produce
        look = student_t(identity((1,)), [residual * tau], tau, df=df)
        posterior = posterior_energy(prior, look, "split")
        found, (pull,) = jax.value_and_grad(lambda y, p=posterior: p.log_density(y)[0])(
            jnp.zeros(1)
        )
        exact = stats.t.logpdf(residual * tau, df, 0.0, tau)
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
        force = (df + 1) * residual / tau / (df + residual**2)
        np.testing.assert_allclose(pull, force, rtol=1e-3, atol=1e-6)


def test_monte_carlo_nears_the_mean_likelihood(x64):
    """Counts of a Gaussian variable: log p(o | y) by quadrature, to 2e-3 with points that are
    exactly white."""
    prior = neb.gaussian_mixture([1.0], [[2.0]], [[0.3]], 0.4)
    observation = poisson(identity((1,)), [3.0], exposure=2.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    errors = []
    for count in (16, 1024):
        posterior = posterior_energy(prior, observation, "monte_carlo", num_points=count)
        gaps = []
        for place in (1.5, 2.0, 2.8):
            y = jnp.array([place])
            spread = float(neb.posterior_covariance(prior, y)[0, 0]) ** 0.5
            x = float(neb.bayes_estimator(prior, y)[0]) + spread * nodes
            exact = np.log(weights @ stats.poisson.pmf(3, np.maximum(2 * x, 1e-9)) / weights.sum())
            gaps.append(float(prior(y) - posterior(y)) - exact)
        errors.append(np.abs(gaps).max())
    assert max(errors) < 2e-3


def test_monte_carlo_draws_follow_the_likelihood(x64):
    """Many counts of a Gaussian variable, far from its prior: the law of 4,000 draws of x.

    Mean and variance within 5 standard errors of quadrature; of 1,024 points a jump the effective
    ones are some 100, so that the jump's own bias is below one.
    """
    prior = neb.gaussian_mixture([1.0], [[2.0]], [[0.3]], 0.4)
    observation = poisson(identity((1,)), [64.0], exposure=20.0)
    posterior = posterior_energy(prior, observation, "monte_carlo", num_points=1024)
    y, spread = jnp.array([2.4]), 0.16 * 0.3 / 0.46
    grid = np.linspace(0.01, 6, 20_000)
    weights = stats.norm.pdf(grid, float(neb.bayes_estimator(prior, y)[0]), spread**0.5)
    weights = weights * stats.poisson.pmf(64, 20 * grid)
    mean = weights @ grid / weights.sum()
    variance = weights @ (grid - mean) ** 2 / weights.sum()
    keys = jax.random.split(jax.random.key(0), 4_000)
    x = np.asarray(jax.vmap(neb.stochastic_jump, (0, None, None))(keys, posterior, y))[:, 0]
    assert abs(x.mean() - mean) < 5 * (variance / len(x)) ** 0.5
    assert abs(x.var() / variance - 1) < 5 * (2 / len(x)) ** 0.5
    prior_jump = float(neb.bayes_estimator(prior, y)[0])
    assert abs(prior_jump - mean) > 20 * (variance / len(x)) ** 0.5  # what it must not be


def test_forces_are_gradients_but_for_the_spread(x64):
    """Of `moment`, with C held fixed, by central differences of the frozen energy."""
    prior, observation, _ = problem(0.3)
    posterior = posterior_energy(prior, observation, "moment")
    y = jnp.array([0.2, -0.4, 0.1, 0.6])
    spread = MATRIX @ np.asarray(neb.posterior_covariance(prior, y)) @ MATRIX.T + TAU**2 * np.eye(2)

    def frozen(y):
        r = SEEN - MATRIX @ neb.bayes_estimator(prior, y)
        return prior(y) + 0.5 * r @ np.linalg.inv(spread) @ r

    np.testing.assert_allclose(-posterior.score(y), jax.grad(frozen)(y), atol=1e-9)


def test_the_force_of_monte_carlo(x64):
    """Of `monte_carlo`, with C^{1/2} z held fixed, by central differences of the frozen energy."""
    prior, observation, _ = problem(0.3)
    posterior = posterior_energy(prior, observation, "monte_carlo", num_points=32)
    y = jnp.array([0.2, -0.4, 0.1, 0.6])
    values, vectors = np.linalg.eigh(neb.posterior_covariance(prior, y))
    cloud = np.asarray(posterior.points) @ (vectors * np.sqrt(values)) @ vectors.T

    def frozen(y):
        x = neb.bayes_estimator(prior, y) + cloud
        return prior(y) - jax.nn.logsumexp(jax.vmap(observation.log_likelihood)(x))

    np.testing.assert_allclose(-posterior.score(y), jax.grad(frozen)(y), atol=1e-8)


def test_a_map_that_is_not_linear_is_linearised_at_the_estimate(x64):
    """`moment` of exp: value, mean and covariance of jumps by NumPy, with unequal noise."""
    prior, _, _ = problem(0.3)
    scales = np.array([0.3, 0.6])

    def see(x):
        return jnp.exp(jnp.asarray(MATRIX) @ x)

    posterior = posterior_energy(prior, gaussian(see, [1.3, 0.7], scales), "moment")
    y = jnp.array([0.2, -0.4, 0.1, 0.6])
    estimate = neb.bayes_estimator(prior, y)
    c = np.asarray(neb.posterior_covariance(prior, y))
    jacobian = np.asarray(jax.jacobian(see)(estimate))
    spread = jacobian @ c @ jacobian.T + np.diag(scales**2)
    residual = np.array([1.3, 0.7]) - np.asarray(see(estimate))
    expected = -stats.multivariate_normal.logpdf(residual, np.zeros(2), spread)
    np.testing.assert_allclose(posterior(y) - prior(y), expected, rtol=1e-8)
    gain = c @ jacobian.T @ np.linalg.inv(spread)
    np.testing.assert_allclose(
        neb.bayes_estimator(posterior, y), estimate + gain @ residual, atol=1e-8
    )
    keys = jax.random.split(jax.random.key(1), 20_000)
    x = np.asarray(jax.vmap(neb.stochastic_jump, (0, None, None))(keys, posterior, y))
    wanted = c - gain @ jacobian @ c
    error = 5 * np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / 20_000)
    assert (np.abs(np.cov(x.T) - wanted) < error).all()


def test_the_error_of_the_points_falls_as_their_root(x64):
    """A Gaussian prior, where nothing else errs: 64 times the points, a quarter or less of it."""
    prior = neb.gaussian_mixture([1.0], np.zeros((1, D)), np.eye(D)[None], 0.5)
    observation = gaussian(from_matrix(MATRIX), SEEN, TAU)
    exact = exact_posterior(prior, observation)
    y = exact.density.sample(jax.random.key(0), (200,))

    def error(count):
        posterior = posterior_energy(prior, observation, "monte_carlo", num_points=count)
        gap = jax.vmap(lambda y: prior(y) - posterior(y) - log_lambda(prior, exact, y))(y)
        return float(jnp.sqrt(jnp.mean(gap**2)))

    assert error(4096) < 0.25 * error(64) and error(512) < 0.1
