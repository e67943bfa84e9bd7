"""How noisy was the image? The noise scale of the data as a latent beside a learned prior.

Of a digit three quarters of the pixels are seen, with noise of a standard deviation that nobody
knows. Given the smoothed digit y, data have variance noise_scale^2 - sigma^2, exactly, so that NUTS
samples digit and noise scale together; stochastic jumps then turn y into draws of the digit. The
noise scale must lie above sigma, which its prior says.

The prior is one level of a noise-conditional energy. An energy that was learned at this small sigma
alone has wells far from all digits, in which chains that start at noise may all end, and agree.

    python tutorials/unknown_noise_scale.py --out unknown_noise_scale.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.numpyro import SmoothedDensity, sample_clean, sample_model

SIGMA, SCALES, COLOURS = 0.15, (0.25, 0.4, 0.6), ("tab:blue", "tab:orange", "tab:green")
HIDDEN = "#f3e3b3"


def learn() -> neb.NeuralEnergy:
    """The energy of digits under noise of scale .15, learned with those from .05 to 1."""
    network = neb.MLP(hidden=128, blocks=2, conditional=True)
    levels = neb.noise_conditional(jax.random.key(0), (8, 8), (0.05, 1.0), network=network)
    levels, _ = neb.fit(jax.random.key(1), levels, neb.data.digits("train").x, num_steps=2_000)
    return levels.at(SIGMA)


def model(seen, keep, energy):
    """A digit, and the noise scale of what was seen of it."""
    digit = sample_clean("digit", energy)
    low = digit.smallest_noise_scale(keep)
    noise_scale = numpyro.sample("noise_scale", dist.TruncatedNormal(0.0, 1.0, low=low))
    numpyro.sample("seen", digit.observed(noise_scale, keep), obs=seen)


def infer(rng_key, seen, keep, energy) -> tuple[np.ndarray, np.ndarray]:
    """Draws of the digit, and of the noise scale."""
    key_walk, key_jump = jax.random.split(rng_key)
    result = sample_model(key_walk, model, args=(seen, keep, energy), num_chains=8,
                          num_warmup=400, num_samples=300, progress_bar=False)  # fmt: skip
    diagnosis = neb.diagnostics.diagnose(result)
    print(*diagnosis.findings, str(diagnosis).splitlines()[-1], sep="\n")
    y = jnp.asarray(result.x["digit_y"][:, ::10]).reshape(-1, 8, 8)
    return np.asarray(SmoothedDensity(energy).jump(y, key_jump)), result.x["noise_scale"].ravel()


def main() -> None:
    """One digit under three noise scales, each inferred."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="unknown_noise_scale.png")
    options = parser.parse_args()
    energy = learn()
    truth = jnp.asarray(neb.data.digits("test").x[5])
    keep = jnp.asarray(np.random.default_rng(0).random((8, 8)) < 0.75)
    noise = jax.random.normal(jax.random.key(2), truth.shape)

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    rows, axis = left.subplots(3, 4), right.subplots()
    for panel, title in zip(rows[0], ("truth", "seen", "mean", "sd, white is 0.3"), strict=True):
        panel.set_title(title)
    for row, true_scale, colour in zip(rows, SCALES, COLOURS, strict=True):
        seen = truth + true_scale * noise
        digits, scales = infer(jax.random.key(3), seen, keep, energy)
        low, high = np.quantile(scales, [0.05, 0.95])
        lower, upper = np.quantile(digits, [0.05, 0.95], axis=0)
        inside = np.mean((lower <= truth) & (truth <= upper))
        print(
            f"noise scale {true_scale}: mean {scales.mean():.3f}, 90 % in [{low:.3f}, {high:.3f}]; "
            f"90 % intervals hold {inside:.0%} of the pixels"
        )
        shown = truth, np.where(keep, seen, np.nan), digits.mean(axis=0), digits.std(axis=0) / 0.3
        for panel, image in zip(row, shown, strict=True):
            panel.set_facecolor(HIDDEN)
            panel.imshow(image, cmap="gray", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"noise {true_scale}", color=colour)
        axis.hist(scales, 40, density=True, histtype="stepfilled", alpha=0.4, color=colour)
        axis.axvline(true_scale, color=colour, ls="--")
    axis.axvline(SIGMA, color="k", lw=1)
    axis.text(SIGMA - 0.01, 1, "sigma of the prior", ha="right", va="bottom", rotation=90)
    axis.set(xlabel="noise scale; dashed: the true one", ylabel="posterior density", xlim=(0, 1))
    figure.savefig(options.out, dpi=120)
    print(f"Look at {options.out}.")


if __name__ == "__main__":
    main()
