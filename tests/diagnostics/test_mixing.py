"""Class mixing on chains whose classes are known."""

import numpy as np
import pytest

from neb_ppl.diagnostics import class_mixing
from neb_ppl.errors import InvalidArgumentError


def independent(chains=4, draws=600, classes=5, seed=0):
    return np.random.default_rng(seed).integers(0, classes, (chains, draws))


def test_independent_labels_mix():
    mixing = class_mixing(independent())
    assert mixing.ok
    assert (mixing.num_visited == 5).all()
    assert mixing.changes_per_1000 == pytest.approx(800, abs=4 * 1000 * np.sqrt(0.16 / 2400))
    assert (np.abs(mixing.frequencies - 0.2) < 5 * mixing.standard_errors).all()
    assert mixing.total_variation < 0.05
    assert mixing.rhat.max() < 1.02


def test_a_chain_that_misses_classes_is_said():
    labels = independent()
    labels[2] = 1
    mixing = class_mixing(labels)
    assert not mixing.ok
    assert "1 of 4 chains miss classes (the worst visits 1 of 5)" in str(mixing)
    assert "larger sigma" in str(mixing)


def test_chains_in_classes_of_their_own_have_a_large_rhat():
    labels = np.repeat(np.arange(4)[:, None], 100, axis=1)
    labels[:, ::10] = 0
    assert np.nanmax(class_mixing(labels).rhat) > 1.5


def test_the_reference_is_the_data():
    reference = np.array([0, 0, 0, 1])
    mixing = class_mixing(np.zeros((2, 10), int), reference)
    assert mixing.total_variation == pytest.approx(0.25)
    assert not mixing.ok


@pytest.mark.parametrize("labels", [np.zeros((2, 3)), np.zeros(3, int), -np.ones((2, 3), int)])
def test_bad_labels(labels):
    with pytest.raises(InvalidArgumentError, match="labels must"):
        class_mixing(labels)


def test_standard_errors_of_sticky_chains():
    """Two classes, kept with probability .9: over 300 runs, z-scores have deviation 1 +- .2.

    The standard error of a deviation of 300 is .04; errors by draws would make it 3, doubled .5.
    """
    random = np.random.default_rng(0)
    z = []
    for _ in range(300):
        flips = random.random((4, 400)) < 0.1
        first = random.integers(0, 2, (4, 1))
        labels = (first + np.cumsum(flips, axis=1)) % 2
        mixing = class_mixing(labels)
        z.append((mixing.frequencies[0] - 0.5) / mixing.standard_errors[0])
    assert 0.8 < np.std(z) < 1.2


def test_chains_that_visit_all_and_disagree_are_not_ok():
    random = np.random.default_rng(0)
    shares = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.5, 0.5]])
    labels = np.stack([random.choice(2, 500, p=share) for share in shares])
    mixing = class_mixing(labels)
    assert (mixing.visits > 0).all()
    assert not mixing.ok
    assert "disagree" in str(mixing)


def test_the_variation_that_noise_leaves():
    """Independent draws: the mean of the total variation over 200 runs is the expected one."""
    random = np.random.default_rng(0)
    runs = [class_mixing(random.integers(0, 5, (4, 250))) for _ in range(200)]
    measured = np.mean([run.total_variation for run in runs])
    expected = np.mean([run.expected_variation for run in runs])
    assert measured == pytest.approx(expected, rel=0.1)
