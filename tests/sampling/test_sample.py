"""sample: exact continuation, exact reproducibility, faults counted and named."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError, StartError, WalkError
from neb_ppl.sampling import engine

ORACLE = mixture(3, 0.5)
KEY = jax.random.key(7)
START = ORACLE.sample(jax.random.key(1), (4,))


def run(walk=None, model=ORACLE, start=START, key=KEY, **settings):
    settings = {"num_samples": 30, "steps_per_jump": 2, "progress_bar": False} | settings
    return neb.sample(key, model, walk, start, **settings)


@pytest.mark.parametrize(
    "walk", [neb.ULA(), neb.KineticLangevin(), neb.KineticLangevin(scheme="ABOBA"), neb.MALA(),
             neb.GHMC()]
)  # fmt: skip
def test_going_on_is_bit_identical_to_one_long_run(walk):
    whole = run(walk, num_samples=50)
    first = run(walk, num_samples=13)
    same_key = run(walk, start=first.state, num_samples=37)
    no_key = run(None, start=first.state, key=None, num_samples=37)
    for rest in (same_key, no_key):
        assert np.array_equal(whole.y, np.concatenate([first.y, rest.y], axis=1))
        assert np.array_equal(whole.x, np.concatenate([first.x, rest.x], axis=1))


def test_a_new_key_goes_on_with_fresh_noise():
    first = run(neb.ULA())
    assert not np.array_equal(
        run(neb.ULA(), start=first.state).y, run(None, start=first.state, key=jax.random.key(8)).y
    )


def test_the_bar_and_the_chunks_change_nothing(monkeypatch):
    plain = run(neb.MALA())
    assert np.array_equal(plain.y, run(neb.MALA(), progress_bar=True).y)
    monkeypatch.setattr(engine, "BUFFER_DRAWS", 4)
    assert np.array_equal(plain.y, run(neb.MALA()).y)


def test_a_chains_draws_do_not_depend_on_the_others():
    fewer = run(neb.KineticLangevin(), start=START[:2])
    assert np.allclose(run(neb.KineticLangevin()).y[:2], fewer.y, atol=1e-5)


def test_two_devices_give_the_draws_of_one():
    devices = np.array(jax.devices()[:2])
    assert len(devices) == 2
    mesh = jax.sharding.Mesh(devices, ("chains",), axis_types=(AxisType.Auto,))
    spread = jax.device_put(START, NamedSharding(mesh, PartitionSpec("chains")))
    assert np.allclose(
        run(neb.KineticLangevin(), start=spread).y, run(neb.KineticLangevin()).y, atol=1e-5
    )


def test_walk_jump_by_hand_under_jit_vmap_and_grad():
    """Row 22: public pure functions compose with JAX's transformations."""
    algorithm = neb.walk_jump(ORACLE, neb.ULA(), steps_per_jump=3)
    state = jax.vmap(algorithm.init)(START)
    keys = jax.random.split(KEY, 4)
    state, info = jax.jit(jax.vmap(algorithm.step))(keys, state)
    assert jnp.allclose(info.x[0], neb.bayes_estimator(ORACLE, state.position[0]), atol=1e-6)

    def end(step_size):
        algorithm = neb.walk_jump(ORACLE, neb.ULA(step_size), steps_per_jump=3)
        return algorithm.step(KEY, algorithm.init(START[0]))[1].x.sum()

    difference = float(end(0.0201) - end(0.0199)) / 0.0002
    assert float(jax.grad(end)(0.02)) == pytest.approx(difference, rel=0.05)


@pytest.mark.parametrize(
    "walk", [neb.ULA(), neb.KineticLangevin(), neb.KineticLangevin(scheme="ABOBA"), neb.MALA()]
)
def test_public_functions_under_shard_map(walk):
    """Row 22: two devices, each with half of the chains, draw what one device draws.

    `check_vma=False`, as BlackJAX's kernels need too: loops there start from constants.
    """
    mesh = jax.make_mesh((2,), ("chains",), axis_types=(AxisType.Auto,))
    spread = PartitionSpec("chains")
    walk = walk.resolve(ORACLE.sigma, 3)

    def advance(energy, walk, y, keys):
        algorithm = neb.walk_jump(energy, walk, steps_per_jump=3)
        states = jax.vmap(algorithm.init)(y, keys)
        _, info = jax.vmap(algorithm.step)(keys, states)
        jumps = jax.vmap(neb.stochastic_jump, (0, None, 0))(keys, energy, info.x)
        return info.x, jumps, jax.vmap(energy)(y)

    keys = jax.random.split(KEY, 4)
    whole = (PartitionSpec(), PartitionSpec(), spread, spread)
    sharded = jax.jit(
        jax.shard_map(advance, mesh=mesh, in_specs=whole, out_specs=spread, check_vma=False)
    )
    for ours, one in zip(
        sharded(ORACLE, walk, START, keys), advance(ORACLE, walk, START, keys), strict=True
    ):
        assert np.allclose(ours, one, atol=1e-5)


def test_grad_through_sigma_and_a_jump_inside_jit():
    """Row 22: sigma may be a tracer from construction to jump."""

    @jax.jit
    def total(sigma):
        energy = neb.from_energy(lambda y: 0.5 * jnp.sum(y**2), sigma, event_shape=(3,))
        return neb.bayes_estimator(energy, jnp.ones(3)).sum()

    assert float(jax.grad(total)(0.5)) == pytest.approx(-2 * 0.5 * 3, rel=1e-5)


def test_keys_of_chains_do_not_depend_on_their_number():
    few, many = (jax.random.key_data(engine.chain_keys(KEY, n)) for n in (2, 7))
    assert np.array_equal(few, many[:2])
    assert len(np.unique(many, axis=0)) == 7


def test_jumps_are_the_models_unless_another_is_given():
    result = run(neb.MALA(), jump=neb.stochastic_jump)
    assert result.settings["jump"] == "stochastic_jump"
    assert (result.info["num_clamped"] == 0).all()
    mine = run(neb.MALA(), jump=lambda key, model, y: 2 * y)
    assert np.allclose(mine.x, 2 * mine.y)
    aboba = run(neb.KineticLangevin(scheme="ABOBA"))
    exact = jax.vmap(jax.vmap(ORACLE.posterior_mean))(aboba.y)
    assert np.allclose(aboba.x, exact, atol=1e-5)


def test_adaptation_reaches_its_target_from_a_bad_start():
    for walk in (neb.MALA(), neb.HMC(), neb.GHMC()):
        result = run(walk, num_samples=200, num_warmup=600)
        rate = result.info["acceptance_rate"].mean()
        assert abs(rate - walk.target_acceptance) < 0.06
    assert run(neb.MALA(0.1), num_warmup=50).info["step_size"][0, 0] == np.float32(0.1)


def test_starts():
    data = neb.start_at_data(KEY, ORACLE, ORACLE.sample_clean(KEY, (10,)), 20)
    noise = neb.start_at_noise(KEY, ORACLE, 20)
    assert data.shape == noise.shape == (20, 3)
    with pytest.raises(InvalidArgumentError, match="num_chains must be at least 1; got 0"):
        neb.start_at_noise(KEY, ORACLE, 0)
    with pytest.raises(EventShapeError, match="event_shape"):
        neb.start_at_noise(KEY, neb.from_energy(jnp.sum, 0.3), 2)


def test_a_diverging_chain_is_frozen_and_marked_and_the_others_go_on():
    """Row 7."""
    bad = neb.from_score(lambda y: jnp.where(y[0] > 5, y**3, -y), 0.5, event_shape=(3,))
    start = START.at[2].set(9.0)
    result = run(neb.ULA(0.05), bad, start)
    assert result.info["diverging"][:, -1].tolist() == [False, False, True, False]
    assert np.isfinite(result.y).all()
    assert (result.y[2, -1] == result.y[2, -2]).all()
    assert (result.y[0, -1] != result.y[0, -2]).any()
    with pytest.raises(WalkError, match="all 4 chains"):
        run(neb.ULA(0.05), bad, START.at[:].set(9.0))


def holed(edge):
    return neb.from_energy(
        lambda y: jnp.where(y[0] > edge, jnp.nan, ORACLE(y)), 0.5, event_shape=(3,)
    )


def test_energies_that_are_not_finite_are_rejected_and_counted():
    """Row 8: a warning above 0.1 %, an error above 10 %."""
    start = jnp.clip(START, -2, 0.2)
    with pytest.warns(neb.errors.WalkWarning, match="not finite; they were rejected"):
        result = run(neb.MALA(0.05), holed(1.2), start, num_samples=300)
    assert result.info["nonfinite"].sum() > 0
    assert result.y[..., 0].max() <= 1.2
    with pytest.raises(WalkError, match="energy that is not finite"):
        run(neb.MALA(0.2), holed(0.25), start, num_samples=300)


def test_a_bad_start_is_refused_by_name():
    """Row 9: energy and score apart, and the leaf of a tree."""
    with pytest.raises(StartError, match=r"energy at initial .* 1 of 4 chains \(1\)"):
        run(neb.MALA(0.1), holed(0.5), jnp.zeros((4, 3)).at[1].set(2.0))
    kink = neb.from_energy(lambda y: jnp.sum(jnp.sqrt(y)), 0.5, event_shape=(3,))
    with pytest.raises(StartError, match="score at initial"):
        run(neb.ULA(0.1), kink, jnp.zeros((4, 3)))
    with pytest.raises(StartError, match=r"position at initial\['b'\]"):
        run(neb.HMC(0.1), lambda z: z["a"] ** 2 + z["b"] ** 2,
            {"a": jnp.zeros(2), "b": jnp.array([0.0, np.inf])})  # fmt: skip


def test_a_step_that_never_moves_is_stopped():
    """Row 10: says the step, sigma and a suggestion."""
    with pytest.raises(WalkError, match=r"accepted 0.*step_size=1e\+06 \(sigma=0.5\).*try 1e\+05"):
        run(neb.MALA(1e6), num_samples=300)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1; got 0"),
        ({"steps_per_jump": 0}, "steps_per_jump must be"),
        ({"num_samples": 2.5}, "got 2.5"),
        ({"num_warmup": -1}, "num_warmup must be at least 0; got -1"),
        ({"key": None}, "may be None only"),
        ({"start": jnp.zeros((0, 3))}, "at least one chain"),
    ],
)
def test_bad_arguments(settings, message):
    """Row 23."""
    with pytest.raises(InvalidArgumentError, match=message):
        run(neb.ULA(), **settings)


def test_a_start_without_a_chain_axis():
    with pytest.raises(EventShapeError, match=r"initial has shape \(3,\).*initial\[None\]"):
        run(neb.ULA(), start=jnp.zeros(3))


def test_going_on_ignores_nothing():
    state = run(neb.ULA()).state
    with pytest.raises(InvalidArgumentError, match="state was made by"):
        run(neb.ULA(0.3), start=state)
    with pytest.raises(InvalidArgumentError, match="state was made by"):
        run(neb.MALA(), start=state)
    with pytest.raises(InvalidArgumentError, match="num_warmup must be 0"):
        run(neb.ULA(), start=state, num_warmup=5)


def test_an_interrupt_returns_what_was_drawn(interrupt_at_second_call):
    """Row 24: a real Ctrl-C in the second chunk; that chunk is finished, and going on is exact."""
    whole = run(neb.ULA(), num_samples=300)
    calls = interrupt_at_second_call(engine, "draw_chunk")
    result = run(neb.ULA(), num_samples=300)
    assert len(calls) == 2
    assert not result.is_complete
    drawn = result.num_samples
    assert 8 < drawn < 300
    rest = neb.sample(None, ORACLE, None, result.state, num_samples=300 - drawn, progress_bar=False)
    assert np.array_equal(whole.y, np.concatenate([result.y, rest.y], axis=1))


def test_a_second_interrupt_raises(monkeypatch):
    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(engine, "draw_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(neb.ULA(), num_samples=100)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_start_on_another_scale_warns():
    """Row 5."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    energy = neb.deen(KEY, (3,), 0.5, network=neb.MLP(hidden=8, blocks=1))
    energy, _ = neb.fit(KEY, energy, x, num_steps=2, progress_bar=False)
    with pytest.warns(neb.errors.DataRangeWarning, match="initial"):
        run(neb.ULA(), energy, 255 * START)
    run(neb.ULA(), energy, START)


def test_stochastic_jumps_of_a_walk_have_the_clean_law():
    """Chains that start from the target: x has the clean mean and covariance, afresh at each draw.

    4,000 independent chains; z-scores below 5.
    """
    start = ORACLE.sample(jax.random.key(5), (4_000,))
    result = run(neb.MALA(0.05), start=start, jump=neb.stochastic_jump, num_samples=2, num_warmup=0)
    means = jax.vmap(jax.vmap(lambda y: neb.bayes_estimator(ORACLE, y)))(result.y)
    noise = np.asarray(result.x - means, np.float64)
    # Cov X = Cov Y - sigma^2 I.
    clean = np.asarray(ORACLE.covariance()) - float(ORACLE.sigma) ** 2 * np.eye(3)
    x = np.asarray(result.x[:, 0], np.float64) - np.asarray(ORACLE.mean())
    squares = x[:, :, None] * x[:, None, :]
    z = (squares.mean(axis=0) - clean) / (squares.std(axis=0) / np.sqrt(len(x)))
    assert np.abs(z).max() < 5
    for one, other in ((noise[:, 0], noise[:, 1]), (noise[1:, 0], noise[:-1, 0])):
        products = one * other
        z = products.mean(axis=0) / (products.std(axis=0) / np.sqrt(len(products)))
        assert np.abs(z).max() < 5


def test_going_on_keeps_steps_and_jump():
    """The README's last line: nothing but the state and a number of draws."""
    settings = {"steps_per_jump": 4, "jump": neb.stochastic_jump}
    whole = run(neb.MALA(), num_samples=30, **settings)
    part = run(neb.MALA(), num_samples=12, **settings)
    rest = neb.sample(None, ORACLE, None, part.state, num_samples=18, progress_bar=False)
    assert np.array_equal(whole.y[:, 12:], rest.y)
    assert np.array_equal(whole.x[:, 12:], rest.x)
    assert rest.settings["steps_per_jump"] == 4
    assert rest.settings["jump"] == "stochastic_jump"


def test_a_state_of_another_model_is_refused():
    """It remembers scores: the first step would be wrong without a word."""
    state = run(neb.MALA(), num_samples=4).state
    other = neb.gaussian_mixture([1.0], np.ones((1, 3)), np.ones(1), 0.5)
    with pytest.raises(InvalidArgumentError, match="another model"):
        neb.sample(None, other, None, state, num_samples=4, progress_bar=False)
    moved = neb.sample(KEY, other, neb.MALA(), state.position, num_samples=4, progress_bar=False)
    assert moved.is_complete


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((KEY, ORACLE, neb.MALA, START), r"neb_ppl\.MALA\(\)"),
        ((KEY, ORACLE, "MALA", START), r"neb_ppl\.MALA\(\)"),
        ((KEY, neb.MALA(), ORACLE, START), "The order is"),
        ((0, ORACLE, neb.MALA(), START), r"jax\.random\.key\(0\)"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, told):
    with pytest.raises(InvalidArgumentError, match=told):
        neb.sample(*arguments, num_samples=3, progress_bar=False)


def test_levels_and_jumps_of_the_wrong_kind():
    levels = neb.noise_conditional(jax.random.key(0), (3,), (0.1, 1.0))
    with pytest.raises(InvalidArgumentError, match=r"model\.at\(sigma\)"):
        neb.sample(KEY, levels, neb.MALA(), START, num_samples=3, progress_bar=False)
    with pytest.raises(InvalidArgumentError, match="stochastic_jump"):
        run(neb.MALA(), jump="stochastic", num_samples=3)


def test_lists_are_starts():
    result = run(neb.MALA(), start=[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], num_samples=3)
    assert result.num_chains == 2


def test_starts_check_their_data():
    with pytest.raises(neb.errors.EventShapeError, match="x has shape"):
        neb.start_at_data(KEY, ORACLE, np.zeros((5, 2)), 4)
    with pytest.raises(neb.errors.NonFiniteDataError, match="x holds"):
        neb.start_at_data(KEY, ORACLE, np.full((5, 3), np.nan), 4)
