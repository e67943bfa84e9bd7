"""Scores and distances against closed forms; they are unbiased for any number of draws."""

import math

import numpy as np
import pytest
from scipy import stats

import neb_ppl as neb
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError


def gaussian_crps(truth):
    """Of N(0, 1)."""
    return truth * (2 * stats.norm.cdf(truth) - 1) + 2 * stats.norm.pdf(truth) - np.pi**-0.5


def z_score(values, expected):
    return (np.mean(values) - expected) / (np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("num_draws", [2, 7])
def test_crps_has_the_closed_form_as_its_mean(num_draws):
    """20,000 sets of few draws each; means over pairs with themselves would read .56 / L more."""
    truth = np.array([-1.0, 0.0, 2.5])
    draws = np.random.default_rng(0).normal(size=(num_draws, 20_000, 3))
    scores = neb.diagnostics.crps(draws, np.broadcast_to(truth, (20_000, 3)))
    assert scores.shape == (20_000, 3)
    for column, value in zip(scores.T, truth, strict=True):
        assert abs(z_score(column, gaussian_crps(value))) < 4.5
        assert abs(z_score(column + 0.56 / num_draws, gaussian_crps(value))) > 10


def test_energy_score_has_the_closed_form_as_its_mean():
    r"""At the centre of N(0, I_5): (sqrt 2 - 1) Gamma(3) / Gamma(5 / 2)."""
    random = np.random.default_rng(0)
    scores = [
        neb.diagnostics.energy_score(random.normal(size=(6, 5)), np.zeros(5)) for _ in range(2_000)
    ]
    expected = (math.sqrt(2) - 1) * math.gamma(3) / math.gamma(2.5)
    assert abs(z_score(scores, expected)) < 4.5


def test_energy_score_in_one_dimension_is_crps():
    random = np.random.default_rng(0)
    draws, truth = random.normal(size=(50, 1)) + 1e4, np.array([1e4 + 0.3])
    expected = neb.diagnostics.crps(draws, truth)[0]
    assert neb.diagnostics.energy_score(draws, truth) == pytest.approx(expected, rel=1e-9)


def test_energy_score_prefers_the_right_dependence():
    """Correlation -.9 instead of .9: each number's CRPS is the same, the energy score is not."""
    random = np.random.default_rng(0)
    root = np.linalg.cholesky(np.array([[1, 0.9], [0.9, 1]]))
    differences = []
    for _ in range(300):
        truth, draws = root @ random.normal(size=2), random.normal(size=(50, 2)) @ root.T
        wrong = draws * [1, -1]
        differences.append(
            neb.diagnostics.energy_score(wrong, truth) - neb.diagnostics.energy_score(draws, truth)
        )
    assert z_score(differences, 0.0) > 5


def shifted_distance(shift):
    """Of N(0, 1) and N(shift, 1)."""
    folded = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    return 2 * folded - 4 / math.sqrt(math.pi)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_energy_distance_has_the_closed_form_as_its_mean(shift):
    """Its error is that of the replicates, or, of equal laws, up to twice as large."""
    random = np.random.default_rng(0)
    found = [
        neb.diagnostics.energy_distance(
            random.normal(size=(60, 1)), random.normal(size=(40, 1)) + shift
        )
        for _ in range(1_000)
    ]
    values = np.array([one.value for one in found])
    assert abs(z_score(values, shifted_distance(shift))) < 4.5
    error = np.sqrt(np.mean([one.standard_error**2 for one in found]))
    low, high = (1.0, 2.0) if shift == 0 else (0.9, 1.2)
    assert low < error / values.std() < high


def test_blocks_and_pytrees_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(50, 3)), random.normal(size=(70, 3))
    whole = neb.diagnostics.energy_distance(x, y)
    monkeypatch.setattr("neb_ppl.diagnostics.scores.BLOCK_NUMBERS", 200)
    assert neb.diagnostics.energy_distance(x, y) == pytest.approx(whole, rel=1e-12)
    split = ({"a": x[:, 0], "b": x[:, 1:]}, {"a": y[:, 0], "b": y[:, 1:]})
    assert neb.diagnostics.energy_distance(*split) == pytest.approx(whole, rel=1e-12)


def test_bad_draws():
    with pytest.raises(InvalidArgumentError, match="at least 2"):
        neb.diagnostics.crps(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(EventShapeError, match=r"shape \(draws, 3\)"):
        neb.diagnostics.energy_score(np.zeros((5, 2)), np.zeros(3))
    with pytest.raises(NonFiniteDataError, match="got 15 of 15"):
        neb.diagnostics.energy_score(np.full((5, 3), np.nan), np.zeros(3))
    with pytest.raises(InvalidArgumentError, match="second must hold at least 3 draws; got 2"):
        neb.diagnostics.energy_distance(np.zeros((5, 3)), np.zeros((2, 3)))
    with pytest.raises(EventShapeError, match="events of one size"):
        neb.diagnostics.energy_distance(np.zeros((5, 3)), np.zeros((5, 2)))
    with pytest.raises(NonFiniteDataError, match="first must be finite"):
        neb.diagnostics.energy_distance(np.full((5, 3), np.inf), np.zeros((5, 3)))
