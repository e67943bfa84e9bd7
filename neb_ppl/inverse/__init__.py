"""Inverse problems: what is seen of x, the posterior's energy, and its matched jump."""

from neb_ppl.inverse.imaging import (
    blur,
    downsample,
    fourier,
    gaussian_kernel,
    mask,
    projections,
)
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

__all__ = [
    "Explanation",
    "LinearOperator",
    "Observation",
    "PosteriorEnergy",
    "bernoulli",
    "blur",
    "check_adjoint",
    "downsample",
    "fourier",
    "from_function",
    "from_matrix",
    "gaussian",
    "gaussian_kernel",
    "identity",
    "laplace",
    "likelihood",
    "mask",
    "poisson",
    "posterior_energy",
    "projections",
    "split_bound",
    "stack",
    "student_t",
    "weighted",
]
