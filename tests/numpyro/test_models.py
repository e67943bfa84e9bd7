"""Models as potentials, and `sample_model`: against quadrature, and for what it refuses."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from flax import nnx
from gates.posterior import ENERGY, SEEN, model, z_scores
from numpyro.contrib.module import nnx_module
from numpyro.infer.util import log_density

import neb_ppl as neb
from neb_ppl.errors import InvalidArgumentError, StartError
from neb_ppl.numpyro import SmoothedDensity, model_potential, sample_model
from neb_ppl.sampling import engine

KEY = jax.random.key(0)
QUIET = {"progress_bar": False}


def test_the_potential_is_the_models():
    potential = model_potential(model, SEEN)
    z = {"y": jnp.array([0.3, -0.2]), "gain": jnp.array(0.4)}
    log_joint, _ = log_density(model, (SEEN,), {}, {"y": z["y"], "gain": jnp.exp(z["gain"])})
    assert jnp.allclose(potential(z), -(log_joint + z["gain"]))
    sites = potential.constrain(z)
    assert set(sites) == {"y", "gain", "x"}
    assert jnp.allclose(potential.unconstrain({"y": z["y"], "gain": sites["gain"]})["gain"], 0.4)


@pytest.mark.parametrize(
    "walk, scale",
    [(neb.NUTS(), "auto"), (neb.MALA(), "dense"), (neb.GHMC(), "diagonal"), (neb.HMC(), "auto")],
    ids=["NUTS", "MALA", "GHMC", "HMC"],
)
def test_adjusted_walks_have_the_posterior(walk, scale):
    """Six moments, abs z < 5."""
    result = sample_model(
        KEY, model, walk, args=(SEEN,), num_chains=16, num_samples=1_000, steps_per_jump=5,
        adapt_scale=scale, **QUIET,
    )  # fmt: skip
    assert result.x["x"].shape == (16, 1_000, 2)
    assert (np.abs(z_scores(result.x["y"], result.x["gain"])) < 5).all()


@pytest.mark.parametrize("walk", [neb.KineticLangevin(0.1), neb.ULA(0.003)])
def test_unadjusted_walks_with_small_steps_have_it_nearly(walk):
    """Sixteen chains of few draws: the bias of these steps hides in their errors."""
    result = sample_model(
        KEY, model, walk, args=(SEEN,), num_chains=16, num_samples=300, steps_per_jump=10, **QUIET
    )
    assert (np.abs(z_scores(result.x["y"], result.x["gain"])) < 5).all()


def test_mutants_of_the_model_fail():
    """The gates above see a dropped likelihood and a sigma half as large again."""

    def blind(seen):
        y = numpyro.sample("y", SmoothedDensity(ENERGY))
        numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
        numpyro.deterministic("x", y)

    for mutant, energy in ((blind, None), (model, ENERGY.at(0.45))):
        args = (SEEN,) if energy is None else (SEEN, energy)
        result = sample_model(KEY, mutant, args=args, num_chains=16, **QUIET)
        assert (np.abs(z_scores(result.x["y"], result.x["gain"])) > 8).any()


def test_going_on_is_one_long_run():
    potential = model_potential(model, SEEN)
    run = {"args": (SEEN,), "num_warmup": 100, **QUIET}
    whole = sample_model(KEY, model, num_samples=40, **run)
    part = sample_model(KEY, model, num_samples=15, **run)
    rest = neb.sample(None, potential, None, part.state, num_samples=25, **QUIET)
    same = sample_model(None, model, args=(SEEN,), initial=part.state, num_samples=25, **QUIET)
    for name in whole.x:
        assert np.array_equal(whole.x[name][:, 15:], rest.x[name])
        assert np.array_equal(rest.x[name], same.x[name])
    with pytest.raises(InvalidArgumentError, match="another model"):
        neb.sample(None, model_potential(model, SEEN + 2), None, part.state, num_samples=2, **QUIET)


def test_what_a_model_closes_over_is_read_anew(compilations):
    """The same function after its data, and then a number in it, were rebound."""
    data, scale, energy = np.zeros(20), 1.0, neb.deen(KEY, (2,), 0.3, network=neb.MLP(8, 1))

    def closed():
        numpyro.sample("y", SmoothedDensity(energy))
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
        numpyro.deterministic("scaled", scale * mean)
        numpyro.sample("seen", dist.Normal(mean, 1.0), obs=data)

    def run():
        return sample_model(KEY, closed, neb.MALA(), num_samples=500, num_warmup=300, **QUIET).x

    assert abs(run()["mean"].mean()) < 0.5
    data = np.full(20, 5.0)
    assert abs(run()["mean"].mean() - 5) < 0.5
    scale = 2.0
    assert abs(run()["scaled"].mean() - 10) < 1
    with compilations() as count:
        run()
    assert count == []


def test_a_nearly_singular_posterior_is_walked():
    """Standard deviations of 1000 and .1 along and across: beyond the floats of a covariance."""

    def narrow():
        z = numpyro.sample("z", dist.Normal(0.0, 1_000.0))
        numpyro.sample("w", dist.Normal(z, 0.1))

    sites = sample_model(KEY, narrow, **QUIET).x
    assert np.isclose((sites["w"] - sites["z"]).std(), 0.1, rtol=0.1)
    assert np.isclose(sites["z"].std(), 1_000, rtol=0.3)


def test_chunks_are_as_small_as_what_they_hold():
    """A deterministic site of a million numbers a draw: a chunk stays within 64 MiB."""

    def wide():
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.deterministic("wide", z * jnp.ones(1_000_000))

    potential = model_potential(wide)
    z = potential.start(KEY, 4)
    assert engine.buffer_size(potential, z, potential.jump) * 4 * 4_000_000 <= 1 << 26


def test_hmc_does_not_return_to_where_it_began():
    """A Gaussian in two dimensions, on which ten leapfrogs at the adapted step are a period.

    Standard deviations within 10 % at three seeds, four chains of 1,000 draws each.
    """

    def gaussian():
        numpyro.sample("y", dist.Normal(jnp.zeros(2), jnp.array([0.597, 0.583])).to_event(1))

    for seed in range(3):
        sites = sample_model(jax.random.key(seed), gaussian, neb.HMC(), **QUIET).x
        assert np.allclose(sites["y"].std(axis=(0, 1)), [0.597, 0.583], rtol=0.1)


def test_an_energy_of_float32_under_x64():
    energy = neb.deen(KEY, (2,), 0.3, network=neb.MLP(8, 1))
    with jax.enable_x64(True):
        result = sample_model(
            jax.random.key(0), lambda: numpyro.sample("y", SmoothedDensity(energy)), neb.MALA(),
            num_samples=5, num_warmup=20, **QUIET,
        )  # fmt: skip
        assert result.x["y"].dtype == np.float64


def test_a_second_run_compiles_nothing(compilations):
    """Nor with other data, another energy of the same shapes, or another key."""

    def run(key, *args):
        return sample_model(
            key, model, neb.MALA(), args=args, num_samples=20, num_warmup=200, **QUIET
        )

    others = jax.random.key(1), SEEN + 1, ENERGY.at(0.5)
    with compilations() as first:
        run(KEY, SEEN, ENERGY)
    with compilations() as second:
        run(*others)
    assert len(first) > 3
    assert second == []


def test_blackjax_by_hand():
    """A model's log density in any BlackJAX kernel."""
    potential = model_potential(model, SEEN)
    kernel = blackjax.nuts(lambda z: -potential(z), 0.3, jnp.ones(3))
    state = kernel.init(jax.tree.map(lambda leaf: leaf[0], potential.start(KEY, 1)))
    state, _ = jax.jit(kernel.step)(KEY, state)
    assert jnp.isfinite(potential.constrain(state.position)["gain"])


def test_arviz_and_diagnose_take_the_result():
    result = sample_model(KEY, model, args=(SEEN,), num_samples=200, num_warmup=300, **QUIET)
    posterior = neb.diagnostics.to_arviz(result)["posterior"]
    assert set(posterior.data_vars) == {"y", "gain", "x"}
    for name in posterior.data_vars:
        assert np.array_equal(posterior[name], result.x[name])
    assert float(posterior["gain"].min()) > 0
    assert "not checked against data" not in str(neb.diagnostics.diagnose(result))


def test_modules_are_held_fixed():
    """A Flax module through NumPyro's own bridge, and an Equinox energy as the prior."""
    eqx = pytest.importorskip("equinox")
    mlp = eqx.nn.MLP(2, "scalar", 8, 1, activation=jax.nn.softplus, key=KEY)
    energy = neb.from_energy(lambda y: mlp(y) + jnp.sum(y**2), 0.3, event_shape=(2,))

    def decoded(seen):
        y = numpyro.sample("y", SmoothedDensity(energy))
        decoder = nnx_module("decoder", nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        numpyro.sample("seen", dist.Normal(decoder(y), 0.5).to_event(1), obs=seen)

    result = sample_model(KEY, decoded, args=(jnp.ones(3),), num_samples=20, num_warmup=50, **QUIET)
    assert set(result.x) == {"y"} and np.isfinite(result.x["y"]).all()


def test_models_may_need_the_values_of_their_data_and_keys():
    """Group sizes read off the data, and a model that draws a key of its own."""

    def grouped(groups, seen):
        with numpyro.plate("groups", len(np.unique(groups))):
            mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        noise = 1e-3 * jax.random.normal(numpyro.prng_key())
        numpyro.sample("seen", dist.Normal(mean[groups] + noise, 1.0), obs=seen)

    data = np.array([0, 0, 1, 2]), np.array([1.0, 0.5, -1.0, 0.0])
    result = sample_model(KEY, grouped, args=data, num_samples=500, num_warmup=500, **QUIET)
    assert result.x["mean"].shape == (4, 500, 3)
    exact = np.array([1.5 / 3, -0.5, 0.0])
    assert np.allclose(result.x["mean"].mean(axis=(0, 1)), exact, atol=0.1)


def test_what_is_refused():
    def nothing():
        numpyro.sample("seen", dist.Normal(0.0, 1.0), obs=1.0)

    def discrete():
        numpyro.sample("k", dist.Bernoulli(0.5))

    def subsampled():
        y = numpyro.sample("y", SmoothedDensity(ENERGY))
        with numpyro.plate("rows", 10, subsample_size=2):
            numpyro.sample("seen", dist.Normal(y.sum(), 1.0), obs=0.0)

    def broken(seen):
        y = numpyro.sample("y", SmoothedDensity(ENERGY))
        numpyro.factor("bad", seen * jnp.nan * y.sum())

    for bad, told in (
        (nothing, "no latent"),
        (discrete, "'k' is discrete"),
        (subsampled, "'rows'"),
    ):
        with pytest.raises(InvalidArgumentError, match=told):
            model_potential(bad)
    with pytest.raises(StartError, match=r"bad \(nan\)"):
        sample_model(KEY, broken, args=(SEEN,), **QUIET)
    with pytest.raises(InvalidArgumentError, match="num_chains must be"):
        sample_model(KEY, model, args=(SEEN,), num_chains=0, **QUIET)
    with pytest.raises(InvalidArgumentError, match="args must be a tuple"):
        sample_model(KEY, model, args=SEEN)
    for swapped in (ENERGY, neb.MALA()):
        with pytest.raises(InvalidArgumentError, match="expected a function with numpyro"):
            sample_model(KEY, swapped)
    with pytest.raises(InvalidArgumentError, match="num_integration_steps must be"):
        sample_model(KEY, model, neb.HMC(num_integration_steps=0), args=(SEEN,))
    with pytest.raises(InvalidArgumentError, match="rng_key must be a key"):
        sample_model(0, model, args=(SEEN,))
    with pytest.raises(InvalidArgumentError, match="has a scale already"):
        scaled = neb.Preconditioned(neb.MALA(), jnp.ones(3))
        sample_model(KEY, model, scaled, args=(SEEN,), **QUIET)
    with pytest.raises(InvalidArgumentError, match="adapt_scale must be"):
        sample_model(KEY, model, args=(SEEN,), adapt_scale="full", **QUIET)
