"""Errors on held-out data against the curvature: right energies pass, spoiled ones are seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gates.oracles import mixture
from scipy.stats import norm

import neb_ppl as neb
from neb_ppl.errors import InvalidArgumentError, NotAnEnergyError
from neb_ppl.estimators import jump_variances
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


@pytest.mark.parametrize("amplitude", [0.6, 0.9])
def test_curvature_that_is_right_only_on_average_is_seen(amplitude):
    """Variances that go up and down by 60 or 90 % along y, around the exact ones, with the exact
    estimator: no factor tells, the share that intervals hold does (.87 and .80, known by sums)."""
    gain, wave = 1 / (1 + SIGMA**2), 300.0
    bent = amplitude * gain / SIGMA**2

    def energy(y):
        return 0.5 * gain * jnp.sum(y**2) - bent * jnp.sum(jnp.cos(wave * y)) / wave**2

    x = np.random.default_rng(0).normal(size=(4_000, D)).astype(np.float32)
    wrong = neb.from_energy(energy, SIGMA, event_shape=(D,))
    seen = check_second_moment(jax.random.key(1), wrong, x)
    phases = 2 * np.pi * (np.arange(1_000) + 0.5) / 1_000
    held = 2 * norm.cdf(1.645 * np.sqrt(1 - amplitude * np.cos(phases))) - 1
    assert abs(seen.coverage - held.mean()) < 4 * seen.coverage_error
    assert seen.factor_ok and not seen.coverage_ok and not seen.ok
    assert "no factor mends it" in str(seen)


@pytest.mark.parametrize("size", [2, 130])
def test_negative_curvature_is_judged_as_jumps_draw_it(size):
    """C of eigenvalues 1.5 and -.5 sigma^2 in pairs of entries: of half of sigma^2 each on the
    diagonal, .75 in jumps, whose negative parts count as 0. Beyond 128 entries by Lanczos."""
    pair = np.array([[0.5, -1.0], [-1.0, 0.5]]) / SIGMA**2
    bent = jnp.asarray(np.kron(np.eye(size // 2), pair))
    energy = neb.from_energy(lambda y: y @ bent @ y / 2, SIGMA, event_shape=(size,))
    index = jnp.arange(2)
    drawn, own = jump_variances(energy, jnp.ones(size), index)
    np.testing.assert_allclose(drawn / SIGMA**2, 0.75, rtol=1e-4)
    np.testing.assert_allclose(own / SIGMA**2, 0.5, rtol=1e-4)
    keys = jax.random.split(jax.random.key(0), 4_000)
    noise = jax.vmap(lambda key: neb.jump_noise(key, energy, jnp.ones(size)).noise[:2])(keys)
    assert np.abs(noise.var(0) / drawn - 1).max() < 5 * np.sqrt(2 / 4_000)


def test_a_few_entries_of_many_are_seen_and_mended():
    """4 of 64 deviations are half of what they should be: pooled, 2 % and nothing to see."""
    energy = neb.gaussian_mixture([1.0], np.zeros((1, 64)), [1.0], SIGMA)
    x = energy.sample_clean(jax.random.key(0), (2_000,))
    factor = np.where(np.arange(64) < 4, 0.5, 1.0)
    factor[3] = 1e-3  # hardly any variance, and large errors
    seen = check_second_moment(jax.random.key(1), recalibrated(energy, factor), x)
    assert seen.factor_ok and not seen.ok and "4 entries" in str(seen)
    assert list(np.flatnonzero(seen.entries_off)) == [0, 1, 2, 3]
    np.testing.assert_allclose(seen.per_entry[:4], 1 / factor[:4], rtol=0.2)
    mended = recalibrated(energy, factor * seen.per_entry)
    assert check_second_moment(jax.random.key(2), mended, x).ok


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
    assert "covariance given y is recalibrated" in posterior.explain().exactness


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
        (
            lambda: check_second_moment(
                jax.random.key(0),
                neb.from_energy(lambda y: 5 * jnp.sum(y**2) / SIGMA**2, SIGMA, event_shape=(D,)),
                X[:9],
            ),
            InvalidArgumentError, "no variance",
        ),
        *(
            (
                lambda closure=closure: check_second_moment(
                    jax.random.key(0),
                    posterior_energy(ENERGY, gaussian(identity((D,)), np.zeros(D), 1.0), closure),
                    X,
                ),
                InvalidArgumentError, "Take its prior",
            )
            for closure in ("split", "moment")
        ),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
