"""Data at hand: images, toys, files, and the checks that every array passes before training."""

from neb_ppl.data.arrays import load_array
from neb_ppl.data.checks import check_data, drop_nonfinite, warn_outside_range
from neb_ppl.data.idx import read_idx
from neb_ppl.data.images import Labelled, digits, fashion_mnist, mnist
from neb_ppl.data.toys import (
    MixtureParameters,
    eight_gaussians,
    rings,
    skewed_mixture,
    skewed_mixture_samples,
    two_moons,
)

__all__ = [
    "Labelled",
    "MixtureParameters",
    "check_data",
    "digits",
    "drop_nonfinite",
    "eight_gaussians",
    "fashion_mnist",
    "load_array",
    "mnist",
    "read_idx",
    "rings",
    "skewed_mixture",
    "skewed_mixture_samples",
    "two_moons",
    "warn_outside_range",
]
