"""Learn the energy of a smoothed density, walk on it, jump back to clean space.

``diagnostics``, ``memory``, ``numpyro``, ``plots`` and ``robust`` load at first use, for what they
import.
"""

import importlib
from typing import TYPE_CHECKING, Any

from neb_ppl import data, errors, inverse
from neb_ppl.checkpoints import describe_energy, load_energy, save_energy
from neb_ppl.energies import (
    MLP,
    VAE,
    ConvexEnergy,
    DataScale,
    GaussianMixtureEnergy,
    KernelDensityEnergy,
    LinearVAE,
    NeuralEnergy,
    NeuralScore,
    NoiseConditionalEnergy,
    SmoothedEnergy,
    SmoothedScore,
    UNet,
    VariationalEnergy,
    convex,
    data_scale,
    deen,
    from_denoiser,
    from_energy,
    from_score,
    gaussian_mixture,
    kernel_density,
    noise_conditional,
    score_network,
    uvb,
)
from neb_ppl.estimators import (
    bayes_estimator,
    jump_noise,
    mean_jump,
    posterior_covariance,
    smooth,
    smoothed_energies,
    stochastic_jump,
)
from neb_ppl.geometry import critical_sigma, suggest_sigma
from neb_ppl.inverse import posterior_energy
from neb_ppl.sampling import (
    SampleResult,
    WalkState,
    sample,
    walk_jump,
)
from neb_ppl.training import (
    ContrastiveLoss,
    DenoisingLoss,
    ELBOLoss,
    History,
    SURELoss,
    TrainState,
    denoising_loss,
    fit,
    refine,
)
from neb_ppl.walks import (
    GHMC,
    HMC,
    MALA,
    MCLMC,
    NUTS,
    ULA,
    BlackJAXWalk,
    KineticLangevin,
    Preconditioned,
    Walk,
    start_at_data,
    start_at_noise,
)

if TYPE_CHECKING:
    from neb_ppl import diagnostics, memory, numpyro, plots, robust

__version__ = "0.1.0"

__all__ = [
    "GHMC",
    "HMC",
    "MALA",
    "MCLMC",
    "MLP",
    "NUTS",
    "ULA",
    "VAE",
    "BlackJAXWalk",
    "ContrastiveLoss",
    "ConvexEnergy",
    "DataScale",
    "DenoisingLoss",
    "ELBOLoss",
    "GaussianMixtureEnergy",
    "History",
    "KernelDensityEnergy",
    "KineticLangevin",
    "LinearVAE",
    "NeuralEnergy",
    "NeuralScore",
    "NoiseConditionalEnergy",
    "Preconditioned",
    "SURELoss",
    "SampleResult",
    "SmoothedEnergy",
    "SmoothedScore",
    "TrainState",
    "UNet",
    "VariationalEnergy",
    "Walk",
    "WalkState",
    "bayes_estimator",
    "convex",
    "critical_sigma",
    "data",
    "data_scale",
    "deen",
    "denoising_loss",
    "describe_energy",
    "diagnostics",
    "errors",
    "fit",
    "from_denoiser",
    "from_energy",
    "from_score",
    "gaussian_mixture",
    "inverse",
    "jump_noise",
    "kernel_density",
    "load_energy",
    "mean_jump",
    "memory",
    "noise_conditional",
    "numpyro",
    "plots",
    "posterior_covariance",
    "posterior_energy",
    "refine",
    "robust",
    "sample",
    "save_energy",
    "score_network",
    "smooth",
    "smoothed_energies",
    "start_at_data",
    "start_at_noise",
    "stochastic_jump",
    "suggest_sigma",
    "uvb",
    "walk_jump",
]


def __getattr__(name: str) -> Any:
    if name in ("diagnostics", "memory", "numpyro", "plots", "robust"):
        return importlib.import_module(f"neb_ppl.{name}")
    raise AttributeError(f"module 'neb_ppl' has no attribute {name!r}")
