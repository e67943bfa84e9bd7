"""Pictures. Every function returns a matplotlib Figure and touches no global state."""

from neb_ppl.plots.calibration import coverage_curve, rank_ecdf, rank_histogram, tarp_curve
from neb_ppl.plots.images import film_strip, image_rows
from neb_ppl.plots.posterior import posterior_maps
from neb_ppl.plots.systems import certified_accuracy, memory_tiles
from neb_ppl.plots.training import sphere_overlap, training_curve
from neb_ppl.plots.walks import class_visits, energy_trace, trace_and_rank

__all__ = [
    "certified_accuracy",
    "class_visits",
    "coverage_curve",
    "energy_trace",
    "film_strip",
    "image_rows",
    "memory_tiles",
    "posterior_maps",
    "rank_ecdf",
    "rank_histogram",
    "sphere_overlap",
    "tarp_curve",
    "trace_and_rank",
    "training_curve",
]
