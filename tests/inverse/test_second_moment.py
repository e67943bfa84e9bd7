"""Errors on held-out data against the curvature: right energies pass, spoiled ones are seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture

import neb_ppl as neb
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.inverse import check_second_moment, gaussian, identity, posterior_energy, recalibrated

SIGMA, D = 0.4, 6
ENERGY = mixture(D, SIGMA)
X = ENERGY.sample_clean(jax.random.key(0), (4_000,))


def test_an_exact_energy_passes():
    """The factor is 1 within 4 standard errors, whose size a second half of the data confirms."""
    seen = check_second_moment(jax.random.key(1), ENERGY, X)
    assert seen.ok and seen.num_negative == 0 and "may be trusted" in str(seen)
    assert abs(seen.factor - 1) < 4 * seen.standard_error < 0.05
    np.testing.assert_allclose(seen.per_entry, 1, atol=0.15)
    halves = [check_second_moment(jax.random.key(2), ENERGY, x) for x in jnp.split(X, 8)]
    spread = np.std([half.factor for half in halves], ddof=1)
    assert 0.4 < spread / halves[0].standard_error < 2.5


def test_few_events_decide_nothing():
    seen = check_second_moment(jax.random.key(1), ENERGY, X[:4])
    assert not seen.decided and not seen.ok and "UNDECIDED" in str(seen)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_another_sigma_is_seen(factor):
    """An energy that believes in other noise than there is: its estimator and spread are off."""
    wrong = dataclasses.replace(ENERGY, eigenvalues=ENERGY.eigenvalues * factor**2)
    seen = check_second_moment(jax.random.key(1), wrong, X)
    assert not seen.ok and "PROBLEM" in str(seen)
    assert (seen.factor < 1) == (factor > 1)


def test_entries_are_drawn_from_large_events():
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 20, 20)), [0.5], SIGMA)
    x = energy.sample_clean(jax.random.key(0), (50,))
    seen = check_second_moment(jax.random.key(1), energy, x, entries_per_event=4)
    assert seen.num_errors == 200 and seen.per_entry.shape == (20, 20)
    assert np.isnan(seen.per_entry).any() and abs(seen.factor - 1) < 5 * seen.standard_error


def test_recalibrated_jumps_spread_as_asked():
    """20,000 jumps from one y: deviations times the factor, abs z < 5; posteriors use them."""
    factor = np.linspace(0.5, 2.0, D)
    y = X[0] + 0.1
    observation = gaussian(identity((D,)), np.zeros(D), 1.0)
    posterior = posterior_energy(ENERGY, observation, recalibration=factor)
    wanted = np.asarray(neb.posterior_covariance(ENERGY, y)) * np.outer(factor, factor)
    keys = jax.random.split(jax.random.key(0), 20_000)
    error = np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / 20_000)
    for energy in (recalibrated(ENERGY, factor), posterior):
        x = jax.vmap(neb.stochastic_jump, (0, None, None))(keys, energy, y)
        assert (np.abs(np.cov(np.asarray(x).T) - wanted) < 5 * error).all()
    assert recalibrated(ENERGY, factor)(y) == ENERGY(y)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: recalibrated(ENERGY, 0.0), InvalidArgumentError, "positive"),
        (lambda: recalibrated(ENERGY, np.full(D, np.nan)), InvalidArgumentError, "NaN"),
        (lambda: recalibrated(ENERGY, np.ones(3)), InvalidArgumentError, "(3,)"),
        (
            lambda: posterior_energy(
                ENERGY, gaussian(identity((D,)), np.zeros(D), 1.0), "moment", recalibration=1.1
            ),
            InvalidArgumentError, "does not use",
        ),
        (
            lambda: check_second_moment(
                jax.random.key(0), neb.from_score(ENERGY.score, SIGMA, event_shape=(D,)), X
            ),
            NotAnEnergyError, "symmetric",
        ),
        (lambda: check_second_moment(jax.random.key(0), ENERGY, X[:1]), InvalidArgumentError, "2"),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
