"""``neb-ppl restore``, on independent normal numbers: their posterior is known."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from test_cli import call

import neb_ppl as neb
from neb_ppl.restore import (
    Restored,
    RestoreSettings,
    blur_kernel,
    forward_operator,
    restore_events,
    restored_picture,
)

TAU = 0.5
SEEN = np.array([[[1.0, -2.0], [0.5, 0.0]], [[-1.0, 0.3], [np.nan, 2.0]]], np.float32)
KEEP = np.array([[True, True], [False, True]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Levels of the normal density of 2 x 2 numbers, learned by the command line."""
    folder = tmp_path_factory.mktemp("restore")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(4_000, 2, 2)))
    done = call(
        "train", folder / "x.npy", "--sigma-range", 0.1, 3, "--steps", 300, "--no-progress",
        "--out", folder / "energy.safetensors",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    np.save(folder / "seen.npy", SEEN)
    np.save(folder / "mask.npy", KEEP)
    np.save(folder / "one.npy", SEEN[0])
    np.savez(folder / "mean.npz", mean=np.float32([[1.0]]), other=SEEN)
    return folder


def restore(folder, source, *options):
    """The arrays that were saved, and what was printed."""
    done = call(
        "restore", folder / "energy.safetensors", folder / source, folder / "out.npz",
        "--noise-scale", TAU, "--chains", 8, "--no-progress", "--overwrite", *options,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with np.load(folder / "out.npz") as saved:
        return dict(saved), done.output


def test_a_range_of_levels_is_trained_and_described(folder):
    energy = neb.load_energy(folder / "energy.safetensors")
    assert isinstance(energy, neb.NoiseConditionalEnergy)
    np.testing.assert_allclose(energy.sigma_range, (0.1, 3.0), rtol=1e-6)
    done = call("info", folder / "energy.safetensors")
    assert done.exit_code == 0 and "[0.1" in done.output


def test_inpainting_is_the_posterior(folder):
    found, told = restore(
        folder, "seen.npy", "--mask", folder / "mask.npy", "--picture", folder / "rows.png"
    )
    mean = np.where(KEEP, np.nan_to_num(SEEN) / (1 + TAU**2), 0.0)
    sd = np.where(KEEP, TAU / (1 + TAU**2) ** 0.5, 1.0)
    error = np.sqrt(sd**2 / 256)
    assert np.all(np.abs(found["mean"] - mean) < 0.1 + 4 * error)
    assert np.all(np.abs(found["sd"] / sd - 1) < 0.2)
    assert found["draws"].shape == (2, 256, 2, 2)
    assert found["sigma"] == pytest.approx(0.45)
    inside = (found["draws"] >= found["lower"][:, None]) & (
        found["draws"] <= found["upper"][:, None]
    )
    np.testing.assert_allclose(inside.mean(axis=1), 0.9, atol=0.02)
    for words in ("split", "event 1: largest R-hat", "event 2: largest R-hat"):
        assert words in told
    assert "PROBLEM" not in told and "note" not in told
    assert (found["rhat"] < 1.05).all() and (found["ess"] > 100).all()
    assert (folder / "rows.png").stat().st_size > 5_000


@pytest.mark.slow
def test_upsampling_one_event(folder):
    """The mean of four numbers: of all directions of x one is seen."""
    found, _ = restore(folder, "mean.npz", "--key", "mean", "--downsample", 2)
    assert found["mean"].shape == (1, 2, 2)
    average = found["draws"].mean(axis=(2, 3))
    assert abs(average.mean() - 0.5) < 0.12
    assert abs(average.std() / np.sqrt(1 / 8) - 1) < 0.2
    assert np.all(np.abs(found["sd"] / np.sqrt(1 - 1 / 8) - 1) < 0.2)


@pytest.mark.parametrize("width", [0.4, 1.0, 2.5])
def test_the_blur_is_that_of_scipy(width):
    x = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    operator = forward_operator(RestoreSettings(1.0, blur=width), (6, 9))
    np.testing.assert_allclose(operator(x), gaussian_filter(x, width, mode="wrap"), atol=1e-5)


def test_channels_are_not_blurred_together():
    x = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
    operator = forward_operator(RestoreSettings(1.0, blur=1.0), (4, 4, 2))
    each = [gaussian_filter(x[..., i], 1.0, mode="wrap") for i in range(2)]
    np.testing.assert_allclose(operator(x), np.stack(each, axis=-1), atol=1e-5)
    assert blur_kernel(1.0, (4, 4, 2)).shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seen.npy", "out.txt"], "must end in .npz"),
        (["seen.npy", "seen.npz", "--picture", "rows.jpg"], "must end in .png"),
        (["seen.npy", "taken.npz"], "taken.npz exists already"),
        (["seen.npy", "new.npz"], "NaN"),
        (["missing.npy", "new.npz"], "missing.npy"),
        (["mean.npz", "new.npz"], "one of its keys: ['mean', 'other']"),
        (["wide.npy", "new.npz"], "expected (2, 2)"),
        (["one.npy", "new.npz", "--downsample", 2], "expected (1, 1), as one event was seen"),
        (["one.npy", "new.npz", "--downsample", 3], "factor must divide"),
        (["one.npy", "new.npz", "--blur", -1], "blur must be a positive width"),
        (["one.npy", "new.npz", "--blur", 1, "--downsample", 2], "got blur and downsample"),
        (["one.npy", "new.npz", "--mask", "wide.npy"], "mask has shape (2, 3)"),
        (["one.npy", "new.npz", "--mask", "one.npy"], "mask must hold True (1)"),
        (["one.npy", "new.npz", "--closure", "magic"], "closure must be 'auto' or one of"),
        (["one.npy", "new.npz", "--sigma", 9], "trained range"),
        (["one.npy", "new.npz", "--level", 1], "level must be a number between 0 and 1"),
        (["one.npy", "new.npz", "--level", 0.999], "need at least 1999 draws"),
        (["one.npy", "new.npz", "--draws", 9_999], "16 chains of 128 samples have 2048"),
        (["one.npy", "new.npz", "--chains", 0], "num_chains must be"),
        (["one.npy", "new.npz", "--noise-scale", -1], "noise_scale must be a positive"),
        (["bytes.npy", "new.npz"], "dtype uint8"),
    ],
)
def test_bad_input_is_one_line_before_any_walk(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    np.save("wide.npy", np.zeros((2, 3), np.float32))
    np.save("bytes.npy", np.zeros((1, 2, 2), np.uint8))
    np.savez("taken.npz", a=np.zeros(1))
    monkeypatch.setattr(
        sys.modules["neb_ppl.inverse.solve"], "annealed_start", lambda *_, **__: pytest.fail("ran")
    )
    noise = [] if "--noise-scale" in arguments else ["--noise-scale", TAU]
    done = call("restore", "energy.safetensors", *arguments, *noise, "--no-progress")
    assert done.exit_code == 2, done.output
    assert "error:" in done.output and message in done.output
    assert not (folder / "new.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sigma", 0.5, "--sigma-range", 0.1, 1], "not both"),
        (["--sigma-range", 1, 0.1], "sigma_range must increase"),
        (["--sigma-range", 0.1, 1, "--refine-steps", 5], "--refine-steps is for one noise level"),
    ],
)
def test_train_says_what_is_wrong_with_a_range(folder, options, message):
    done = call("train", folder / "x.npy", *options, "--no-progress", "--out", folder / "no")
    assert done.exit_code == 2 and message in done.output


def test_data_on_another_scale_warn_and_hidden_numbers_do_not(folder, monkeypatch):
    class Asked(Exception):
        pass

    def solve(*_, **__):
        raise Asked

    energy = neb.load_energy(folder / "energy.safetensors")
    monkeypatch.setattr("neb_ppl.restore.solve", solve)
    large = np.where(KEEP, 0.0, 1e6).astype(np.float32)
    with pytest.raises(Asked):
        restore_events(energy, large, RestoreSettings(TAU, keep=KEEP))
    with pytest.warns(neb.errors.DataRangeWarning), pytest.raises(Asked):
        restore_events(energy, large, RestoreSettings(TAU))


def test_a_walk_that_was_interrupted_is_no_posterior(folder, monkeypatch):
    early = SimpleNamespace(walk=SimpleNamespace(is_complete=False))
    monkeypatch.setattr("neb_ppl.restore.solve", lambda *_, **__: early)
    energy = neb.load_energy(folder / "energy.safetensors")
    with pytest.raises(KeyboardInterrupt):
        restore_events(energy, SEEN[0], RestoreSettings(TAU))


def test_a_picture_is_of_images():
    flat = np.zeros((1, 3))
    restored = Restored(flat, flat, flat, flat, np.zeros((1, 4, 3)), np.ones(1), np.ones(1), 0.1)
    with pytest.raises(neb.errors.InvalidArgumentError, match="two axes"):
        restored_picture(flat, restored, RestoreSettings(1.0))
