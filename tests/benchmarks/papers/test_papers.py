"""The parts of the figures that need neither MNIST nor training."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from tests.benchmarks.kept import Kept
from tests.benchmarks.papers import imaginary, scores, symmetric


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


def test_a_symmetric_network_of_two_hidden_layers_and_two_features():
    """It exists where layers do not mix features, and mixing them costs symmetry in proportion."""
    none, little, more = (symmetric.blocks(mixing) for mixing in (0.0, 0.01, 0.1))
    assert none["asymmetry of bends"] < 1e-6 and 0.5 <= none["share"] < 0.55
    grown = more["asymmetry of bends"] / little["asymmetry of bends"]
    assert grown == pytest.approx(10, rel=0.05)


def test_parallel_weights_have_share_one():
    psi = lambda y: jnp.array([1.0, -2.0, 0.5]) * jnp.tanh(jnp.array([1.0, -2.0, 0.5]) @ y)  # noqa: E731
    found = symmetric.bends(psi, jax.random.normal(jax.random.key(0), (50, 3)))
    assert found["share"] == pytest.approx(1) and found["asymmetry of bends"] < 1e-6


def test_the_penalty_is_that_of_the_whole_jacobian():
    """Signs in two dimensions: ``|(J - J^T) v|^2 = |J - J^T|_F^2`` for every v."""
    model = neb.score_network(jax.random.key(0), (2,), 0.5, network=symmetric.Plain((8, 8)))
    x = jax.random.normal(jax.random.key(1), (64, 2))
    loss = symmetric.SymmetricLoss(jnp.asarray(2.0))
    key = jax.random.key(2)
    total, stats = loss(key, model, x, None)
    key_risk, key_noise, _ = jax.random.split(key, 3)
    y = neb.smooth(key_noise, x, model.sigma)
    jacobians = jax.vmap(jax.jacfwd(lambda y: neb.bayes_estimator(model, y)))(y)
    whole = jnp.mean(jnp.sum((jacobians - jacobians.mT) ** 2, axis=(1, 2))) / 2
    assert stats["odd"] == pytest.approx(float(whole), rel=1e-4)
    risk = neb.denoising_loss(model, key_risk, x)
    assert total == pytest.approx(float(risk / 0.25 + 2 * whole), rel=1e-4)


def test_the_entropy_production_of_a_turned_score_is_known():
    """Within 4 standard errors and 5 % for the step; none of an energy's; the density stays."""
    row = scores.control(1.0, steps=400, chains=256)
    assert abs(row["entropy"] - row["known"]) < 4 * row["entropy_error"] + 0.05 * row["known"]
    still = scores.walked(scores.plane(), steps=400, chains=256)
    assert abs(still["entropy"]) < 4 * still["entropy_error"] + 1e-3
    assert max(row["distance"], still["distance"]) < 0.15


def test_the_picture_is_drawn():
    pair = {"risk": 0.1, "asymmetry": 0.1, "work": 0.1}
    walk = {"entropy": 0.1, "entropy_error": 0.01, "distance": 0.1, "distance_error": 0.01}
    feature = {
        "asymmetry of bends": 0.1,
        "asymmetry": 0.1,
        "error": 0.1,
        "share": 0.5,
        "second layer": 0.5,
        "bend": 1,
    }
    found = {
        "kinds": dict.fromkeys(
            scores.STEPS, dict.fromkeys(scores.KINDS, {"before": pair, "after": pair})
        ),
        "exact": pair,
        "corners": feature | {"affine": 0.2},
        "features": {
            name: [
                feature | {"hidden layers": n, "penalty": p, "seed": s}
                for n in (1, 2) for p in penalties for s in range(scores.SEEDS)
            ]
            for name, penalties in symmetric.PENALTIES.items()
        },
        "controls": [walk | {"turn": t, "known": t} for t in (0.0, 0.5)],
        "walks": dict.fromkeys(scores.KINDS, walk),
    }  # fmt: skip
    assert len(scores.draw(found).axes) == 6
