"""Learning an energy from clean or noisy data, and refining it where walks go and data are not."""

from neb_ppl.training.contrastive import ContrastiveLoss, default_refinement, refine
from neb_ppl.training.elbo import ELBOLoss, negative_elbo
from neb_ppl.training.loop import default_optimizer, fit
from neb_ppl.training.losses import DenoisingLoss, Loss, denoising_loss
from neb_ppl.training.state import History, TrainState
from neb_ppl.training.sure import SURELoss, sure_loss, sure_risk

__all__ = [
    "ContrastiveLoss",
    "DenoisingLoss",
    "ELBOLoss",
    "History",
    "Loss",
    "SURELoss",
    "TrainState",
    "default_optimizer",
    "default_refinement",
    "denoising_loss",
    "fit",
    "negative_elbo",
    "refine",
    "sure_loss",
    "sure_risk",
]
