"""The parts of the figures that need neither MNIST nor training."""

import json

import numpy as np
import pytest

from tests.benchmarks.papers import imaginary
from tests.benchmarks.papers.kept import Kept


def rows_of(divergence: np.ndarray) -> list[dict]:
    return [
        {"sigma": sigma, "divergence": float(kl)}
        for sigma, kl in zip(imaginary.LEVELS, divergence, strict=True)
    ]


def test_a_row_is_computed_once_and_outlives_the_run(tmp_path):
    calls = []
    for _ in range(2):
        kept = Kept(tmp_path, None)
        row = kept.row("figure", "a", lambda: {"number": len(calls), "x": calls.append(1)})
    assert calls == [1]
    assert row["number"] == 0
    assert set(json.loads((tmp_path / "figure.json").read_text())["rows"]) == {"a"}


def test_a_row_that_failed_is_not_kept(tmp_path):
    kept = Kept(tmp_path, None)
    with pytest.raises(ZeroDivisionError):
        kept.row("figure", "a", lambda: {"number": 1 / 0})
    assert kept.row("figure", "a", lambda: {"number": 2})["number"] == 2


def test_the_fit_knows_a_power_law():
    sigma = np.array(imaginary.LEVELS)
    linear = {"divergence": (3.0 - np.log(sigma)).tolist()}
    laws = imaginary.fitted_laws(rows_of(5.0 * sigma**-1.3), linear)
    assert laws["nu"] == pytest.approx(1.3)
    assert laws["rms_power"] < 1e-12 < laws["rms_linear"]


def test_the_fit_knows_the_linear_law():
    law = 8.0 * np.log(3.0 / np.array(imaginary.LEVELS))
    laws = imaginary.fitted_laws(rows_of(law), {"divergence": law.tolist()})
    assert laws["rms_linear_as_it_is"] < 1e-12 < laws["rms_power"]


def test_the_exponents_standard_error_holds():
    """Of 400 fits with errors of 10 %, 2 standard errors hold 92 % (t with 8 degrees)."""
    rng, sigma = np.random.default_rng(0), np.array(imaginary.LEVELS)
    linear, held = {"divergence": np.ones(len(sigma)).tolist()}, 0
    for _ in range(400):
        noisy = 5.0 * sigma**-1.0 * np.exp(0.1 * rng.standard_normal(len(sigma)))
        laws = imaginary.fitted_laws(rows_of(noisy), linear)
        held += abs(laws["nu"] - 1.0) < 2 * laws["standard_error"]
    # The standard error of the share is 1.3 %: four of them.
    assert abs(held / 400 - 0.920) < 0.052
