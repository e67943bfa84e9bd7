"""G7: posteriors of posteriordb through our walks, against its reference draws.

Means and second moments of every reference quantity, abs z < 5 with the errors of both sides (at
most 36 comparisons a case: 2e-5); R-hat < 1.01 and 400 effective draws, as Stan asks for.
"""

import jax
import numpy as np
import pytest
from gates.posteriordb import case, eight_schools

import neb_ppl as neb
from neb_ppl.diagnostics import effective_sample_size, rhat
from neb_ppl.numpyro import sample_model

WALKS = {"NUTS": (neb.NUTS(), 1), "MALA": (neb.MALA(), 20), "GHMC": (neb.GHMC(), 20)}


def draws(model, args, walk):
    kernel, steps = WALKS[walk] if isinstance(walk, str) else walk
    return sample_model(
        jax.random.key(0), model, kernel, args=args, num_chains=16, steps_per_jump=steps,
        progress_bar=False,
    ).x  # fmt: skip


def columns(sites, names):
    """Draws (chains, draws, quantities), their squares after them."""
    flat = [np.asarray(sites[n], np.float64).reshape(*sites[n].shape[:2], -1) for n in names]
    flat = np.concatenate(flat, axis=2)
    return np.concatenate([flat, flat**2], axis=2)


def z_scores(ours, reference):
    a, b = (columns(sites, reference) for sites in (ours, reference))
    error = [c.std(axis=(0, 1)) / np.sqrt(effective_sample_size(c)) for c in (a, b)]
    return (a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) / np.hypot(*error)


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", ["eight_schools", "earnings", "mesquite"])
def test_reference_draws(name, walk):
    model, args, reference = case(name)
    ours = draws(model, args, walk)
    assert np.abs(z_scores(ours, reference)).max() < 5
    seen = columns(ours, reference)
    assert rhat(seen).max() < 1.01
    assert effective_sample_size(seen).min() >= 400


def test_mutants():
    """A wrong prior scale, variances read as deviations, and a step too long without a test."""
    _, (y, sigma), reference = case("eight_schools")

    def wide(y, sigma):
        eight_schools(y, sigma, tau_scale=50.0)

    for model, args, walk in (
        (wide, (y, sigma), "GHMC"),
        (eight_schools, (y, sigma**2), "GHMC"),
        (eight_schools, (y, sigma), (neb.KineticLangevin(0.7), 20)),
    ):
        assert np.abs(z_scores(draws(model, args, walk), reference)).max() > 8
