"""Energies of smoothed densities: exact, learned, and somebody else's."""

from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore
from neb_ppl.energies.foreign import (
    ForeignEnergy,
    ForeignScore,
    from_denoiser,
    from_energy,
    from_score,
)
from neb_ppl.energies.kde import KernelDensityEnergy, kernel_density
from neb_ppl.energies.mixture import GaussianMixtureEnergy, gaussian_mixture
from neb_ppl.energies.networks import MLP, Network, UNet
from neb_ppl.energies.neural import (
    NeuralEnergy,
    NoiseConditionalEnergy,
    deen,
    noise_conditional,
)
from neb_ppl.energies.scale import DataScale, data_scale

__all__ = [
    "MLP",
    "DataScale",
    "ForeignEnergy",
    "ForeignScore",
    "GaussianMixtureEnergy",
    "KernelDensityEnergy",
    "Network",
    "NeuralEnergy",
    "NoiseConditionalEnergy",
    "SmoothedEnergy",
    "SmoothedScore",
    "UNet",
    "data_scale",
    "deen",
    "from_denoiser",
    "from_energy",
    "from_score",
    "gaussian_mixture",
    "kernel_density",
    "noise_conditional",
]
