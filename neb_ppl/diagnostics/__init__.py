"""Diagnostics: ArviZ's objects, verdicts in plain words, mixing, calibration, scores."""

from neb_ppl.diagnostics.arviz import effective_sample_size, rhat, to_arviz
from neb_ppl.diagnostics.calibration import Calibration, judge_ranks
from neb_ppl.diagnostics.coverage import Coverage, coverage
from neb_ppl.diagnostics.health import Diagnosis, Finding, diagnose, stuck_chains
from neb_ppl.diagnostics.latents import LatentReport, latent_report
from neb_ppl.diagnostics.mixing import ClassMixing, class_mixing
from neb_ppl.diagnostics.ranks import RankBand, rank_band, rank_p_values, truth_ranks
from neb_ppl.diagnostics.scores import EnergyDistance, crps, energy_distance, energy_score
from neb_ppl.diagnostics.simulations import calibrate
from neb_ppl.diagnostics.symmetry import Asymmetry, Circulation, asymmetry, circulation
from neb_ppl.diagnostics.tarp import Tarp, tarp

__all__ = [
    "Asymmetry",
    "Calibration",
    "Circulation",
    "ClassMixing",
    "Coverage",
    "Diagnosis",
    "EnergyDistance",
    "Finding",
    "LatentReport",
    "RankBand",
    "Tarp",
    "asymmetry",
    "calibrate",
    "circulation",
    "class_mixing",
    "coverage",
    "crps",
    "diagnose",
    "effective_sample_size",
    "energy_distance",
    "energy_score",
    "judge_ranks",
    "latent_report",
    "rank_band",
    "rank_p_values",
    "rhat",
    "stuck_chains",
    "tarp",
    "to_arviz",
    "truth_ranks",
]
