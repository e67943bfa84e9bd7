"""The tutorials run, each to its picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "tutorials"
WITHOUT_DATA = [
    "certified_classification",
    "choosing_sigma",
    "inpainting_with_calibrated_posterior",
    "learned_prior_in_numpyro",
    "leaving_sigma_behind",
    "memories",
    "unknown_noise_scale",
    "uvb_against_deen",
    "walks_against_nuts",
]


def test_none_is_forgotten():
    """Of the others, each says which data it wants."""
    others = {path.stem for path in FOLDER.glob("*.py")} - set(WITHOUT_DATA)
    for name in others:
        assert "Needs" in (FOLDER / f"{name}.py").read_text()


# Most of a minute each, or more; what they call, other tests call too.
LONG = set(WITHOUT_DATA) - {"leaving_sigma_behind"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in WITHOUT_DATA]
)
def test_a_tutorial_draws_its_picture(name, tmp_path):
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--out", str(picture)],
        capture_output=True, text=True, env=os.environ | {"MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    assert picture.stat().st_size > 10_000
