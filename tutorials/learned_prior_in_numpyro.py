"""A learned prior beside other latents: what a detector of unknown gain saw of a point.

Points lie on two moons, known by samples alone. A detector reports both coordinates times a gain
that nobody knows, with noise. NUTS, and a walk of our own, sample the point and the gain together.

    python tutorials/learned_prior_in_numpyro.py --out learned_prior.png
"""

import argparse

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, WalkKernel, from_mcmc, sample_model

SIGMA, NOISE = 0.15, 0.2


def learn(rng_key: jax.Array) -> tuple[np.ndarray, neb.NeuralEnergy]:
    """Samples, and the energy of their smoothed density."""
    key_data, key_net, key_fit = jax.random.split(rng_key, 3)
    x = neb.data.two_moons(key_data, 5_000)
    energy = neb.deen(key_net, event_shape=(2,), sigma=SIGMA)
    energy, _ = neb.fit(key_fit, energy, x, num_steps=1_500)
    return np.asarray(x), energy


def model(seen, energy):
    """The learned density is a distribution as any other."""
    y = numpyro.sample("y", SmoothedDensity(energy))
    gain = numpyro.sample("gain", dist.LogNormal(0.0, 0.5))
    numpyro.deterministic("x", neb.bayes_estimator(energy, y))
    numpyro.sample("seen", dist.Normal(gain * y, NOISE).to_event(1), obs=seen)


def main() -> None:
    """Three roads to one posterior, and a picture of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="learned_prior.png")
    options = parser.parse_args()
    x, energy = learn(jax.random.key(0))
    seen = jnp.array([1.0, -1.2])

    by_nuts = MCMC(NUTS(model), num_warmup=500, num_samples=1_000, num_chains=4,
                   chain_method="vectorized", progress_bar=False)  # fmt: skip
    by_nuts.run(jax.random.key(1), seen, energy)
    by_walk = MCMC(WalkKernel(model, walk=neb.GHMC()), num_warmup=1_000, num_samples=8_000,
                   thinning=8, num_chains=4, chain_method="vectorized",
                   progress_bar=False)  # fmt: skip
    by_walk.run(jax.random.key(2), seen, energy)
    print("GHMC as a NumPyro kernel:", neb.diagnostics.diagnose(from_mcmc(by_walk)), sep="\n")
    fast = sample_model(jax.random.key(3), model, neb.GHMC(), args=(seen, energy),
                        num_chains=16, steps_per_jump=8)  # fmt: skip
    print("The fast road:", neb.diagnostics.diagnose(fast), sep="\n")

    roads = {
        "NUTS": by_nuts.get_samples(),
        "GHMC, as a NumPyro kernel": by_walk.get_samples(),
        "GHMC, the fast road": {k: v.reshape(-1, *v.shape[2:]) for k, v in fast.x.items()},
    }
    for name, sites in roads.items():
        print(f"{name:<26} gain {np.mean(sites['gain']):.3f} +- {np.std(sites['gain']):.3f}")
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
    for axis, (name, sites) in zip(axes, roads.items(), strict=False):
        axis.plot(*x[:1_500].T, ".", color="0.8", ms=2, label="samples of x")
        axis.plot(*np.asarray(sites["y"][:1_000]).T, ".", ms=2, label="y given the data")
        axis.plot(*np.asarray(sites["x"][:1_000]).T, ".", ms=2, label="their jumps")
        axis.plot(*seen, "k*", label="what was seen")
        axis.set(title=name, aspect="equal", xlabel="first coordinate")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    axes[0].set_ylabel("second coordinate")
    for name, sites in roads.items():
        axes[3].hist(sites["gain"], 60, density=True, histtype="step", label=name)
    axes[3].set(title="the gain", xlabel="gain", ylabel="density")
    axes[3].legend(fontsize="x-small")
    figure.savefig(options.out, dpi=120)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
