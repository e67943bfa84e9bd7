"""Learn the energy of a smoothed density, walk on it, jump back to clean space.

``diagnostics``, ``numpyro`` and ``plots`` load at first use: their hosts cost seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

from neb_ppl import data, errors, inverse
from neb_ppl.checkpoints import describe_energy, load_energy, save_energy
from neb_ppl.energies import (
    MLP,
    DataScale,
    GaussianMixtureEnergy,
    KernelDensityEnergy,
    NeuralEnergy,
    NoiseConditionalEnergy,
    SmoothedEnergy,
    SmoothedScore,
    UNet,
    data_scale,
    deen,
    from_denoiser,
    from_energy,
    from_score,
    gaussian_mixture,
    kernel_density,
    noise_conditional,
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
    from neb_ppl import diagnostics, numpyro, plots

__version__ = "0.1.0"

__all__ = [
    "GHMC",
    "HMC",
    "MALA",
    "MCLMC",
    "MLP",
    "NUTS",
    "ULA",
    "BlackJAXWalk",
    "ContrastiveLoss",
    "DataScale",
    "DenoisingLoss",
    "GaussianMixtureEnergy",
    "History",
    "KernelDensityEnergy",
    "KineticLangevin",
    "NeuralEnergy",
    "NoiseConditionalEnergy",
    "Preconditioned",
    "SURELoss",
    "SampleResult",
    "SmoothedEnergy",
    "SmoothedScore",
    "TrainState",
    "UNet",
    "Walk",
    "WalkState",
    "bayes_estimator",
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
    "noise_conditional",
    "numpyro",
    "plots",
    "posterior_covariance",
    "posterior_energy",
    "refine",
    "sample",
    "save_energy",
    "smooth",
    "smoothed_energies",
    "start_at_data",
    "start_at_noise",
    "stochastic_jump",
    "suggest_sigma",
    "walk_jump",
]


def __getattr__(name: str) -> Any:
    if name in ("diagnostics", "numpyro", "plots"):
        return importlib.import_module(f"neb_ppl.{name}")
    raise AttributeError(f"module 'neb_ppl' has no attribute {name!r}")
