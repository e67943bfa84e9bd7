"""Saved energies: exact round trips, and refusal of everything that is not whole."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save

import neb_ppl as neb
from neb_ppl._verified import _sha
from neb_ppl.errors import CheckpointError, CheckpointWriteError, InvalidArgumentError

ENERGY = neb.deen(jax.random.key(0), (3,), 0.4, network=neb.MLP(hidden=8, blocks=1))


@pytest.fixture
def saved(tmp_path):
    return neb.save_energy(tmp_path / "energy.safetensors", ENERGY, extra={"data": "none"})


def rewrite(path, change):
    """The same file with its manifest changed and hashed anew, as an attacker would."""
    payload = path.read_bytes()
    length = int.from_bytes(payload[:8], "little")
    manifest = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["manifest"])
    arrays = dict(load(payload))
    change(manifest, arrays)
    text = json.dumps(manifest, sort_keys=True)
    path.write_bytes(save(arrays, metadata={"manifest": text, "sha256": _sha(text)}))


@pytest.mark.parametrize("shape", [(3,), (8, 8), (16, 16), (16, 16, 3)])
def test_round_trip_is_bit_identical_and_does_not_retrace(tmp_path, shape):
    energy = neb.deen(jax.random.key(1), shape, 0.3)
    loaded = neb.load_energy(neb.save_energy(tmp_path / "e", energy))
    phi = jax.jit(lambda model, y: model(y))
    y = jax.random.normal(jax.random.key(2), shape)
    assert phi(energy, y) == phi(loaded, y)
    assert phi._cache_size() == 1
    assert jax.tree.structure(energy) == jax.tree.structure(loaded)


@pytest.mark.parametrize("network", [neb.VAE(2, hidden=8), neb.LinearVAE(2)])
def test_variational_round_trip(tmp_path, network):
    """With its points: the same function."""
    model = neb.uvb(jax.random.key(0), (3,), 0.4, network=network, num_points=3)
    loaded = neb.load_energy(neb.save_energy(tmp_path / "e", model))
    assert loaded(jnp.ones(3)) == model(jnp.ones(3)) and loaded.network == network


def test_a_trained_score_round_trip(tmp_path):
    """A score that is nobody's gradient: the same bits, its scale, its own kind in the manifest."""
    x = 5 + 2 * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    model = neb.score_network(jax.random.key(0), (3,), 0.4, network=neb.MLP(hidden=8, blocks=1))
    model, _ = neb.fit(jax.random.key(1), model, x, num_steps=2, progress_bar=False)
    path = neb.save_energy(tmp_path / "s", model, extra={"data": "none"})
    loaded = neb.load_energy(path, event_shape=(3,), sigma=0.4)
    y = jnp.ones(3)
    assert isinstance(loaded, neb.NeuralScore) and jax.jit(loaded.score)(y).shape == (3,)
    assert (loaded.score(y) == model.score(y)).all() and loaded.scale.high == x.max()
    assert jax.tree.structure(loaded) == jax.tree.structure(model)
    facts = neb.describe_energy(path)
    assert facts["kind"] == "NeuralScore" and facts["extra"] == {"data": "none"}
    assert facts["architecture"] == {
        "name": "mlp",
        "fields": {"hidden": 8, "blocks": 1, "conditional": False},
    }


def test_a_network_that_no_file_can_name_is_not_saved(tmp_path):
    """It could never be loaded; one of another kind neither."""
    energy = dataclasses.replace(ENERGY, network=neb.VAE(2, hidden=8))
    with pytest.raises(InvalidArgumentError, match=r"mlp, unet; got VAE.*energy\.weights"):
        neb.save_energy(tmp_path / "e", energy)
    assert not list(tmp_path.iterdir())


def test_noise_conditional_round_trip(tmp_path):
    network = neb.MLP(hidden=8, blocks=1, conditional=True)
    model = neb.noise_conditional(jax.random.key(0), (3,), (0.1, 1.0), network=network)
    loaded = neb.load_energy(neb.save_energy(tmp_path / "e", model))
    assert loaded(jnp.ones(3), 0.5) == model(jnp.ones(3), 0.5)


def test_the_scale_is_part_of_the_file(tmp_path):
    x = 100 + 20 * np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    energy, _ = neb.fit(jax.random.key(0), ENERGY, x, num_steps=2, progress_bar=False)
    loaded = neb.load_energy(neb.save_energy(tmp_path / "e", energy))
    assert loaded.scale.shift == energy.scale.shift > 90
    assert loaded.scale.high == x.max()


def test_describe_tells_what_is_in_it(saved):
    manifest = neb.describe_energy(saved)
    assert manifest["kind"] == "NeuralEnergy"
    assert manifest["sigma"] == pytest.approx(0.4)
    assert manifest["architecture"]["fields"]["hidden"] == 8
    assert manifest["extra"] == {"data": "none"}


def test_every_flipped_byte_is_refused(saved):
    """One bit in each of 200 places: header, manifest, arrays, padding of neither."""
    whole = saved.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 200):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        saved.write_bytes(broken)
        with pytest.raises(CheckpointError):
            neb.load_energy(saved)


def test_every_truncation_is_refused(saved):
    whole = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 4, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            neb.load_energy(saved)
    saved.write_bytes(whole + b"\0" * 8)
    with pytest.raises(CheckpointError):
        neb.load_energy(saved)


CHANGES = {
    "version": (lambda m, a: m.update(format=99), "format 99"),
    "kind": (lambda m, a: m.update(kind="os.system"), "holds a 'os.system'; expected one of"),
    "architecture": (lambda m, a: m["architecture"].update(name="eval"), "unknown architecture"),
    "another kind's": (
        lambda m, a: m.update(architecture={"name": "icnn", "fields": {"hidden": 8, "layers": 1}}),
        "unknown architecture 'icnn'; known here: mlp",
    ),
    "field": (lambda m, a: m["architecture"]["fields"].update(hidden="8"), "field hidden must be"),
    "extra field": (lambda m, a: m["architecture"]["fields"].update(x=1), "has fields"),
    "width": (lambda m, a: m["architecture"]["fields"].update(hidden=9), "expected .*9.*found .*8"),
    "shape": (lambda m, a: m.update(event_shape=[4]), "does not match its architecture"),
    "missing": (lambda m, a: a.pop("weights.leave.bias"), "weights.leave.bias"),
    "no architecture": (lambda m, a: m.pop("architecture"), "unknown architecture None"),
    "no shape": (lambda m, a: m.pop("event_shape"), "event_shape None; expected"),
    "no width": (lambda m, a: m["architecture"]["fields"].update(hidden=-8), "impossible"),
    "swapped": (lambda m, a: a.update({"sigma": np.asarray(9.0, np.float32)}), "sigma"),
    "dtype": (lambda m, a: a.update({"sigma": a["sigma"].astype(np.float64)}), "sigma"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_consistent_forgery_is_refused(saved, change):
    alter, message = CHANGES[change]
    rewrite(saved, alter)
    with pytest.raises(CheckpointError, match=message):
        neb.load_energy(saved)


def test_a_name_comes_first():
    for call in (neb.load_energy, neb.describe_energy, lambda x: neb.save_energy(x, ENERGY)):
        with pytest.raises(InvalidArgumentError, match="path must name a file"):
            call(3)


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\0" * 64, b""])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no file of neb_ppl"):
        neb.load_energy(path)
    with pytest.raises(CheckpointError, match="cannot read"):
        neb.load_energy(tmp_path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(save({"a": np.zeros(3, np.float32)}))
    with pytest.raises(CheckpointError, match="no neb_ppl manifest"):
        neb.load_energy(path)


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    weights = dict(ENERGY.weights) | {"leave.bias": jnp.full(3, jnp.nan)}
    broken = dataclasses.replace(ENERGY, weights=weights)
    with pytest.raises(CheckpointError, match=r"never written: weights\.leave\.bias"):
        neb.save_energy(tmp_path / "e", broken)
    assert not list(tmp_path.iterdir())


def test_what_is_asked_for_must_be_what_is_there(saved):
    with pytest.raises(CheckpointError, match=r"events \(3,\); asked for \(4,\)"):
        neb.load_energy(saved, event_shape=(4,))
    with pytest.raises(CheckpointError, match="asked for 0.5"):
        neb.load_energy(saved, sigma=0.5)
    assert neb.load_energy(saved, event_shape=(3,), sigma=0.4).sigma == ENERGY.sigma


def test_an_existing_file_is_kept_unless_asked(saved):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        neb.save_energy(saved, ENERGY)
    assert saved.read_bytes() == before
    neb.save_energy(saved, ENERGY, overwrite=True)


def test_exact_energies_and_bad_facts_are_refused(tmp_path):
    exact = neb.gaussian_mixture([1.0], np.zeros((1, 2)), np.ones(1), 0.3)
    with pytest.raises(InvalidArgumentError, match="only learned energies"):
        neb.save_energy(tmp_path / "e", exact)
    with pytest.raises(CheckpointError, match="plain JSON"):
        neb.save_energy(tmp_path / "e", ENERGY, extra={"f": print})


def test_float64_is_not_narrowed_silently(tmp_path):
    with jax.enable_x64(True):
        wide = neb.deen(jax.random.key(0), (3,), 0.4, network=neb.MLP(hidden=8, blocks=1))
        path = neb.save_energy(tmp_path / "e", wide)
        assert neb.load_energy(path)(jnp.ones(3)) == wide(jnp.ones(3))
    with pytest.raises(CheckpointError, match="float64 and JAX runs in float32"):
        neb.load_energy(path)
    assert neb.load_energy(path, allow_narrowing=True).sigma.dtype == jnp.float32


WRITE = """
    import os, resource, signal, sys
    import jax
    import neb_ppl as neb
    energy = neb.deen(jax.random.key(0), (3,), 0.4, network=neb.MLP(hidden=8, blocks=1))
    neb.save_energy(sys.argv[1] + "-first", energy)
    os.remove(sys.argv[1] + "-first")
    {limit}
    try:
        neb.save_energy(sys.argv[1], energy, overwrite=True)
    except neb.errors.CheckpointWriteError as error:
        print("refused:", error)
"""
FULL = """signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))"""


@pytest.mark.parametrize(
    "limit",
    [
        FULL,
        pytest.param(
            "os.setuid(65534)",
            marks=pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root"),
        ),
    ],
)
def test_a_full_disk_or_read_only_folder_leaves_the_old_file(saved, limit):
    """Rows 16 and 17, in a process of their own."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    saved = folder / shutil.copy(saved, folder)
    before = saved.read_bytes()
    code = textwrap.dedent(WRITE).format(limit=textwrap.dedent(limit.replace("\n    ", "\n")))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(saved)], capture_output=True, text=True
    )
    assert "refused: could not write" in done.stdout, done.stderr
    assert issubclass(CheckpointWriteError, OSError)
    assert saved.read_bytes() == before
    assert list(folder.iterdir()) == [saved]
    shutil.rmtree(folder)
