"""G13: diagnose flags 12 of 12 broken runs, and at most 1 of 20 healthy ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.diagnostics import diagnose
from neb_ppl.errors import InvalidArgumentError

ORACLE = neb.gaussian_mixture(*neb.data.skewed_mixture(), 0.6)
APART = neb.gaussian_mixture([0.5, 0.5], np.array([[-9.0, 0], [9, 0]]), np.ones(2), 0.5)
HOLED = neb.from_energy(lambda y: jnp.where(y[0] > 0.6, jnp.nan, ORACLE(y)), 0.6, event_shape=(2,))


def run(seed=0, model=ORACLE, walk=None, start=None, num_samples=400, **settings):
    key_start, key_walk = jax.random.split(jax.random.key(seed))
    start = ORACLE.sample(key_start, (4,)) if start is None else start
    settings = {"steps_per_jump": 10, "progress_bar": False} | settings
    walk = walk or neb.KineticLangevin()
    return neb.sample(key_walk, model, walk, start, num_samples=num_samples, **settings)


def freeze(result, chain, since):
    y = result.y.copy()
    y[chain, since:] = y[chain, since : since + 1]
    return dataclasses.replace(result, y=y)


def far_start():
    return jnp.array([[0.0, 0], [0, 0], [40, 40], [40, 40]])


BROKEN = {
    "all chains frozen": lambda: freeze(run(), slice(0, 4), 0),
    "one chain frozen": lambda: freeze(run(), slice(2, 3), 0),
    "a chain that sticks half-way": lambda: freeze(run(), slice(1, 2), 200),
    "a step too large": lambda: run(walk=neb.MALA(4.0), steps_per_jump=1),
    "a chain that left the finite numbers": lambda: run(
        model=neb.from_score(lambda y: jnp.where(y[0] > 8, y**3, -y), 0.6, event_shape=(2,)),
        walk=neb.ULA(0.1),
        start=jnp.array([[0.0, 0], [0, 0], [0, 0], [9, 0]]),
    ),
    "energies that are not finite": lambda: run(
        model=HOLED, walk=neb.MALA(0.1), start=-jnp.ones((4, 2))
    ),
    "separate modes": lambda: run(
        model=APART, start=jnp.array([[-9.0, 0], [-9, 0], [9, 0], [9, 0]])
    ),
    "too short": lambda: run(num_samples=10, steps_per_jump=1),
    "hardly any draws": lambda: run(num_samples=3),
    "a step too small": lambda: run(walk=neb.KineticLangevin(0.001), steps_per_jump=1),
    "a tiny adjusted step": lambda: run(walk=neb.MALA(1e-5), steps_per_jump=1),
    "half of the chains started far away": lambda: run(
        walk=neb.ULA(0.002), start=far_start(), steps_per_jump=1
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.filterwarnings("ignore::neb_ppl.errors.WalkWarning")
def test_a_broken_run_is_flagged(fault):
    diagnosis = diagnose(BROKEN[fault]())
    assert not diagnosis.ok, str(diagnosis)
    assert "Do not trust" in str(diagnosis)


def test_at_most_one_of_twenty_healthy_runs_is_flagged():
    walks = [neb.KineticLangevin(), neb.MALA(), neb.ULA(), neb.GHMC()]
    verdicts = [diagnose(run(seed, walk=walks[seed % 4])).ok for seed in range(20)]
    assert verdicts.count(False) <= 1


def test_arviz_alone_is_fooled_by_stuck_chains():
    """ESS equals the number of draws; diagnose says they are stuck and shows no ESS."""
    result = run()
    result = dataclasses.replace(result, y=np.ones_like(result.y))
    fooled = neb.diagnostics.effective_sample_size(result.y)
    diagnosis = diagnose(result)
    assert (fooled >= 1_600).all()
    assert "stood still" in str(diagnosis)
    assert "smallest ESS" not in diagnosis.numbers


def test_what_the_draws_mean_is_said():
    said = str(diagnose(run(walk=neb.ULA())))
    assert "times too large" in said
    assert "not draws" in said
    assert "MALA" in str(diagnose(run(walk=neb.KineticLangevin())))
    stochastic = run(walk=neb.MALA(), jump=neb.stochastic_jump)
    assert "not draws" not in str(diagnose(stochastic))


def test_one_chain_is_judged_with_a_note():
    assert "run at least four" in str(diagnose(run(start=jnp.zeros((1, 2)))))


def test_large_events_and_dict_positions():
    wide = neb.gaussian_mixture([1.0], np.zeros((1, 400)), np.ones(1), 1.0)
    result = run(model=wide, start=wide.sample(jax.random.key(0), (4,)), num_samples=200)
    assert diagnose(result).ok
    potential = lambda z: 0.5 * jnp.sum(z["a"] ** 2) + 0.5 * z["b"] ** 2  # noqa: E731
    start = {"a": jnp.zeros((4, 3)), "b": jnp.zeros(4)}
    result = run(model=potential, walk=neb.HMC(0.7), start=start)
    assert diagnose(result).ok


def test_a_walk_that_settles_where_no_data_are_is_flagged():
    """Chains that agree with each other, on another density than the data's."""
    y = ORACLE.sample(jax.random.key(9), (1_000,))
    reference = jax.vmap(ORACLE)(y)
    assert diagnose(run(), reference).ok
    deeper = neb.gaussian_mixture([1.0], ORACLE.mean()[None] + 2.5, np.array([0.01]), 0.6)
    elsewhere = run(model=deeper, start=deeper.sample(jax.random.key(0), (4,)))
    assert diagnose(elsewhere).ok
    lp = -jax.vmap(jax.vmap(ORACLE))(elsewhere.y)
    moved = dataclasses.replace(elsewhere, info=elsewhere.info | {"lp": np.asarray(lp)})
    assert "settled where no data are" in str(diagnose(moved, reference))


def test_one_chain_has_numbers_and_is_not_a_problem():
    diagnosis = diagnose(run(start=jnp.zeros((1, 2)), num_samples=2_000))
    assert np.isfinite(diagnosis.numbers["largest R-hat"])
    assert diagnosis.ok


def test_energies_that_chains_disagree_about_are_seen():
    """The rest of a run is fine: only lp tells."""
    result = run()
    lp = result.info["lp"] + 3 * np.arange(4)[:, None]
    assert not diagnose(dataclasses.replace(result, info=result.info | {"lp": lp})).ok


def test_a_chain_that_accepts_less_than_the_others():
    """A stiff well: the mean acceptance looks as it should."""
    result = run(walk=neb.MALA())
    rates = np.full((4, 400), 0.9)
    rates[2] = 0.2  # .725 of all; the target is .574
    info = result.info | {"acceptance_rate": rates}
    result = dataclasses.replace(result, info=info)
    said = str(diagnose(result))
    assert "chain 2 of 4 accepted 20% of proposals, the median chain 90%" in said
    assert "Which of the places is right" in said and "R-hat" in said
    assert "would move faster" not in said
    learned = dataclasses.replace(result, settings=result.settings | {"data_energy": None})
    assert "in a well that no data made" in str(diagnose(learned))


@pytest.mark.parametrize("reference", [np.arange(3.0), np.zeros((100, 2)), np.full(100, np.nan)])
def test_a_reference_is_energies(reference):
    with pytest.raises(InvalidArgumentError, match="at least 50 finite energies"):
        diagnose(run(num_samples=10), reference)


def test_what_is_no_result():
    with pytest.raises(InvalidArgumentError, match="what neb_ppl.sample returned"):
        diagnose(ORACLE)
    with pytest.raises(InvalidArgumentError, match="what neb_ppl.sample returned"):
        neb.diagnostics.to_arviz(np.zeros((2, 3)))


def test_a_trained_energy_brings_its_own_reference():
    x = np.asarray(neb.data.two_moons(jax.random.key(0), 1_000))
    energy = neb.deen(jax.random.key(1), (2,), 0.6, network=neb.MLP(hidden=64, blocks=2))
    energy, _ = neb.fit(jax.random.key(2), energy, x, num_steps=300, progress_bar=False)
    y = neb.smooth(jax.random.key(3), x, 0.6)
    own = np.quantile(jax.vmap(energy)(y), [0.01, 0.5, 0.99])
    assert np.allclose(energy.data_energy, own, rtol=0.2, atol=0.5)
    start = neb.start_at_data(jax.random.key(4), energy, x, 4)
    assert "energies unlike data's" in diagnose(run(model=energy, start=start)).numbers
    other = dataclasses.replace(energy, data_energy=energy.data_energy + 9)
    assert "settled where no data are" in str(diagnose(run(model=other, start=start)))
    plain = neb.from_energy(ORACLE, 0.6, event_shape=(2,))
    assert "not checked against data" in str(diagnose(run(model=plain)))


def test_clamped_covariances_are_told():
    result = run(walk=neb.MALA(), jump=neb.stochastic_jump)
    counts = np.zeros((4, 400), int)
    counts[:, ::2] = 3
    info = result.info | {"num_clamped": counts}
    said = str(diagnose(dataclasses.replace(result, info=info)))
    assert "in 50% of draws" in said and "1.5 a draw" in said
