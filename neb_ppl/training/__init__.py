"""Learning an energy from clean data."""

from neb_ppl.training.loop import default_optimizer, fit
from neb_ppl.training.losses import denoising_loss
from neb_ppl.training.state import History, TrainState

__all__ = ["History", "TrainState", "default_optimizer", "denoising_loss", "fit"]
