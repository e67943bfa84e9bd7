"""The plugin: learned densities in NumPyro models, walks as kernels, models as potentials."""

from neb_ppl.numpyro.clean import CleanVariable, sample_clean
from neb_ppl.numpyro.distributions import SmoothedDensity, energy_factor
from neb_ppl.numpyro.kernels import WalkKernel, WalkKernelState, from_mcmc
from neb_ppl.numpyro.models import (
    ModelPotential,
    init_at_smoothed,
    model_potential,
    sample_model,
)

__all__ = [
    "CleanVariable",
    "ModelPotential",
    "SmoothedDensity",
    "WalkKernel",
    "WalkKernelState",
    "energy_factor",
    "from_mcmc",
    "init_at_smoothed",
    "model_potential",
    "sample_clean",
    "sample_model",
]
