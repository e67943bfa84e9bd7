"""Walks: MCMC on y. Every walk is a BlackJAX `SamplingAlgorithm` once it has its target."""

from neb_ppl.walks.base import Walk
from neb_ppl.walks.blackjax import GHMC, HMC, MALA, MCLMC, NUTS, BlackJAXWalk
from neb_ppl.walks.langevin import ULA, KineticLangevin

__all__ = ["GHMC", "HMC", "MALA", "MCLMC", "NUTS", "ULA", "BlackJAXWalk", "KineticLangevin", "Walk"]
