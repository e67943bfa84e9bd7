"""`SmoothedDensity` is a NumPyro distribution like any other: every energy on every road."""

import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from energies.zoo import NAMES, SHAPE, build
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, BarkerMH, Predictive, Trace_ELBO, log_likelihood
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.reparam import TransformReparam

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, WalkKernel, energy_factor, sample_model

KEY = jax.random.key(0)
MIXTURE = neb.gaussian_mixture([0.7, 0.3], [[0.0, 0.0], [2.0, 1.0]], [0.1, 0.2], 0.3)


# What compiles for long runs always for an exact and a learned energy, for the others when asked.
QUICK = {"mixture", "network"}
HEAVY = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]


def learned(shape=(2,), seed=0):
    return neb.deen(jax.random.key(seed), shape, 0.4, network=neb.MLP(hidden=8, blocks=1))


def density(name, **settings):
    return SmoothedDensity(build(name), num_steps=5, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_over_batches(name):
    energy, law = build(name), density(name)
    y = jax.random.normal(KEY, (4, 5, *SHAPE))
    expected = -jax.vmap(jax.vmap(energy))(y)
    assert law.event_shape == SHAPE and law.batch_shape == ()
    assert jnp.allclose(law.log_prob(y), expected, rtol=1e-5)
    assert jnp.allclose(jax.jit(lambda d, y: d.log_prob(y))(law, y), expected, rtol=1e-5)
    assert jnp.allclose(law.expand((5,)).log_prob(y), expected, rtol=1e-5)
    assert jnp.allclose(law.expand((5,)).to_event(1).log_prob(y), expected.sum(1), rtol=1e-5)
    assert (law.mask(False).log_prob(y) == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_samples_and_predictions(name):
    law = density(name)

    def model(seen=None):
        with numpyro.plate("two", 2):
            y = numpyro.sample("y", law)
        numpyro.sample("seen", dist.Normal(y.sum(), 1.0), obs=seen)

    draws = law.sample(KEY, (3, 2))
    assert draws.shape == (3, 2, *SHAPE) and bool(jnp.isfinite(draws).all())
    prior = Predictive(model, num_samples=3)(KEY)
    assert prior["y"].shape == (3, 2, *SHAPE)
    posterior = {"y": prior["y"]}
    assert Predictive(model, posterior)(KEY)["seen"].shape == (3,)
    assert log_likelihood(model, posterior, 0.5)["seen"].shape == (3,)


@pytest.mark.parametrize("name", HEAVY)
def test_handlers(name):
    def model():
        return numpyro.sample("y", density(name))

    y = jnp.ones(SHAPE)
    for handler in (handlers.substitute, handlers.condition):
        record = handlers.trace(handler(model, data={"y": y})).get_trace()
        assert jnp.allclose(record["y"]["fn"].log_prob(record["y"]["value"]), -build(name)(y))
    hidden = handlers.block(handlers.seed(model, KEY), hide=["y"])
    assert "y" not in handlers.trace(hidden).get_trace()


@pytest.mark.parametrize("kernel", [NUTS, BarkerMH, WalkKernel])
@pytest.mark.parametrize("name", HEAVY)
def test_mcmc(name, kernel):
    law = density(name)

    def model(seen):
        y = numpyro.sample("y", law)
        numpyro.sample("seen", dist.Normal(y.sum(), 1.0), obs=seen)

    mcmc = MCMC(kernel(model), num_warmup=5, num_samples=5, progress_bar=False)
    mcmc.run(KEY, 0.3)
    assert bool(jnp.isfinite(mcmc.get_samples()["y"]).all())


@pytest.mark.parametrize("name", HEAVY)
def test_svi_and_the_fast_road(name):
    law = density(name)

    def model(seen):
        y = numpyro.sample("y", law)
        numpyro.sample("seen", dist.Normal(y.sum(), 1.0), obs=seen)

    svi = SVI(model, AutoNormal(model), optax.adam(0.01), Trace_ELBO())
    assert np.isfinite(svi.run(KEY, 2, 0.3, progress_bar=False).losses).all()
    result = sample_model(
        KEY, model, neb.GHMC(), args=(0.3,), num_samples=5, num_warmup=20, progress_bar=False
    )
    assert np.isfinite(result.x["y"]).all()


def test_a_transformed_density_is_reparametrised():
    """`TransformReparam` samples the smoothed density itself, and moves it afterwards."""

    def model():
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.3))
        affine = dist.transforms.AffineTransform(1.0, scale)
        with handlers.reparam(config={"y": TransformReparam()}):
            numpyro.sample("y", dist.TransformedDistribution(SmoothedDensity(MIXTURE), affine))

    record = handlers.trace(handlers.seed(model, KEY)).get_trace()
    assert isinstance(record["y_base"]["fn"], SmoothedDensity)
    moved = 1 + record["scale"]["value"] * record["y_base"]["value"]
    assert jnp.allclose(record["y"]["value"], moved)


def test_svi_finds_the_gaussian():
    """One component of variance .1 + .3^2: the guide's mean and deviation, within 5 %."""
    law = SmoothedDensity(neb.gaussian_mixture([1.0], [[2.0, -1.0]], [0.1], 0.3))
    guide = AutoNormal(lambda: numpyro.sample("y", law))
    svi = SVI(lambda: numpyro.sample("y", law), guide, optax.adam(0.02), Trace_ELBO(16))
    found = guide.quantiles(svi.run(KEY, 1_500, progress_bar=False).params, [0.5, 0.8413])["y"]
    assert jnp.allclose(found[0], jnp.array([2.0, -1.0]), rtol=0.05)
    assert jnp.allclose(found[1] - found[0], jnp.sqrt(0.19), rtol=0.05)


def test_a_scale_and_a_shift_have_their_determinant():
    """b + a Y has the density of a mixture whose means and variances are moved: exactly known."""
    a, b = 2.5, jnp.array([1.0, -1.0])
    moved = dist.TransformedDistribution(
        SmoothedDensity(MIXTURE), dist.transforms.AffineTransform(b, a)
    )
    exact = neb.gaussian_mixture(
        [0.7, 0.3], a * np.array([[0.0, 0.0], [2.0, 1.0]]) + b, a**2 * np.array([0.1, 0.2]), a * 0.3
    )
    y = jax.random.normal(KEY, (7, 2))
    assert jnp.allclose(moved.log_prob(y), -jax.vmap(exact)(y), atol=1e-4)
    assert moved.sample(KEY, (3,)).shape == (3, 2)


def test_exact_draws_where_they_can_be():
    draws = SmoothedDensity(MIXTURE).sample(KEY, (4_000,))
    error = jnp.sqrt(jnp.diag(MIXTURE.covariance()) / 4_000)
    assert (jnp.abs(draws.mean(0) - MIXTURE.mean()) < 5 * error).all()


def test_the_walk_behind_sample_finds_a_learned_density():
    """A foreign Gaussian N(0, .5^2): standard deviations of 4,000 walks within 5 errors, + 2 %."""
    energy = neb.from_energy(lambda y: jnp.sum(y**2) / 0.5, 0.3, event_shape=(2,))
    draws = SmoothedDensity(energy).sample(KEY, (4_000,))
    assert jnp.allclose(draws.std(0), 0.5, atol=5 * 0.5 / np.sqrt(2 * 4_000) + 0.01)
    assert SmoothedDensity.sample is not dist.Distribution.sample


def test_jumps():
    law, y = SmoothedDensity(MIXTURE), jax.random.normal(KEY, (3, 4, 2))
    exact = jax.vmap(jax.vmap(MIXTURE.posterior_mean))(y)
    assert jnp.allclose(law.jump(y), exact, atol=1e-5)
    assert law.jump(y[0, 0], KEY).shape == (2,)
    assert not jnp.allclose(law.jump(y, KEY), exact, atol=1e-2)


def test_an_energy_factor_is_the_density():
    def by_factor():
        y = numpyro.sample("y", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
        energy_factor("prior", MIXTURE, y)

    y = jnp.array([0.3, 0.4])
    log_joint, _ = numpyro.infer.util.log_density(by_factor, (), {}, {"y": y})
    assert jnp.allclose(log_joint, -MIXTURE(y))


def test_a_normaliser_that_varies_is_refused():
    """Through log_prob, jit, factors and MCMC; an exact energy carries its own and may vary."""

    def with_latent(make):
        def model():
            sigma = numpyro.sample("sigma", dist.Uniform(0.1, 1.0))
            numpyro.sample("y", SmoothedDensity(make(sigma)))

        return MCMC(NUTS(model), num_warmup=2, num_samples=2, progress_bar=False)

    network = neb.noise_conditional(
        KEY, (2,), (0.1, 1.0), network=neb.MLP(hidden=8, blocks=1, conditional=True)
    )
    with pytest.raises(TypeError, match="depends on a latent site or a numpyro.param"):
        with_latent(network.at).run(KEY)
    with_latent(MIXTURE.at).run(KEY)

    def factor(scale):
        with handlers.block():
            energy_factor("f", jax.tree.map(lambda leaf: scale * leaf, learned()), jnp.ones(2))
        return SmoothedDensity(jax.tree.map(lambda leaf: scale * leaf, learned())).log_prob(
            jnp.ones(2)
        )

    with pytest.raises(TypeError, match="known up to a constant"):
        jax.grad(jax.jit(factor))(1.0)
    jax.grad(lambda y: SmoothedDensity(learned()).log_prob(y))(jnp.ones(2))


def test_a_mixture_of_learned_energies_is_refused():
    def mixed(energies):
        law = dist.MixtureGeneral(
            dist.Categorical(jnp.array([0.5, 0.5])), [SmoothedDensity(e) for e in energies]
        )
        return law.log_prob(jnp.ones(2))

    with pytest.raises(TypeError, match="mixture of learned energies is undefined"):
        mixed([learned(), learned(seed=1)])
    halves = [MIXTURE, MIXTURE.at(0.5)]
    exact = jnp.log(0.5 * sum(jnp.exp(-e(jnp.ones(2))) for e in halves))
    assert jnp.allclose(mixed(halves), exact, rtol=1e-5)


def test_bad_arguments():
    with pytest.raises(neb.errors.NotAnEnergyError, match="has no log density"):
        SmoothedDensity(neb.from_score(lambda y: -y, 0.3, event_shape=(2,)))
    with pytest.raises(neb.errors.EventShapeError, match=r"event_shape is \(3,\)"):
        SmoothedDensity(MIXTURE, (3,))
    with pytest.raises(neb.errors.EventShapeError, match="pass event_shape="):
        SmoothedDensity(neb.from_energy(lambda y: jnp.sum(y**2), 0.3))
    with pytest.raises(neb.errors.EventShapeError, match=r"value has shape \(3,\)"):
        SmoothedDensity(MIXTURE).log_prob(jnp.ones(3))
    with pytest.raises(neb.errors.InvalidArgumentError, match=r"energy\.at\(sigma\)"):
        SmoothedDensity(neb.noise_conditional(KEY, (2,), (0.1, 1.0)))
    for refused in ("cdf", "icdf"):
        with pytest.raises(NotImplementedError, match="known up to a constant"):
            getattr(SmoothedDensity(MIXTURE), refused)(jnp.ones(2))
    with pytest.raises(NotImplementedError, match="known up to a constant"):
        SmoothedDensity(MIXTURE).entropy()


def test_the_order_of_leaves_does_not_depend_on_the_hash_seed():
    code = """
import jax, neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity
law = SmoothedDensity(neb.gaussian_mixture([1.0], [[0.0]], [1.0], 0.5))
print(jax.tree_util.tree_structure(law))
"""
    run = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu", "PATH": ""},
        ).stdout
        for seed in ("0", "1", "2")
    ]  # fmt: skip
    assert run[0] == run[1] == run[2]


def test_a_density_survives_pickle_and_tree_operations():
    law = SmoothedDensity(learned())
    again = pickle.loads(pickle.dumps(law))
    rebuilt = jax.tree.unflatten(jax.tree.structure(law), jax.tree.leaves(law))
    for other in (again, rebuilt):
        assert other.log_prob(jnp.ones(2)) == law.log_prob(jnp.ones(2))


def test_the_relations_that_render_model_draws():
    record = numpyro.infer.inspect.get_model_relations(
        lambda: numpyro.sample("y", SmoothedDensity(MIXTURE))
    )
    assert "y" in str(record)
