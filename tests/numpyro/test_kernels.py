"""`WalkKernel` in NumPyro's own MCMC: against quadrature, resumed, pickled, in Gibbs."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from gates.posterior import ENERGY, SEEN, model, z_scores
from numpyro.infer import MCMC, NUTS, Gibbs

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NotAnEnergyError
from neb_ppl.numpyro import SmoothedDensity, WalkKernel, energy_factor, from_mcmc

KEY = jax.random.key(0)


def mcmc(kernel, chains=2, method="vectorized", warmup=1_000, samples=4_000, **settings):
    return MCMC(
        kernel, num_warmup=warmup, num_samples=samples, num_chains=chains, chain_method=method,
        progress_bar=False, **settings,
    )  # fmt: skip


def by_chain(run):
    sites = run.get_samples(group_by_chain=True)
    return z_scores(np.asarray(sites["y"]), np.asarray(sites["gain"]))


@pytest.mark.filterwarnings("ignore:Some donated buffers")  # of NumPyro, under jax.vmap
@pytest.mark.parametrize(
    "method",
    [
        pytest.param("sequential", marks=pytest.mark.slow),
        "parallel",
        pytest.param(jax.vmap, marks=pytest.mark.slow),
    ],
)
def test_other_chain_methods_have_the_posterior(method):
    """Six moments, abs z < 5; deterministic sites come along. (All other tests: "vectorized".)"""
    run = mcmc(WalkKernel(model, walk=neb.GHMC()), method=method, samples=8_000, thinning=4)
    run.run(KEY, SEEN)
    assert (np.abs(by_chain(run)) < 5).all()
    assert run.get_samples()["x"].shape == (4_000, 2)


@pytest.mark.parametrize(
    "walk",
    [
        pytest.param(neb.NUTS(), marks=pytest.mark.slow),
        neb.MALA(),
        neb.KineticLangevin(0.1),
        neb.MCLMC(0.1),
    ],
    ids=str,
)
def test_every_walk_has_it(walk):
    """Chains many enough that the few that start far do no harm; unadjusted steps are small."""
    run = mcmc(WalkKernel(model, walk=walk), chains=16, samples=2_000, thinning=2)
    run.run(KEY, SEEN)
    assert (np.abs(by_chain(run)) < 5).all()


def test_nuts_and_a_factor_have_it():
    """NumPyro's own kernel, on the density and on the same model written with a factor."""

    def by_factor(seen):
        y = numpyro.sample("y", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
        energy_factor("prior", ENERGY, y)
        gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
        numpyro.sample("seen", dist.Normal(gain * y.sum(), 0.3), obs=seen)

    for written in (model, by_factor):
        run = mcmc(NUTS(written))
        run.run(KEY, SEEN)
        assert (np.abs(by_chain(run)) < 5).all()


@pytest.mark.slow
def test_a_block_of_gibbs_has_it():
    """Two walks of ours, and one beside NUTS."""
    walked = [(WalkKernel(model, walk=neb.MALA()), [site]) for site in ("y", "gain")]
    for blocks in (walked, [walked[0], (NUTS(model), ["gain"])]):
        run = mcmc(Gibbs(blocks), method=jax.vmap, chains=16, samples=4_000, thinning=2)
        run.run(KEY, SEEN)
        assert (np.abs(by_chain(run)) < 5).all()


def test_a_block_that_is_not_refreshed_is_seen(monkeypatch):
    """The mutant: energies and gradients of the other block's old values."""
    monkeypatch.setattr(WalkKernel, "refresh", lambda self, state, *_: state)
    blocks = [(WalkKernel(model, walk=neb.MALA()), [site]) for site in ("y", "gain")]
    run = mcmc(Gibbs(blocks), method=jax.vmap, chains=16, samples=4_000, thinning=2)
    run.run(KEY, SEEN)
    assert (np.abs(by_chain(run)) > 5).any()


@pytest.mark.parametrize("walk", [neb.MALA(), neb.GHMC(), neb.NUTS()], ids=str)
def test_nothing_is_adapted_after_warm_up(walk):
    """One step size and one scale a chain over all draws, and after going on."""
    run = mcmc(WalkKernel(model, walk=walk), warmup=200, samples=50)
    fields = ("adaptation.walk.scale",)
    run.run(KEY, SEEN, extra_fields=fields)
    first = run.get_extra_fields(group_by_chain=True)
    run.post_warmup_state = run.last_state
    run.run(run.last_state.rng_key, SEEN, extra_fields=fields)
    second = run.get_extra_fields(group_by_chain=True)
    for name in ("step_size", *fields):
        both = np.concatenate([first[name], second[name]], axis=1)
        assert (both == both[:, :1]).all()
        assert len(np.unique(both[:, 0])) > 1


@pytest.mark.parametrize("walk", [neb.MALA(), neb.GHMC(), neb.KineticLangevin(0.1)], ids=str)
def test_refresh_evaluates_anew_and_does_not_move(walk):
    """What Gibbs asks for when another block has moved: here, other data."""
    kernel = WalkKernel(model, walk=walk, adapt_scale="diagonal")
    old = kernel.init(KEY, 0, None, (SEEN,), {})
    new = kernel.refresh(old, (SEEN + 2,), {})
    potential = neb.numpyro.model_potential(model, SEEN + 2)
    assert jnp.allclose(new.potential_energy, potential(old.z))
    assert not jnp.allclose(old.potential_energy, new.potential_energy)
    fresh = old.adaptation.walk(potential).init(old.z, KEY)
    assert jnp.allclose(new.kernel.logdensity, fresh.logdensity)
    gradients = [state.inner.logdensity_grad for state in (new.kernel, fresh, old.kernel)]
    assert jnp.allclose(gradients[0], gradients[1])
    assert not jnp.allclose(gradients[0], gradients[2])
    momenta = [getattr(state.kernel.inner, "momentum", 0) for state in (old, new)]
    assert jnp.array_equal(*momenta) and jax.tree.all(jax.tree.map(jnp.array_equal, old.z, new.z))


def test_a_potential_function():
    run = mcmc(WalkKernel(potential_fn=ENERGY, walk=neb.MALA()))
    run.run(KEY, init_params=jnp.zeros((2, 2)))
    y = np.asarray(run.get_samples(group_by_chain=True), np.float64)
    error = y.std(axis=(0, 1)) / np.sqrt(neb.diagnostics.effective_sample_size(y))
    assert (np.abs(y.mean(axis=(0, 1)) - np.asarray(ENERGY.mean())) < 5 * error).all()


@pytest.mark.parametrize(
    "walk, method",
    [(neb.MALA(), "vectorized"), (neb.KineticLangevin(0.1), "sequential")],
    ids=["MALA", "BAOAB"],
)
def test_going_on_is_bit_identical(walk, method):
    """60 draws at once, and 20 + 40 through ``post_warmup_state``, pickled in between."""
    whole = mcmc(WalkKernel(model, walk=walk), method=method, warmup=50, samples=60)
    whole.run(KEY, SEEN)
    part = mcmc(WalkKernel(model, walk=walk), method=method, warmup=50, samples=20)
    part.run(KEY, SEEN)
    state = pickle.loads(pickle.dumps(part)).last_state
    rest = mcmc(WalkKernel(model, walk=walk), method=method, warmup=50, samples=40)
    rest.post_warmup_state = state
    rest.run(state.rng_key, SEEN)
    for name, draws in whole.get_samples(group_by_chain=True).items():
        pieces = [run.get_samples(group_by_chain=True)[name] for run in (part, rest)]
        assert np.array_equal(draws, np.concatenate(pieces, axis=1))


def test_fields_arviz_and_diagnose():
    run = mcmc(WalkKernel(model, walk=neb.MALA()), samples=200)
    run.run(KEY, SEEN, extra_fields=("mean_accept_prob", "adaptation.walk.scale"))
    fields = run.get_extra_fields(group_by_chain=True)
    assert fields["adaptation.walk.scale"].shape == (2, 200, 3, 3)
    result = from_mcmc(run)
    potential = neb.numpyro.model_potential(model, SEEN)
    z = {"y": result.y["y"][0, 3], "gain": np.log(result.y["gain"][0, 3])}
    assert np.isclose(-potential(z), result.info["lp"][0, 3], rtol=1e-4)
    idata = neb.diagnostics.to_arviz(result)
    assert {"y", "gain", "x"} <= set(idata["posterior"].data_vars)
    assert "MALA" in str(neb.diagnostics.diagnose(result))
    unadjusted = mcmc(WalkKernel(model, walk=neb.ULA(0.01)), samples=200)
    unadjusted.run(KEY, SEEN)
    assert "1.005 times too large" in str(neb.diagnostics.diagnose(from_mcmc(unadjusted)))


@pytest.mark.parametrize("walk", [neb.MALA(), pytest.param(neb.NUTS(), marks=pytest.mark.slow)])
def test_warm_up_reaches_the_target(walk):
    """Within .12 of it: each chain adapts alone, and its last window has 50 steps."""
    run = mcmc(WalkKernel(model, walk=walk), chains=8, samples=1_000)
    run.run(KEY, SEEN)
    rate = float(run.get_extra_fields()["accept_prob"].mean())
    assert abs(rate - type(walk).target_acceptance) < 0.12


def test_what_is_refused():
    score = neb.from_score(lambda y: -y, 0.3, event_shape=(2,))
    with pytest.raises(InvalidArgumentError, match="exactly one of model and potential_fn"):
        WalkKernel()
    with pytest.raises(
        InvalidArgumentError, match=r"walk must be a walk such as neb_ppl\.MALA\(\)"
    ):
        WalkKernel(model, walk=neb.MALA)
    with pytest.raises(NotAnEnergyError, match="accepts or rejects"):
        kernel = WalkKernel(potential_fn=score, walk=neb.MALA(0.1), adapt_scale=None)
        mcmc(kernel).run(KEY, init_params=jnp.zeros((2, 2)))
    with pytest.raises(InvalidArgumentError, match="init_params must be given"):
        mcmc(WalkKernel(potential_fn=ENERGY)).run(KEY)
    with pytest.raises(EventShapeError, match="leading chain axis"):
        mcmc(WalkKernel(potential_fn=ENERGY)).run(KEY, init_params=jnp.zeros(2))
    with pytest.raises(EventShapeError, match="init_params of gain"):
        start = {"y": jnp.zeros((2, 2)), "gain": jnp.zeros((2, 1))}
        mcmc(WalkKernel(model)).run(KEY, SEEN, init_params=start)
    with pytest.raises(InvalidArgumentError, match=r"MCMC\(WalkKernel"):
        from_mcmc(mcmc(NUTS(model)))


def test_a_plate_of_energies_and_two_energies():
    """Three independent y in a plate, and a second energy: means of each, abs z < 5."""
    other = neb.gaussian_mixture([1.0], [[2.0]], [0.1], 0.3)

    def several():
        with numpyro.plate("three", 3):
            numpyro.sample("y", SmoothedDensity(ENERGY))
        numpyro.sample("w", SmoothedDensity(other))

    run = mcmc(WalkKernel(several, walk=neb.NUTS()), chains=4, samples=2_000)
    run.run(KEY)
    sites = run.get_samples(group_by_chain=True)
    for name, mean in (("y", np.asarray(ENERGY.mean())), ("w", 2.0)):
        draws = np.asarray(sites[name], np.float64)
        error = draws.std(axis=(0, 1)) / np.sqrt(
            neb.diagnostics.effective_sample_size(draws.reshape(4, 2_000, -1))
        ).reshape(draws.shape[2:])
        assert (np.abs(draws.mean(axis=(0, 1)) - mean) < 5 * error).all()
