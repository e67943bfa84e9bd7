"""The posterior as a value: what is chosen, said, refused, and never compiled twice."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.energies.scale import DataScale
from neb_ppl.errors import (
    ApproximationWarning,
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NebPPLError,
    NotAnEnergyError,
)
from neb_ppl.inverse import (
    bernoulli,
    blur,
    downsample,
    exact_posterior,
    from_function,
    from_matrix,
    gaussian,
    identity,
    laplace,
    mask,
    poisson,
    posterior_energy,
    split_bound,
    student_t,
    weighted,
)

D = 4
PRIOR = mixture(D, 0.2)
LOOK = from_matrix(np.eye(D)[:2])
SMALL = neb.MLP(hidden=8, blocks=1)
RANDOM = np.random.default_rng(0).normal(size=(3, D)) / 3
OBSERVATION = gaussian(LOOK, [0.1, 0.2], 0.4)
CLOSURES = ("split", "moment", "isotropic", "plugin", "inflated", "direct", "monte_carlo")


@pytest.mark.parametrize("closure", CLOSURES)
def test_each_closure_walks_and_jumps_its_own_way(closure):
    """The jump that a walk saves is the posterior's own, and explain says which."""
    posterior = posterior_energy(PRIOR, OBSERVATION, closure)
    start = PRIOR.sample(jax.random.key(0), (2,))
    result = neb.sample(
        jax.random.key(1), posterior, neb.MALA(step_size=0.01), start, num_samples=3,
        progress_bar=False,
    )  # fmt: skip
    assert result.settings["jump"] == "stochastic_jump"
    y = jnp.asarray(result.y[0, 0])
    mean = neb.bayes_estimator(posterior, y)
    np.testing.assert_array_equal(neb.mean_jump(jax.random.key(0), posterior, y), mean)
    noise = np.asarray(result.x[0, 0]) - np.asarray(mean)
    assert (np.abs(noise).max() > 1e-6) == (closure not in ("plugin", "direct"))
    np.testing.assert_allclose(posterior(y) - PRIOR(y), posterior.likelihood_energy(y), atol=1e-4)
    naive = y + posterior.sigma**2 * posterior.score(y)
    assert np.allclose(mean, naive, atol=1e-4) == (closure == "moment")  # Kalman's is its own
    said = posterior.explain()
    assert said.closure == posterior.closure == closure
    for words in (said.target, said.jump, said.bias, "sigma    0.2", said.cost):
        assert words in str(said)


def test_auto_takes_what_is_exact():
    eye = identity((D,))
    o = np.zeros(D)
    exact = [
        OBSERVATION,
        gaussian(eye, o, 0.3),
        gaussian(eye, o, noise_covariance=0.3 * np.eye(D)),
        bernoulli(eye, o, noise_scale=0.3),
        student_t(eye, o, 1.0, df=4.0),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ApproximationWarning)
        assert all(posterior_energy(PRIOR, look).closure == "split" for look in exact)
    others = [
        (gaussian(eye, o, 0.1), "moment"),
        (gaussian(lambda x: x**2, o, 0.1), "moment"),
        (student_t(eye, o, 0.2, df=4.0), "monte_carlo"),
        (bernoulli(eye, o, link="logit"), "monte_carlo"),
        (poisson(eye, o, background=1.0), "monte_carlo"),
        (laplace(eye, o, 0.5), "monte_carlo"),
    ]
    for look, closure in others:
        with pytest.warns(ApproximationWarning, match=closure):
            assert posterior_energy(PRIOR, look).closure == closure


def test_a_range_of_levels_gives_the_best_below_the_bound():
    energy = neb.noise_conditional(jax.random.key(0), (D,), (0.05, 1.0))
    assert float(posterior_energy(energy, OBSERVATION).sigma) == pytest.approx(0.9 * 0.4)
    assert float(posterior_energy(energy, OBSERVATION, sigma=0.1).sigma) == pytest.approx(0.1)
    noiseless = gaussian(LOOK, [0.1, 0.2], 0.01)
    with pytest.warns(ApproximationWarning, match="up to sigma = 0.0099"):
        assert float(posterior_energy(energy, noiseless).sigma) == pytest.approx(0.05)


@pytest.mark.parametrize("noise", [0.15, 10.0, "correlated", "each"])
@pytest.mark.parametrize(
    "look",
    [
        identity((64,)),
        mask(np.arange(64) % 9 < 1),
        blur(np.ones(5) / 5, (64,)),
        from_matrix(np.ones((1, 64))),
    ],
)
def test_data_in_other_units_are_told(look, noise):
    """Bytes for a prior of 0 to 1; the whitest and the blackest events, and noise, are not."""
    scale = DataScale(*map(jnp.asarray, (0.3, 0.3, 0.0, 1.0)))
    prior = dataclasses.replace(
        neb.deen(jax.random.key(0), (64,), 0.01, network=SMALL), scale=scale
    )
    size = look.out_size
    settings = {
        "correlated": {"noise_covariance": 0.02 * (np.eye(size) + np.ones((size, size)))},
        "each": {"noise_scale": np.linspace(0.1, 0.2, size)},
    }.get(noise, {"noise_scale": noise})

    def given(x):
        blank = gaussian(look, jnp.zeros(look.out_shape), **settings)
        return blank.with_value(blank.simulate(jax.random.key(1), x))

    digit = jnp.asarray(np.random.default_rng(0).random(64) ** 2)
    for x in (digit, jnp.zeros(64), jnp.ones(64)):
        posterior_energy(prior, given(x))
    with pytest.warns(DataRangeWarning, match="divided by 255"):
        posterior_energy(prior, given(255 * digit))
    if look.out_size == look.in_size and noise == 10.0:
        value = given(255 * digit).value
        with pytest.warns(DataRangeWarning, match="the noise is .* as large as all that events"):
            posterior_energy(prior, gaussian(look, value, 25.0))  # which hides the value's scale
        hiding = jnp.where(jnp.arange(64) < 32, 1e3, 0.1).reshape(look.out_shape)
        posterior_energy(prior, gaussian(look, look(digit), hiding))
    untrained = neb.deen(jax.random.key(0), (64,), 0.01, network=SMALL)
    posterior_energy(untrained, given(255 * digit))


def test_bounds_on_sigma():
    half = gaussian(downsample(2, (4, 4)), np.zeros((2, 2)), 0.1)
    assert float(neb.inverse.split_bound(half)) == pytest.approx(0.2)
    unequal = gaussian(LOOK, [0, 0], [0.3, 0.1])
    assert float(neb.inverse.split_bound(unequal)) == pytest.approx(0.1)
    correlated = gaussian(LOOK, [0, 0], noise_covariance=[[0.5, 0.2], [0.2, 0.3]])
    smallest = np.linalg.eigvalsh([[0.5, 0.2], [0.2, 0.3]])[0]
    assert float(neb.inverse.split_bound(correlated)) == pytest.approx(smallest**0.5, rel=1e-5)
    assert float(neb.inverse.split_bound(laplace(LOOK, [0, 0], 0.1))) == 0


@pytest.mark.parametrize("closure", CLOSURES)
def test_new_data_compile_nothing(closure, compilations):
    energy = jax.jit(lambda posterior, y: (posterior(y), posterior.score(y)))
    others = [gaussian(LOOK, [0.1, 0.2], 0.4), gaussian(LOOK, [0.5, -0.2], 0.5)]
    one, other = (
        posterior_energy(PRIOR.at(0.2 + i / 10), o, closure) for i, o in enumerate(others)
    )
    y, z = jnp.zeros(D), jnp.ones(D)
    first = energy(one, y)
    with compilations() as count:
        second = energy(other, z)
    assert not count and first[0] != second[0]


@pytest.mark.parametrize("closure", ["moment", "monte_carlo"])
def test_forces_are_for_walks_that_accept_or_reject(closure):
    posterior = posterior_energy(PRIOR, OBSERVATION, closure)
    start = PRIOR.sample(jax.random.key(0), (2,))
    for walk in (neb.ULA(), neb.KineticLangevin(), neb.MCLMC()):
        with pytest.raises(InvalidArgumentError, match="settle elsewhere"):
            neb.sample(jax.random.key(0), posterior, walk, start, num_samples=1)

    def of_noise(scale):
        look = gaussian(LOOK, [0.1, 0.2], scale)
        return posterior_energy(PRIOR, look, closure)(jnp.zeros(D))

    with pytest.raises(TypeError, match="latent"):
        jax.grad(of_noise)(0.4)


def test_the_noise_scale_of_a_split_may_be_latent():
    """The derivative in tau, by central differences; and NaN below the bound, never a number."""

    def energy(scale):
        look = gaussian(LOOK, [0.1, 0.9], scale)
        return posterior_energy(PRIOR, look, "split")(jnp.zeros(D))

    numeric = (energy(0.41) - energy(0.39)) / 0.02
    assert float(jax.grad(energy)(0.4)) == pytest.approx(float(numeric), rel=1e-2)
    assert jnp.isnan(jax.jit(energy)(0.15))


@pytest.mark.parametrize(
    "noise",
    [
        lambda scale: bernoulli(mask(np.arange(D) < 2), [1.0, 0.0], noise_scale=scale),
        lambda scale: student_t(mask(np.arange(D) < 2), [0.1, 0.9], scale, df=4.0),
    ],
    ids=["probit", "student_t"],
)
def test_no_split_is_a_number_beyond_its_bound(noise):
    """A latent scale cannot be refused: twice the bound's is a number, .9 of it NaN."""
    least = float(PRIOR.sigma / neb.inverse.split_bound(noise(1.0)))

    @jax.jit
    def energy(scale):
        return posterior_energy(PRIOR, noise(scale), "split")(jnp.zeros(D))

    assert jnp.isfinite(energy(2 * least)) and jnp.isnan(energy(0.9 * least))


def test_equations_that_are_not_solved_are_told():
    """Cumulative sums of 400 entries: noise of 100 is solved for, of .01 it is not."""
    energy = neb.from_energy(lambda y: jnp.sum(y**2) / 2, 0.5, event_shape=(400,))
    for noise, solved in ((100.0, True), (0.01, False)):
        look = gaussian(from_function(jnp.cumsum, (400,)), np.zeros(400), noise)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            posterior_energy(energy, look, "isotropic", prior_variance=1.0)
        assert solved != any("conjugate gradients" in str(w.message) for w in caught)


def test_an_energy_that_does_not_know_its_shape_has_the_operators():
    """784 outputs would be a 784 x 784 matrix, refused as they are where the shape is given."""
    energy = neb.from_energy(lambda y: jnp.sum(y**2) / 2, 0.3)
    many = gaussian(identity((784,)), np.zeros(784), 0.1)
    with pytest.raises(InvalidArgumentError, match="784 x 784"):
        posterior_energy(energy, many, "moment")
    few = gaussian(identity((D,)), np.zeros(D), 0.1)
    found = posterior_energy(energy, few, "monte_carlo", num_points=8)
    assert jnp.isfinite(found(jnp.zeros(D)))


@pytest.mark.parametrize("matrix", [np.eye(3, D), RANDOM], ids=["repeated", "distinct"])
def test_the_entries_of_a_matrix_may_be_latent(matrix):
    """Derivatives in the entries, and in y twice, by a dense covariance; singular values may
    agree.

    In float32, whose rounding of numbers up to 13 is 1e-6: ten of these.
    """
    o, y = jnp.linspace(-0.3, 0.4, len(matrix)), jnp.linspace(-0.5, 0.5, D)

    def energy(matrix, y):
        return posterior_energy(PRIOR, gaussian(from_matrix(matrix), o, 0.5), "split")(y)

    def dense(matrix, y):
        covariance = 0.25 * jnp.eye(len(matrix)) - PRIOR.sigma**2 * matrix @ matrix.T
        return PRIOR(y) - jax.scipy.stats.multivariate_normal.logpdf(o, matrix @ y, covariance)

    for derivative in (jax.grad, jax.jacfwd, lambda f: jax.hessian(f, argnums=1)):
        with jax.default_matmul_precision("highest"):
            found, wanted = (
                jax.jit(derivative(f))(jnp.asarray(matrix), y) for f in (energy, dense)
            )
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_agree_bend_the_determinant(seed):
    """Twice the same row, whose eigenvalue 0 may be rounded below 0: second derivatives to 1e-5 of
    the largest, some hundred roundings in float32."""
    rows = np.random.default_rng(seed).normal(size=(4, 5))
    rows[3] = rows[2]

    def found(rows):
        return from_matrix(rows).gram().log_determinant(1.0, 0.3)

    def wanted(rows):
        return jnp.linalg.slogdet(jnp.eye(4) + 0.3 * rows @ rows.T)[1]

    with jax.default_matmul_precision("highest"):
        found, wanted = (jax.jit(jax.hessian(f))(jnp.asarray(rows)) for f in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_latents_need_a_determinant():
    """Without one, a derivative in the noise scale or a gain would be wrong without a word."""
    matrix = np.random.default_rng(0).normal(size=(300, D)) / 10

    def energy(scale, gain):
        look = gaussian(weighted(gain, from_matrix(matrix)), matrix @ np.ones(D), scale)
        return lambda y: posterior_energy(PRIOR, look, "split")(y)

    assert np.isfinite(jax.grad(energy(1.0, 1.0))(jnp.zeros(D))).all()
    for i in (0, 1):
        with pytest.raises(TypeError, match="determinant"):
            jax.grad(lambda *numbers: energy(*numbers)(jnp.zeros(D)), argnums=i)(1.0, 1.0)


def test_auto_under_trace():
    """With sigma or noise not known yet, the closure is what the kind of data allows."""

    def chosen(look):
        found = []

        def trace(sigma):
            found.append(posterior_energy(PRIOR.at(sigma), look).closure)
            return sigma

        jax.eval_shape(trace, 0.2)
        return found[0]

    assert chosen(OBSERVATION) == "split"
    assert chosen(bernoulli(LOOK, [0, 1])) == "split"
    assert chosen(laplace(LOOK, [0, 0], 0.5)) == "monte_carlo"
    assert chosen(bernoulli(from_matrix(np.ones((2, D))), [0, 1])) == "monte_carlo"


def test_rows_of_a_matrix_may_be_orthogonal():
    rows = from_matrix([[3.0, 4.0, 0, 0], [4.0, -3.0, 0, 0], [0, 0, 0, 2.0]])
    look = student_t(rows, np.zeros(3), 3.0, df=4.0)
    assert posterior_energy(PRIOR, look).closure == "split"
    np.testing.assert_allclose(posterior_energy(PRIOR, look).row_norms, [25, 25, 4], rtol=1e-5)


def test_short_rows_that_are_parallel_are_not_orthogonal():
    """A second look a millionth as long and as exact: its product with the first is small too."""
    rows = from_matrix([[1.0, 0, 0, 0], [1e-6, 0, 0, 0]])
    look = bernoulli(rows, [1, 0], noise_scale=[0.4, 0.4e-6])
    assert split_bound(look) == 0
    with pytest.raises(InvalidArgumentError, match="orthogonal"):
        posterior_energy(PRIOR, look, "split")


@pytest.mark.parametrize(
    "prior, observation, told",
    [
        (PRIOR, gaussian(LOOK, [0, 0], 0.01), "this energy is known at"),
        (neb.deen(jax.random.key(0), (D,), 0.3), gaussian(LOOK, [0, 0], 0.01), "prior of sigma="),
        (
            neb.noise_conditional(jax.random.key(0), (D,), (0.3, 3.0)),
            gaussian(LOOK, [0, 0], 0.01),
            "train with a sigma_range from there",
        ),
        (PRIOR, poisson(LOOK, [0, 0]), "no split exists here.* bias of .* falls with sigma"),
    ],
)
def test_what_is_told_of_the_way_to_exact_draws(prior, observation, told):
    with pytest.warns(ApproximationWarning, match=told):
        posterior_energy(prior, observation)


def test_moment_of_one_gaussian_is_not_called_an_approximation(recwarn):
    prior = neb.gaussian_mixture([1.0], np.zeros((1, D)), [1.0], 0.9)
    assert posterior_energy(prior, OBSERVATION).closure == "moment"
    assert not recwarn


def test_images_of_any_size_without_a_matrix():
    """Nothing of d x d is held: the numbers of a deblurring posterior are few times d."""
    prior = neb.deen(jax.random.key(0), (64, 64), 0.1, network=neb.UNet())
    kernel = neb.inverse.gaussian_kernel(1.0, 5)
    for boundary in ("periodic", "zero"):
        look = gaussian(neb.inverse.blur(kernel, (64, 64), boundary), np.zeros((64, 64)), 0.2)
        posterior = posterior_energy(prior, look)
        assert posterior.closure == "split"
        own = sum(np.size(leaf) for leaf in jax.tree.leaves(posterior))
        own -= sum(np.size(leaf) for leaf in jax.tree.leaves(prior))
        assert own < 10 * 64**2
        program = jax.jit(jax.grad(posterior)).lower(jnp.zeros((64, 64))).compile()
        assert program.memory_analysis().temp_size_in_bytes < 4 * (64**2) ** 2


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: posterior_energy(PRIOR, np.zeros(2)), InvalidArgumentError, "observation must be"),
        (lambda: posterior_energy(PRIOR, OBSERVATION, "exact"), InvalidArgumentError, "'exact'"),
        (
            lambda: posterior_energy(PRIOR, gaussian(LOOK, [0, 0], 0.1), "split"),
            InvalidArgumentError, "exists below 0.1",
        ),
        (
            lambda: posterior_energy(PRIOR, laplace(LOOK, [0, 0], 0.5), "split"),
            InvalidArgumentError, "monte_carlo",
        ),
        (
            lambda: posterior_energy(PRIOR, laplace(LOOK, [0, 0], 0.5), "moment"),
            InvalidArgumentError, "Gaussian noise",
        ),
        (
            lambda: posterior_energy(PRIOR, gaussian(lambda x: x, np.zeros(D), 1), "isotropic"),
            InvalidArgumentError, "LinearOperator",
        ),
        (
            lambda: posterior_energy(neb.from_score(lambda y: -y, 0.2), OBSERVATION),
            NotAnEnergyError, "no density",
        ),
        (
            lambda: posterior_energy(PRIOR, gaussian(identity((3,)), np.zeros(3), 1)),
            EventShapeError, "(3,)",
        ),
        (
            lambda: posterior_energy(PRIOR, gaussian(lambda x: x[:2], np.zeros(3), 1)),
            EventShapeError, "(2,)",
        ),
        (
            lambda: posterior_energy(
                neb.kernel_density(np.zeros((2, 400)), 0.2),
                gaussian(identity((400,)), np.zeros(400), 0.1), "moment",
            ),
            InvalidArgumentError, "400 x 400",
        ),
        (
            lambda: posterior_energy(
                neb.deen(jax.random.key(0), (D,), 0.2), OBSERVATION, sigma=0.1
            ),
            InvalidArgumentError, "Leave sigma out",
        ),
        (
            lambda: posterior_energy(
                neb.deen(jax.random.key(0), (D,), 0.2), OBSERVATION, "isotropic"
            ),
            InvalidArgumentError, "prior_variance",
        ),
        (
            lambda: posterior_energy(PRIOR, OBSERVATION, "monte_carlo", num_points=0),
            InvalidArgumentError, "num_points",
        ),
        (
            lambda: posterior_energy(PRIOR, OBSERVATION, "split", num_points=10),
            InvalidArgumentError, "num_points is a setting of closure='monte_carlo'",
        ),
        (
            lambda: posterior_energy(PRIOR, OBSERVATION, "moment", prior_variance=1.0),
            InvalidArgumentError, "prior_variance is a setting of closure='isotropic'",
        ),
        (
            lambda: posterior_energy(PRIOR, OBSERVATION, "isotropic", prior_variance=-1.0),
            InvalidArgumentError, "prior_variance must be a positive, finite number",
        ),
        (
            lambda: posterior_energy(PRIOR, OBSERVATION, recalibration=-1.0),
            InvalidArgumentError, "recalibration must be positive and finite; got values from -1",
        ),
        (lambda: split_bound(PRIOR), InvalidArgumentError, "observation must be made by"),
        (
            lambda: neb.posterior_covariance(posterior_energy(PRIOR, OBSERVATION), jnp.zeros(D)),
            InvalidArgumentError, "conditioned",
        ),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)


def test_samples_take_a_number_or_a_shape():
    for prior in (
        neb.gaussian_mixture([1.0], [[0.0, 1.0]], [0.1], 0.3),
        neb.kernel_density(np.eye(2), 0.3),
    ):
        for draw in (prior.sample, prior.sample_clean):
            assert draw(jax.random.key(0), 5).shape == (5, 2)
            np.testing.assert_array_equal(draw(jax.random.key(0), 5), draw(jax.random.key(0), (5,)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gaussian(identity((2,)), [1.0, 2.0], np.eye(2) / 4), "noise_covariance="),
        (lambda: gaussian(from_matrix(np.eye(2)), [np.nan, 1.0], 0.1), "dropping its rows"),
        (
            lambda: posterior_energy(
                neb.gaussian_mixture([1.0], [[0.0, 1.0]], [0.1], 0.3),
                gaussian(from_matrix(np.ones((2, 4))), [1.0, 2.0], 0.1),
            ),
            "transposed",
        ),
        (
            lambda: exact_posterior(
                gaussian(identity((2,)), [1.0, 2.0], 0.1),  # pyright: ignore[reportArgumentType]
                neb.gaussian_mixture([1.0], [[0.0, 1.0]], [0.1], 0.3),  # pyright: ignore
            ),
            "The order is",
        ),
    ],
)
def test_errors_say_what_was_probably_meant(call, words):
    with pytest.raises(NebPPLError, match=words):
        call()
