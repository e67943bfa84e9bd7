"""The command line, run as a person would, small."""

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import neb_ppl as neb
from neb_ppl.cli import app


def call(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small data file and an energy trained on it by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    np.save(folder / "x.npy", x)
    done = call(
        "train", folder / "x.npy", "--sigma", 0.5, "--steps", 40, "--no-progress",
        "--out", folder / "energy.safetensors",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_info_tells_what_the_file_is(folder):
    done = call("info", folder / "energy.safetensors")
    assert done.exit_code == 0
    for words in ("(3,)", "0.5", "mlp", "every array matches", "validation_risk"):
        assert words in done.output


@pytest.mark.parametrize("walk", ["baoab", "cheng", "ula", "mala"])
def test_walk_writes_draws_and_a_verdict(folder, walk):
    done = call(
        "walk", folder / "energy.safetensors", "--walk", walk, "--chains", 3, "--samples", 9,
        "--warmup", 20, "--no-progress", "--overwrite", "--out", folder / "draws.npz",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with np.load(folder / "draws.npz") as draws:
        assert draws["y"].shape == draws["x"].shape == (3, 9, 3)
        assert draws["lp"].shape == (3, 9)
    assert "chains" in done.output


def test_walk_from_data_to_arviz_with_stochastic_jumps(folder):
    pytest.importorskip("h5netcdf")
    done = call(
        "walk", folder / "energy.safetensors", "--start", folder / "x.npy", "--samples", 9,
        "--jump", "stochastic", "--no-progress", "--out", folder / "draws.nc",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (folder / "draws.nc").stat().st_size > 1_000


def test_denoise_is_the_bayes_estimator(folder):
    done = call("denoise", folder / "energy.safetensors", folder / "x.npy", folder / "out.npy")
    assert done.exit_code == 0, done.output
    model = neb.load_energy(folder / "energy.safetensors")
    y = np.load(folder / "x.npy")
    expected = neb.bayes_estimator(model, y[7])
    assert np.allclose(np.load(folder / "out.npy")[7], expected, atol=1e-5)


def test_data_on_another_scale_warn(folder):
    """Row 5: the most re-broken bug of the nearest imaging library."""
    np.save(folder / "large.npy", 255 * np.load(folder / "x.npy"))
    done = call(
        "denoise", folder / "energy.safetensors", folder / "large.npy", folder / "out.npy",
        "--overwrite",
    )  # fmt: skip
    assert "warning:" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "missing"], "cannot read missing"),
        (["walk", "ENERGY", "--samples", "0", "--out", "new.npz"], "num_samples must be"),
        (["walk", "ENERGY", "--out", "draws.csv"], "must end in .npz or .nc"),
        (["train", "missing.npy", "--out", "new"], "missing.npy"),
        (["train", "x.npy", "--sigma", "-1", "--out", "new"], "sigma must be a positive"),
        (["denoise", "ENERGY", "wide.npy", "new.npy"], "(3,)"),
        (["denoise", "ENERGY", "x.npy", "x.npy"], "x.npy exists already"),
        (["demo", "--out", "."], "holds other files"),
        (["demo", "--data", "mnist", "--data-dir", "nowhere"], "nowhere"),
        (["demo", "--sigma", "0", "--out", "demo"], "sigma must be a positive"),
        (["demo", "--train-steps", "0", "--out", "demo"], "num_steps must be a whole number"),
        (["denoise", "ENERGY", "x.npy", "out.txt"], "must end in .npy"),
        (["info", "[bold]a"], "cannot read [bold]a"),
        (["train", "[/b].npy", "--out", "new"], "[/b].npy"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("NEB_PPL_DATA", raising=False)
    np.save("wide.npy", np.zeros((2, 4), np.float32))
    done = call(*[a if a != "ENERGY" else "energy.safetensors" for a in arguments])
    assert done.exit_code == 2, done.output
    assert "error:" in done.output
    assert message in done.output
    assert "Traceback" not in done.output


def test_debug_lets_the_error_through(folder):
    with pytest.raises(neb.errors.CheckpointError):
        call("--debug", "info", folder / "x.npy")
    assert call("info", folder / "x.npy").exit_code == 2


def test_a_missing_netcdf_engine_is_noticed_before_the_walk(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    monkeypatch.setattr(neb, "sample", lambda *_, **__: pytest.fail("walked first"))
    done = call("walk", folder / "energy.safetensors", "--out", folder / "late.nc")
    assert done.exit_code == 2
    assert "h5netcdf" in done.output


def test_demo_leaves_no_older_draws_beside_new_pictures(tmp_path, monkeypatch):
    from neb_ppl.demo import _save_draws

    old = tmp_path / "draws.nc"
    old.write_bytes(b"of another run")
    monkeypatch.setitem(sys.modules, "h5netcdf", None)
    assert "(no draws.nc)" in _save_draws(old, None)
    assert not old.exists()


@pytest.mark.slow
def test_demo_writes_its_folder(tmp_path):
    """The whole road with little of everything; its numbers are judged in a slow test."""
    done = call(
        "demo", "--out", tmp_path / "demo", "--train-steps", 60, "--samples", 20, "--chains", 3,
        "--no-progress",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    expected = {"rows", "film", "energy", "ranks", "classes", "training", "spheres"}
    assert {f"{name}.png" for name in expected} <= written
    assert {"energy.safetensors", "diagnosis.txt"} <= written
    assert "error, learned energy" in done.output
    assert neb.load_energy(tmp_path / "demo" / "energy.safetensors").event_shape == (8, 8)


def test_train_takes_one_array_of_many(folder):
    x = np.load(folder / "x.npy")
    np.savez(folder / "two.npz", a=x, b=x)
    options = ["--sigma", 0.5, "--steps", 2, "--no-progress", "--out", folder / "two"]
    done = call("train", folder / "two.npz", *options)
    assert done.exit_code == 2 and "keys" in done.output
    assert call("train", folder / "two.npz", "--key", "b", *options).exit_code == 0


def test_train_goes_on_from_its_checkpoint(folder):
    options = ["--sigma", 0.5, "--steps", 30, "--no-progress", "--overwrite"]
    options += ["--checkpoint", folder / "run", "--out", folder / "again"]
    assert call("train", folder / "x.npy", *options).exit_code == 0
    done = call("train", folder / "x.npy", *options)
    assert "30 steps in 0.0 s" in done.output
