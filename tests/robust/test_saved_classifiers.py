"""Classifiers on disk: the same votes again, and files that are refused."""

import jax
import numpy as np
import pytest
from test_checkpoints import rewrite

import neb_ppl as neb
from neb_ppl._verified import _digest
from neb_ppl.errors import CheckpointError, InvalidArgumentError
from neb_ppl.robust import (
    ConvClassifier,
    LinearClassifier,
    fit_classifier,
    load_classifier,
    save_classifier,
    smoothed_classifier,
)

DIGITS = neb.data.digits("test")
X, LABELS = DIGITS.x[:60], DIGITS.labels[:60]
ENERGY = neb.kernel_density(X, 0.5)
NETWORKS = {"linear": LinearClassifier(), "convolutional": ConvClassifier(widths=(4, 8), hidden=8)}


def trained(network, energy):
    sigma = 0.5 if energy is None else None
    return fit_classifier(
        jax.random.key(0), NETWORKS[network], X, LABELS, energy, sigma=sigma, num_steps=5,
        progress_bar=False,
    )  # fmt: skip


@pytest.mark.parametrize("energy", [None, ENERGY], ids=["noisy copies", "jumps"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_votes_again(network, energy, tmp_path):
    smoothed = trained(network, energy)
    again = load_classifier(save_classifier(tmp_path / "a.safetensors", smoothed), energy)
    assert again.classifier.network == NETWORKS[network] and float(again.sigma) == 0.5
    votes = [each.votes(jax.random.key(1), X[:3], 50, progress_bar=False)[0]
             for each in (smoothed, again)]  # fmt: skip
    np.testing.assert_array_equal(*votes)


@pytest.fixture(scope="module")
def linear():
    return trained("linear", None)


def test_refused(tmp_path, linear):
    path = save_classifier(tmp_path / "a.safetensors", linear)
    with pytest.raises(CheckpointError, match="exists already"):
        save_classifier(path, linear)
    with pytest.raises(CheckpointError, match="leave the energy out"):
        load_classifier(path, ENERGY)
    with pytest.raises(CheckpointError, match="holds a 'Classifier'; expected one of NeuralEnergy"):
        neb.load_energy(path)
    jumps = save_classifier(tmp_path / "b.safetensors", trained("linear", ENERGY))
    with pytest.raises(CheckpointError, match="pass the energy of those jumps"):
        load_classifier(jumps)
    with pytest.raises(InvalidArgumentError, match="the energy's 0.4"):
        load_classifier(jumps, ENERGY.at(0.4))
    with pytest.raises(InvalidArgumentError, match="Functions are not saved"):
        save_classifier(tmp_path / "c", smoothed_classifier(lambda x: x[0], sigma=0.5))
    energy = neb.save_energy(tmp_path / "d", neb.deen(jax.random.key(0), (8, 8), 0.5))
    with pytest.raises(CheckpointError, match="holds a 'NeuralEnergy'; expected one of Classifier"):
        load_classifier(energy)
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="damaged or was altered"):
        load_classifier(path)
    for call in (load_classifier, lambda x: save_classifier(x, linear)):
        with pytest.raises(InvalidArgumentError, match="path must name a file"):
            call(3)


def spoil(manifest, arrays, name="weights.dense.bias"):
    arrays[name] = np.full_like(arrays[name], np.nan)
    manifest["arrays"][name]["sha256"] = _digest(arrays[name])


FORGERIES = {
    "no votes": (lambda m, a: m.pop("votes_on"), "votes on None; expected one of"),
    "no sigma": (lambda m, a: m.pop("sigma"), "sigma must be positive; .* has None"),
    "bad sigma": (lambda m, a: m.update(sigma=-0.5), "sigma must be positive; .* has -0.5"),
    "an energy's": (lambda m, a: m["architecture"].update(name="mlp"), "architecture 'mlp'"),
    "no architecture": (lambda m, a: m.pop("architecture"), "unknown architecture None"),
    "no shape": (lambda m, a: m.update(event_shape=[8, -8]), r"event_shape \[8, -8\]"),
    "shape": (lambda m, a: m.update(event_shape=[9, 8]), "does not match its architecture"),
    "missing": (
        lambda m, a: (a.pop("weights.dense.bias"), m["arrays"].pop("weights.dense.bias")),
        "weights.dense.bias: expected .* found nothing",
    ),
    "no name": (lambda m, a: m["architecture"].update(name=["linear"]), r"architecture \['linear"),
    "no kind": (lambda m, a: m.update(kind=["Classifier"]), r"holds a \['Classifier'\]"),
    "another's shape": (
        lambda m, a: m.update(
            event_shape=[64],
            architecture={
                "name": "convolutional",
                "fields": {"classes": 10, "widths": [4, 8], "hidden": 8},
            },
        ),
        "impossible architecture",
    ),
    "not finite": (spoil, "not finite in weights.dense.bias"),
    "no scale": (lambda m, a: spoil(m, a, "scale.high"), "not finite in scale.high"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_consistent_forgery_is_refused(forgery, tmp_path, linear):
    alter, message = FORGERIES[forgery]
    path = save_classifier(tmp_path / "a.safetensors", linear)
    rewrite(path, alter)
    with pytest.raises(CheckpointError, match=message):
        load_classifier(path)
