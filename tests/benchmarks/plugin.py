"""The plugin: what models cost beyond their gradients, and walks against NumPyro's NUTS."""

import argparse
import time
import warnings
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, WalkKernel, model_potential
from neb_ppl.sampling import engine
from neb_ppl.walks.preconditioned import Preconditioned, Scale, unit_scale
from tests.benchmarks.timing import paired, ratio, report

STEPS, STEPS_PER_DRAW = 400, 10
SCALES: tuple[Scale, ...] = ("diagonal", "dense")


def model(seen, energy):
    """The left half of a digit, with noise of an unknown size."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    numpyro.sample("seen", dist.Normal(y[:, :4], noise).to_event(2), obs=seen)


@jax.jit
def bare(potential, z):
    """Nothing but gradients of the model, each fed to the next so that none is dropped."""

    def body(_, carry):
        z, total = carry
        value, gradient = jax.vmap(jax.value_and_grad(potential))(z)
        return jax.tree.map(lambda a, b: a - 1e-6 * b, z, gradient), total + value

    return jax.lax.fori_loop(0, STEPS, body, (z, jnp.zeros(len(z["noise"]))))


@partial(jax.jit, static_argnames=("kernel",))
def numpyros(kernel, state, args):
    """As many steps of a NumPyro kernel, as its MCMC runs them."""
    return jax.lax.fori_loop(0, STEPS, lambda _, state: kernel.sample(state, args, {}), state)


def overheads(chains: list[int], rounds: int) -> list[dict]:
    """Seconds of the fast road over bare gradients, and of `WalkKernel` over the fast road.

    In 65 dimensions, with a scale of standard deviations and with a whole matrix.
    """
    energy = neb.deen(jax.random.key(0), (8, 8), 0.3)
    args = (jnp.zeros((8, 4)), energy)
    potential, rows = model_potential(model, *args), []
    for count in chains:
        for walk, kind in product((neb.MALA(0.01), neb.KineticLangevin(0.1)), SCALES):
            z = potential.start(jax.random.key(1), count)
            scaled = Preconditioned(walk, unit_scale(kind, 65, count)).resolve(None, 65)
            states = engine.initialise(potential, scaled, z, jax.random.key(2))
            kernel = WalkKernel(model, walk, adapt_scale=kind)
            keys = jax.random.split(jax.random.key(3), count)
            begun = kernel.init(keys, 0, None, args, {})
            draws = jnp.asarray(STEPS // STEPS_PER_DRAW), jnp.asarray(STEPS_PER_DRAW)
            buffer = engine.buffer_size(potential, z, potential.jump)
            chunk = partial(
                engine.draw_chunk, potential, scaled, states, jax.random.key(3), jnp.asarray(0),
                *draws, jump=potential.jump, buffer=buffer,
            )  # fmt: skip
            seconds = paired(
                {
                    "bare": lambda z=z: jax.block_until_ready(bare(potential, z)),
                    "fast": lambda c=chunk: jax.block_until_ready(c()),
                    "kernel": lambda k=kernel, b=begun: jax.block_until_ready(numpyros(k, b, args)),
                },
                rounds,
            )
            row = {"chains": count, "walk": walk.name, "scale": kind}
            row["gradient [us]"] = 1e6 * float(np.median(seconds["bare"])) / STEPS
            row["fast road / bare"] = _shown(ratio(seconds["fast"], seconds["bare"]))
            row["WalkKernel / fast road"] = _shown(ratio(seconds["kernel"], seconds["fast"]))
            rows.append(row)
    return rows


def efficiency(train_steps: int, chains: int) -> list[dict]:
    """Effective draws of the jumps' statistics, a second and a thousand gradients."""
    x = neb.data.digits("train").x
    energy = neb.deen(jax.random.key(0), (8, 8), 0.3)
    energy, _ = neb.fit(jax.random.key(1), energy, x, num_steps=train_steps)
    start = neb.start_at_data(jax.random.key(2), energy, x, chains)
    rows = []
    for walk in (neb.KineticLangevin(), neb.GHMC(), neb.MALA(), neb.ULA()):
        settings = {"num_samples": 1_000, "num_warmup": 1_000, "steps_per_jump": 10}
        run = partial(neb.sample, jax.random.key(3), energy, walk, start, **settings)
        run(num_samples=8)
        result = run()
        gradients = chains * 10_000
        # Warm-up is a tenth of the steps; it is taken out of the time as NUTS's is.
        seconds = result.settings["seconds"] * 10_000 / 11_000
        rows.append(_row(walk.name, result.x, gradients, seconds))
    rows.append(_nuts(energy, start))
    return rows


def _nuts(energy, start) -> dict:
    """NumPyro's own NUTS on the same potential from the same start."""
    run = MCMC(
        NUTS(potential_fn=energy), num_warmup=1_000, num_samples=1_000, num_chains=len(start),
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    run.warmup(jax.random.key(4), init_params=start)
    state = run.post_warmup_state
    run.run(state.rng_key, extra_fields=("num_steps",))
    with jax.disable_jit(False):
        run.post_warmup_state = state
        seconds = _steady(run, state)
    y = run.get_samples(group_by_chain=True)
    jumps = jax.jit(jax.vmap(jax.vmap(lambda y: neb.bayes_estimator(energy, y))))(y)
    gradients = int(np.sum(run.get_extra_fields()["num_steps"]))
    return _row("NumPyro's NUTS", np.asarray(jumps), gradients, seconds)


def _steady(run: MCMC, state) -> float:
    """Seconds of 1,000 draws without compilation: as a jitted loop of the kernel's own steps."""
    kernel = run.sampler
    loop = jax.jit(lambda s: jax.lax.fori_loop(0, 1_000, lambda _, s: kernel.sample(s, (), {}), s))
    jax.block_until_ready(loop(state))
    started = time.perf_counter()
    jax.block_until_ready(loop(state))
    return time.perf_counter() - started


def _row(name: str, x, gradients: int, seconds: float) -> dict:
    x = np.asarray(x, np.float64).reshape(*x.shape[:2], -1)
    directions = np.random.default_rng(0).normal(size=(x.shape[2], 8)) / 8
    summary = np.concatenate([x.mean(axis=2, keepdims=True), x @ directions], axis=2)
    ess = neb.diagnostics.effective_sample_size(summary)
    return {
        "walk": name,
        "smallest ESS": round(float(ess.min())),
        "ESS a second": round(float(ess.min()) / seconds),
        "ESS a 1,000 gradients": float(1_000 * ess.min() / gradients),
        "R-hat": round(float(neb.diagnostics.rhat(summary).max()), 3),
    }


def _shown(measured: dict[str, float]) -> str:
    return f"{measured['ratio']:.2f} [{measured['min']:.2f}, {measured['max']:.2f}]"


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chains", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--train-steps", type=int, default=2_500)
    parser.add_argument("--json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    report(overheads(options.chains, options.rounds), options.json)
    report(efficiency(options.train_steps, 16), None)


if __name__ == "__main__":
    main()
