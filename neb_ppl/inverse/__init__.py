"""Inverse problems: what is seen of x, the posterior's energy, and its matched jump."""

from neb_ppl.inverse.conformal import CalibratedIntervals, calibrate_intervals
from neb_ppl.inverse.exact import ExactPosterior, exact_posterior
from neb_ppl.inverse.imaging import (
    blur,
    downsample,
    fourier,
    gaussian_kernel,
    mask,
    projections,
)
from neb_ppl.inverse.maximum import Maximum, maximum
from neb_ppl.inverse.measurements import Measurements, all_at_once, once_at_a_time
from neb_ppl.inverse.observations import (
    Observation,
    bernoulli,
    gaussian,
    laplace,
    likelihood,
    poisson,
    student_t,
)
from neb_ppl.inverse.operators import (
    LinearOperator,
    check_adjoint,
    from_function,
    from_matrix,
    identity,
    stack,
    weighted,
)
from neb_ppl.inverse.pairs import Explanation, PosteriorEnergy
from neb_ppl.inverse.posterior import posterior_energy, split_bound
from neb_ppl.inverse.recalibrated import recalibrated
from neb_ppl.inverse.result import Bracket, PosteriorResult, posterior_result
from neb_ppl.inverse.second_moment import SecondMoment, check_second_moment
from neb_ppl.inverse.smc import SMCResult, annealed_start, smc
from neb_ppl.inverse.solve import solve

__all__ = [
    "Bracket",
    "CalibratedIntervals",
    "ExactPosterior",
    "Explanation",
    "LinearOperator",
    "Maximum",
    "Measurements",
    "Observation",
    "PosteriorEnergy",
    "PosteriorResult",
    "SMCResult",
    "SecondMoment",
    "all_at_once",
    "annealed_start",
    "bernoulli",
    "blur",
    "calibrate_intervals",
    "check_adjoint",
    "check_second_moment",
    "downsample",
    "exact_posterior",
    "fourier",
    "from_function",
    "from_matrix",
    "gaussian",
    "gaussian_kernel",
    "identity",
    "laplace",
    "likelihood",
    "mask",
    "maximum",
    "once_at_a_time",
    "poisson",
    "posterior_energy",
    "posterior_result",
    "projections",
    "recalibrated",
    "smc",
    "solve",
    "split_bound",
    "stack",
    "student_t",
    "weighted",
]
