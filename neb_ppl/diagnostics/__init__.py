"""Diagnostics: ArviZ's objects, a verdict in plain words, mixing over classes."""

from neb_ppl.diagnostics.arviz import effective_sample_size, rhat, to_arviz
from neb_ppl.diagnostics.health import Diagnosis, Finding, diagnose, stuck_chains
from neb_ppl.diagnostics.mixing import ClassMixing, class_mixing

__all__ = [
    "ClassMixing",
    "Diagnosis",
    "Finding",
    "class_mixing",
    "diagnose",
    "effective_sample_size",
    "rhat",
    "stuck_chains",
    "to_arviz",
]
