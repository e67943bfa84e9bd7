"""G14: one compilation a walk, none at the second call, memory that does not grow with steps.

Counts are exact and the memory is the compiler's own account, so nothing here is random.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.sampling import engine

NETWORK = neb.MLP(hidden=16, blocks=1)


def untrained(seed, sigma=0.5):
    return neb.deen(jax.random.key(seed), (5,), sigma, network=NETWORK)


def run(energy, walk, **settings):
    settings = {"num_samples": 5, "progress_bar": False} | settings
    start = neb.start_at_noise(jax.random.key(0), energy, 3)
    return neb.sample(jax.random.key(1), energy, walk, start, **settings)


@pytest.mark.parametrize("walk", [neb.ULA, neb.KineticLangevin, neb.MALA, neb.GHMC])
def test_nothing_compiles_at_the_second_call(walk):
    """New weights, sigma, step size, number of draws, steps and warm-up: all are arguments."""
    run(untrained(0), walk(), num_warmup=3)
    functions = (engine.initialise, engine.draw_chunk, engine.warm_up)
    before = [function._cache_size() for function in functions]
    run(untrained(1, sigma=0.7), walk(), num_samples=300, steps_per_jump=7, num_warmup=50)
    assert [function._cache_size() for function in functions] == before
    run(untrained(1), walk(step_size=0.01))
    assert engine.draw_chunk._cache_size() == before[1]


def test_a_first_call_compiles_once():
    """Several chunks, a short last one included, are one program."""
    energy = neb.deen(jax.random.key(0), (7,), 0.5, network=NETWORK)
    before = engine.draw_chunk._cache_size()
    run(energy, neb.MALA(0.1), num_samples=700)
    assert engine.draw_chunk._cache_size() == before + 1


def test_a_closure_would_retrace():
    """The mutant: weights in a closure compile anew, and the counter sees it."""
    run(untrained(0), neb.ULA(0.01))
    before = engine.draw_chunk._cache_size()
    for seed in (0, 1):
        energy = untrained(seed)
        closed = neb.from_energy(lambda y, e=energy: e(y), 0.5, event_shape=(5,))
        run(closed, neb.ULA(0.01))
    assert engine.draw_chunk._cache_size() == before + 2


def arguments(energy, walk, steps, draws):
    walk = walk.resolve(energy.sigma, 5)
    position = neb.start_at_noise(jax.random.key(0), energy, 3)
    states = engine.initialise(energy, walk, position, jax.random.key(1))
    zero = jnp.zeros((), jnp.int32)
    counts = (jnp.asarray(draws), jnp.asarray(steps))
    return (energy, walk, states, jax.random.key(2), zero, *counts)


def test_memory_does_not_depend_on_steps_or_draws():
    """The number of steps is an argument of one program, whose memory the compiler fixes."""
    options = {"jump": neb.mean_jump, "buffer": 16}
    few, many = (
        engine.draw_chunk.lower(*arguments(untrained(0), neb.MALA(0.1), *counts), **options)
        for counts in ((1, 1), (1_000, 16))
    )
    assert few.as_text() == many.as_text()
    rows = 16 * 3 * 5 * 4 * 2
    assert few.compile().memory_analysis().temp_size_in_bytes < 40 * rows


class Counted:
    """An energy that counts its evaluations on the host."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y):
        def count(size):
            self.calls += 1
            return np.zeros((), np.float32)

        def forward(y):
            return 0.5 * jnp.sum(y**2) + jax.pure_callback(
                count, jax.ShapeDtypeStruct((), jnp.float32), y, vmap_method="sequential"
            )

        function = jax.custom_jvp(forward)
        function.defjvp(lambda p, t: (forward(p[0]), jnp.vdot(p[0], t[0])))
        return function(y)


@pytest.mark.parametrize(
    ("walk", "per_step"),
    [(neb.ULA(0.1), 1), (neb.KineticLangevin(0.3, 1.0), 1), (neb.MALA(0.1), 1)],
)
def test_gradients_grow_linearly_in_steps_and_chains(walk, per_step):
    """Counted, not timed: one gradient a step a chain, none for the jump."""
    counts = {}
    for chains, steps in ((1, 10), (1, 40), (4, 10)):
        counted = Counted()
        energy = neb.from_energy(counted, 0.5, event_shape=(2,))
        states = jnp.zeros((chains, 2))
        algorithm = neb.walk_jump(energy, walk, steps_per_jump=steps)
        state = jax.vmap(algorithm.init)(states, jax.random.split(jax.random.key(0), chains))
        jax.block_until_ready(state)
        counted.calls = 0
        keys = jax.random.split(jax.random.key(1), chains)
        jax.block_until_ready(jax.jit(jax.vmap(algorithm.step))(keys, state))
        counts[chains, steps] = counted.calls
    assert counts == {(1, 10): 10, (1, 40): 40, (4, 10): 40}
