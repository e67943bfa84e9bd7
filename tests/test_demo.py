"""The demo's promises, at its own settings: minutes long, so slow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb

pytest.importorskip("sklearn", reason="the demo needs scikit-learn")

from neb_ppl.demo import DemoSettings, run_demo


def mean_error(energy) -> float:
    """On held-out digits, over 20 draws of the noise: one draw alone has a deviation of .0003."""
    loss, x = jax.jit(neb.denoising_loss), jnp.asarray(neb.data.digits("test").x)
    return float(np.mean([loss(energy, jax.random.key(i), x) for i in range(20)]))


@pytest.mark.slow
def test_the_demo_denoises_and_mixes(tmp_path):
    report = run_demo(DemoSettings(out=tmp_path, progress_bar=False))
    assert mean_error(neb.load_energy(tmp_path / "energy.safetensors")) <= 0.0145
    assert report.accuracy > 0.97
    assert report.mixing.ok
    assert report.mixing.total_variation < 0.15
    assert report.diagnosis.ok


@pytest.mark.slow
def test_at_half_of_sigma_c_the_mixing_report_says_that_classes_are_missed(tmp_path):
    report = run_demo(DemoSettings(out=tmp_path, fraction=0.5, progress_bar=False))
    assert not report.mixing.ok
    assert "miss classes" in str(report.mixing)
