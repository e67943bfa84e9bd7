"""The learned prior of tier B: one noise-conditional MLP, trained on draws of the exact prior."""

from pathlib import Path

import jax
import numpy as np

import neb_ppl as neb
from tests.benchmarks.inverse.problems import SIDE, digits_prior

__all__ = ["learned_prior"]

SIGMA_RANGE = (0.02, 10.0)
EXAMPLES = 20_000


def learned_prior(cache: Path, num_steps: int = 6_000):
    """The energy, trained once and kept in the folder `cache`."""
    path = cache / "inverse_prior.safetensors"
    if path.exists():
        return neb.load_energy(path)
    x = digits_prior().draw(np.random.default_rng(3), EXAMPLES).reshape(-1, SIDE, SIDE)
    network = neb.MLP(hidden=256, blocks=2, conditional=True)
    energy = neb.noise_conditional(jax.random.key(0), (SIDE, SIDE), SIGMA_RANGE, network=network)
    energy, _ = neb.fit(
        jax.random.key(1), energy, x.astype(np.float32), num_steps=num_steps, progress_bar=False
    )
    cache.mkdir(parents=True, exist_ok=True)
    neb.save_energy(path, energy)
    return energy
