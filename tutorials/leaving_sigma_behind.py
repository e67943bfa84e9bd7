"""What is left of sigma? Posterior means and deviations of x, against the exact ones.

A walk is on a smoothed density, and data are of the clean x. What stands for their likelihood
decides how the error falls with sigma: as sigma^2 where it is the likelihood of y (`direct`,
`inflated`) or of the jump (`plugin`); as sigma^4 (`isotropic`) and sigma^6 (`moment`) where x given
y is taken for Gaussian. `split` is exact at every sigma below its bound.

Sigma becomes small by a smaller sigma, or by measurements, the upper axis of the picture: m of them
at one sigma say what one at sigma / sqrt(m) says (`neb_ppl.inverse.all_at_once`).

The prior is a mixture of Gaussians in two dimensions, so that the posterior is known. Sums over a
grid of y stand for the walk, so that no sampling error hides a bias.

    python tutorials/leaving_sigma_behind.py --out leaving_sigma_behind.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb

SIGMAS = 0.4 / 2 ** (np.arange(8) / 2)
ORDERS = {"direct": 2, "inflated": 2, "plugin": 2, "isotropic": 4, "moment": 6, "split": None}
NOISE = 0.5
FLOOR = 1e-15


def problem() -> tuple[neb.GaussianMixtureEnergy, neb.inverse.Observation]:
    """Three clusters of points, and one look along a slanted line."""
    means = jnp.array([[-1.0, 0.0], [0.6, 0.8], [0.8, -0.9]])
    covariances = jnp.array([[[0.3, 0.2], [0.2, 0.4]], [[0.2, 0.0], [0.0, 0.1]], 0.2 * jnp.eye(2)])
    prior = neb.gaussian_mixture(jnp.array([0.4, 0.3, 0.3]), means, covariances, SIGMAS[0])
    operator = neb.inverse.from_matrix(jnp.array([[0.9, 0.4]]), (2,))
    return prior, neb.inverse.gaussian(operator, jnp.array([0.3]), NOISE)


@jax.jit
def energies(posterior, y):
    """Of every point."""
    return jax.vmap(posterior)(y)


@jax.jit
def jumps(posterior, y):
    """From every point."""
    return jax.vmap(lambda point: neb.bayes_estimator(posterior, point))(y)


@jax.jit
def spreads(prior, y):
    """Variances of x given every point."""
    return jax.vmap(lambda point: jnp.diag(neb.posterior_covariance(prior, point)))(y)


def moments(posterior, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviations of x that endless draws would have."""
    energy = np.asarray(energies(posterior, y))
    weights = np.exp(energy.min() - energy)
    weights /= weights.sum()
    x = np.asarray(jumps(posterior, y))
    mean = weights @ x
    variance = weights @ (x - mean) ** 2
    if posterior.closure in ("split", "inflated"):
        variance += weights @ np.asarray(spreads(posterior.prior, y))
    elif posterior.closure in ("moment", "isotropic"):
        # Walks on the smoothed posterior know it: Cov(x | o) = Cov(y | o) - sigma^2 I.
        variance = weights @ (y - weights @ y) ** 2 - float(posterior.sigma) ** 2
    return mean, np.sqrt(variance)


def error(mean, sd, exact) -> list[float]:
    """Largest errors of mean and deviation, in units of the exact deviation."""
    true_mean = np.asarray(exact.mean())
    true_sd = np.sqrt(np.diag(exact.covariance()) - float(exact.sigma) ** 2)
    return [np.abs((mean - true_mean) / true_sd).max(), np.abs(sd / true_sd - 1).max()]


def on_the_grid(prior, observation, exact) -> dict[str, np.ndarray]:
    """Errors of every closure, shape (sigmas, 2)."""
    line = np.linspace(-5, 5, 201)
    y = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    found = {}
    for closure in ORDERS:
        rows = []
        for sigma in SIGMAS:
            posterior = neb.posterior_energy(prior.at(sigma), observation, closure)
            rows.append(error(*moments(posterior, y), exact))
        found[closure] = np.array(rows)
    return found


def main() -> None:
    """A table, and a picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="leaving_sigma_behind.png")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)  # errors of order sigma^6 are below float32
    prior, observation = problem()
    exact = neb.inverse.exact_posterior(prior, observation).density
    found = on_the_grid(prior, observation, exact)
    print(f"{'':<10} {'mean':>9} {'sd':>9}  errors at sigma = {SIGMAS[-1]:.3g}, and their orders")
    for closure, rows in found.items():
        orders = np.log2(np.maximum(rows[-3], FLOOR) / np.maximum(rows[-1], FLOOR))
        told = "" if closure == "split" else f"  {orders[0]:.1f}, {orders[1]:.1f}"
        print(f"{closure:<10} {rows[-1, 0]:>9.1e} {rows[-1, 1]:>9.1e}{told}")

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for column, (axis, name) in enumerate(zip(axes, ("mean", "standard deviation"), strict=True)):
        for closure, rows in found.items():
            label = f"{closure}, order {ORDERS[closure]}" if ORDERS[closure] else "split, exact"
            above = {"ls": "--", "zorder": 3} if closure == "direct" else {}  # it equals plugin
            shown = np.maximum(rows[:, column], FLOOR)
            axis.loglog(SIGMAS, shown, marker="o", ms=3, label=label, **above)
        axis.set(title=f"posterior {name} of x", xlabel="sigma")
        axis.set_xticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"])
        axis.minorticks_off()
        top = axis.secondary_xaxis("top", functions=(as_measurements, as_sigma))
        top.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        top.minorticks_off()
        top.set_xlabel(f"measurements at sigma = {SIGMAS[0]}", fontsize="small")
    axes[0].set_ylabel("largest error, in exact sd")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(options.out, dpi=120)
    print(f"Look at {options.out}.")


def as_measurements(sigma):
    """How many measurements at the largest sigma are worth one at this."""
    return (SIGMAS[0] / np.maximum(sigma, 1e-9)) ** 2


def as_sigma(measurements):
    """The other way round."""
    return SIGMAS[0] / np.sqrt(np.maximum(measurements, 1e-9))


if __name__ == "__main__":
    main()
