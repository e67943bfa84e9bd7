"""Classifiers on disk: the same votes again, and files that are refused."""

import jax
import numpy as np
import pytest

import neb_ppl as neb
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


def test_refused(tmp_path):
    path = save_classifier(tmp_path / "a.safetensors", trained("linear", None))
    with pytest.raises(CheckpointError, match="exists already"):
        save_classifier(path, trained("linear", None))
    with pytest.raises(CheckpointError, match="leave the energy out"):
        load_classifier(path, ENERGY)
    with pytest.raises(CheckpointError, match="unknown kind of energy: 'Classifier'"):
        neb.load_energy(path)
    jumps = save_classifier(tmp_path / "b.safetensors", trained("linear", ENERGY))
    with pytest.raises(CheckpointError, match="pass the energy of those jumps"):
        load_classifier(jumps)
    with pytest.raises(InvalidArgumentError, match="the energy's 0.4"):
        load_classifier(jumps, ENERGY.at(0.4))
    with pytest.raises(InvalidArgumentError, match="Functions are not saved"):
        save_classifier(tmp_path / "c", smoothed_classifier(lambda x: x[0], sigma=0.5))
    energy = neb.save_energy(tmp_path / "d", neb.deen(jax.random.key(0), (8, 8), 0.5))
    with pytest.raises(CheckpointError, match="holds no classifier, but a 'NeuralEnergy'"):
        load_classifier(energy)
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError):
        load_classifier(path)
