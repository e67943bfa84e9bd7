"""Walks: MCMC on y. Every walk is a BlackJAX `SamplingAlgorithm` once it has its target."""

from neb_ppl.walks.base import Walk
from neb_ppl.walks.blackjax import GHMC, HMC, MALA, MCLMC, NUTS, BlackJAXWalk
from neb_ppl.walks.langevin import ULA, KineticLangevin
from neb_ppl.walks.preconditioned import Preconditioned
from neb_ppl.walks.starts import start_at_data, start_at_noise

__all__ = [
    "GHMC",
    "HMC",
    "MALA",
    "MCLMC",
    "NUTS",
    "ULA",
    "BlackJAXWalk",
    "KineticLangevin",
    "Preconditioned",
    "Walk",
    "start_at_data",
    "start_at_noise",
]
