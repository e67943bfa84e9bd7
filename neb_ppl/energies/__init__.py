"""Energies of smoothed densities: exact, learned, and somebody else's."""

from neb_ppl.energies.base import SmoothedEnergy, SmoothedScore
from neb_ppl.energies.convex import ConvexEnergy, convex
from neb_ppl.energies.explicit import NeuralScore, score_network
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
from neb_ppl.energies.variational import VAE, LinearVAE, VariationalEnergy, uvb

__all__ = [
    "MLP",
    "VAE",
    "ConvexEnergy",
    "DataScale",
    "ForeignEnergy",
    "ForeignScore",
    "GaussianMixtureEnergy",
    "KernelDensityEnergy",
    "LinearVAE",
    "Network",
    "NeuralEnergy",
    "NeuralScore",
    "NoiseConditionalEnergy",
    "SmoothedEnergy",
    "SmoothedScore",
    "UNet",
    "VariationalEnergy",
    "convex",
    "data_scale",
    "deen",
    "from_denoiser",
    "from_energy",
    "from_score",
    "gaussian_mixture",
    "kernel_density",
    "noise_conditional",
    "score_network",
    "uvb",
]
