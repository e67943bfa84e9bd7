"""i-spheres: where the noise concentrates, how far digits lie apart, and when spheres overlap."""

import jax
import numpy as np
from matplotlib.figure import Figure

import neb_ppl as neb
from neb_ppl.geometry import (
    chi,
    critical_sigma,
    median_chi,
    overlap_graph,
    sphere_radius,
    sphere_thickness,
)
from tests.benchmarks.kept import Kept

COUNT = 3_000
SIGMAS = np.round(np.linspace(0.05, 0.35, 13), 3)


def measure(kept: Kept) -> dict[str, dict]:
    """Both data sets."""
    return {
        "MNIST": kept.row("spheres", "MNIST", lambda: of_data(kept.mnist("train").x)),
        "digits": kept.row("spheres", "digits", lambda: of_data(neb.data.digits("train").x)),
    }


def of_data(x: np.ndarray) -> dict:
    """Chi, sigma_c, parts of the overlap graph, norms of the noise at sigma = .3."""
    rng = np.random.default_rng(0)
    some = x[rng.choice(len(x), min(COUNT, len(x)), replace=False)]
    above = np.asarray(chi(some))[np.triu_indices(len(some), 1)]
    graphs = [overlap_graph(some, float(sigma)) for sigma in SIGMAS]
    noise = 0.3 * np.asarray(jax.random.normal(jax.random.key(0), (2_000, x[0].size)))
    norms = np.linalg.norm(noise, axis=1)
    return {
        "points": len(some),
        "median_chi": median_chi(some),
        "critical_sigma": critical_sigma(some),
        "connecting_sigma": graphs[0].connecting_sigma,
        "norm_mean": float(norms.mean()),
        "norm_deviation": float(norms.std(ddof=1)),
        "radius": float(sphere_radius(0.3, x[0].size)),
        "thickness": sphere_thickness(0.3, x[0].size),
        "chi_quantiles": np.quantile(above, np.linspace(0, 1, 101)).tolist(),
        "parts": [graph.num_components for graph in graphs],
        "overlaps": [float(graph.degree.mean() / (len(some) - 1)) for graph in graphs],
    }


def draw(found: dict[str, dict]) -> Figure:
    """Chi's distribution; overlaps and parts against sigma."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name, row in found.items():
        line = left.plot(row["chi_quantiles"], np.linspace(0, 1, 101), label=name)[0]
        left.axvline(row["critical_sigma"], color=line.get_color(), ls=":")
        middle.plot(SIGMAS, row["overlaps"], "o-", ms=3, label=name)
        right.plot(SIGMAS, np.array(row["parts"]) / row["points"], "o-", ms=3, label=name)
    left.set(xlabel="chi of a pair", ylabel="share of pairs below", title="dotted: critical sigma")
    middle.set(xlabel="sigma", ylabel="share of pairs", title="spheres that overlap")
    right.set(xlabel="sigma", ylabel="parts a point", yscale="log", title="parts of the graph")
    for axis in (left, middle, right):
        axis.legend(fontsize=8)
    return figure
