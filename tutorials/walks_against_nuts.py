"""Which walk for a learned density? Digits, d = 64, judged by ArviZ.

NUTS takes long trajectories, walks take many short steps. What counts is effective draws of what
you want to know, here of the jumps, for the gradients that they cost.

    python tutorials/walks_against_nuts.py --out walks_against_nuts.png
"""

import argparse

import jax
import matplotlib.pyplot as plt
import numpy as np
from numpyro.infer import MCMC, NUTS

import neb_ppl as neb
from neb_ppl.diagnostics import effective_sample_size, rhat

CHAINS, DRAWS, STEPS = 16, 500, 10
WALKS = {
    "BAOAB": neb.KineticLangevin(),
    "GHMC": neb.GHMC(),
    "MALA": neb.MALA(),
    "ULA": neb.ULA(),
}


def learn() -> tuple[neb.NeuralEnergy, jax.Array]:
    """The energy of smoothed digits, and where chains start."""
    x = neb.data.digits("train").x
    energy = neb.deen(jax.random.key(0), (8, 8), sigma=0.3)
    energy, _ = neb.fit(jax.random.key(1), energy, x, num_steps=1_500)
    return energy, neb.start_at_data(jax.random.key(2), energy, x, CHAINS)


def by_nuts(energy: neb.NeuralEnergy, start: jax.Array) -> tuple[np.ndarray, int]:
    """Jumps from NumPyro's own draws, and its gradients after warm-up."""
    mcmc = MCMC(NUTS(potential_fn=energy), num_warmup=500, num_samples=DRAWS, num_chains=CHAINS,
                chain_method="vectorized", progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(3), init_params=start, extra_fields=("num_steps",))
    y = mcmc.get_samples(group_by_chain=True)
    jumps = jax.jit(jax.vmap(jax.vmap(lambda y: neb.bayes_estimator(energy, y))))(y)
    return np.asarray(jumps), int(mcmc.get_extra_fields()["num_steps"].sum())


def summary(x: np.ndarray) -> np.ndarray:
    """Ink, and eight fixed projections of the jumps."""
    flat = x.reshape(*x.shape[:2], -1).astype(np.float64)
    directions = np.random.default_rng(0).normal(size=(flat.shape[2], 8)) / 8
    return np.concatenate([flat.sum(axis=2, keepdims=True), flat @ directions], axis=2)


def main() -> None:
    """Run every walk and NUTS; a table, and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="walks_against_nuts.png")
    options = parser.parse_args()
    energy, start = learn()
    runs = {}
    for name, walk in WALKS.items():
        result = neb.sample(jax.random.key(4), energy, walk, start, num_samples=DRAWS,
                            num_warmup=500, steps_per_jump=STEPS)  # fmt: skip
        runs[name] = summary(result.x), CHAINS * DRAWS * STEPS
    x, gradients = by_nuts(energy, start)
    runs["NUTS"] = summary(x), gradients
    print(f"{'':<6} {'gradients':>10} {'ESS':>6} {'of 1,000':>9} {'R-hat':>6}")
    found = {}
    for name, (draws, gradients) in runs.items():
        ess = float(effective_sample_size(draws).min())
        found[name] = 1_000 * ess / gradients
        largest = float(rhat(draws).max())
        print(f"{name:<6} {gradients:>10,} {ess:>6.0f} {found[name]:>9.2f} {largest:>6.3f}")
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    axes[0].bar(list(found), list(found.values()), color="tab:blue")
    axes[0].set(ylabel="effective draws of 1,000 gradients", title="jumps of digits, d = 64")
    for name in ("BAOAB", "NUTS", "ULA"):
        draws, gradients = runs[name]
        spent = np.arange(DRAWS) * gradients / CHAINS / DRAWS
        axes[1].plot(spent, draws[0, :, 0], lw=0.8, label=name)
    axes[1].set(xlabel="gradients of one chain", ylabel="ink of its jumps", xlim=(0, 4_000))
    axes[1].legend(loc="upper right")
    figure.savefig(options.out, dpi=120)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
