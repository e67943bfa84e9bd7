"""Training that dies goes on from its file, exactly."""

import os
import signal
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb
from neb_ppl.errors import CheckpointError, CheckpointWriteError
from neb_ppl.training import loop

X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
ENERGY = neb.deen(jax.random.key(0), (3,), 0.5, network=neb.MLP(hidden=16, blocks=1))
OPTIONS = {"num_steps": 90, "batch_size": 32, "validate_every": 20, "progress_bar": False}


def train(checkpoint=None, key=1, **options):
    return neb.fit(
        jax.random.key(key), ENERGY, options.pop("x", X), checkpoint=checkpoint,
        **(OPTIONS | options),
    )  # fmt: skip


def equal(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(jnp.array_equal, a.weights, b.weights)))


KILLED = """
    import os, signal, sys
    import jax, numpy as np
    import neb_ppl as neb
    from tests.training.test_saved import train

    def die(step, model, history):
        if step == 60:
            os.kill(os.getpid(), signal.SIGKILL)

    train(sys.argv[1], callbacks=[die])
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """Row 12: killed as soon as the state of step 60 is written."""
    file = tmp_path / "run.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(file)],
        env=os.environ | {"PYTHONPATH": os.getcwd()}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    whole, recorded = train()
    rest, history = train(file)
    assert len(history.loss) == 30
    assert np.array_equal(history.loss, recorded.loss[60:])
    assert equal(whole, rest)
    assert history.best_risk == recorded.best_risk


def test_a_finished_run_is_only_read(tmp_path):
    first, _ = train(tmp_path / "run")
    again, history = train(tmp_path / "run")
    assert len(history.loss) == 0
    assert equal(first, again)


def test_refinement_keeps_its_chains(tmp_path):
    """Stopped by a callback and gone on: the same as in one go."""
    options = {"num_steps": 40, "validate_every": 20, "progress_bar": False, "batch_size": 16}
    loss = neb.ContrastiveLoss(num_chains=8)
    whole, _ = neb.refine(jax.random.key(1), ENERGY, X, loss=loss, **options)
    stop = [lambda step, model, history: step == 20]
    file = tmp_path / "run"
    neb.refine(jax.random.key(1), ENERGY, X, loss=loss, checkpoint=file, callbacks=stop, **options)
    rest, _ = neb.refine(jax.random.key(1), ENERGY, X, loss=loss, checkpoint=file, **options)
    assert equal(whole, rest)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_steps": 100}, "num_steps: expected 100, found 90"),
        ({"learning_rate": 1e-2}, "learning_rate"),
        ({"key": 2}, "rng_key"),
        ({"x": X + 1}, "data"),
    ],
)
def test_another_call_is_refused(tmp_path, change, told):
    train(tmp_path / "run")
    with pytest.raises(CheckpointError, match=told):
        train(tmp_path / "run", **change)


def test_another_network_is_refused(tmp_path):
    train(tmp_path / "run")
    other = neb.deen(jax.random.key(0), (3,), 0.5, network=neb.MLP(hidden=8, blocks=1))
    with pytest.raises(CheckpointError, match=r"model\.weights"):
        neb.fit(jax.random.key(1), other, X, checkpoint=tmp_path / "run", **OPTIONS)


def test_a_folder_that_is_not_there_is_noticed_before_training(tmp_path):
    with pytest.raises(CheckpointWriteError, match="could not write"):
        train(tmp_path / "none" / "run", callbacks=[lambda *_: pytest.fail("trained first")])


def test_a_damaged_file_is_refused(tmp_path):
    train(tmp_path / "run")
    content = bytearray((tmp_path / "run").read_bytes())
    content[-10] ^= 1
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(CheckpointError, match="altered"):
        train(tmp_path / "run")


def test_an_energy_file_is_no_state(tmp_path):
    neb.save_energy(tmp_path / "run", ENERGY)
    with pytest.raises(CheckpointError, match="no training state"):
        train(tmp_path / "run")


def test_an_interrupt_keeps_what_was_learned(tmp_path, interrupt_at_second_call):
    """Row 24: a real Ctrl-C in the midst of a chunk, whose buffers are taken over."""
    whole, _ = train()
    interrupt_at_second_call(loop, "_train_chunk")
    _, history = train(tmp_path / "run")
    assert "interrupted at step" in history.stopped
    assert 0 < len(history.loss) < 90
    in_memory, _ = train(state=history.state)
    on_disk, _ = train(tmp_path / "run")
    assert equal(whole, in_memory)
    assert equal(whole, on_disk)
