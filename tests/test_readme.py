"""The code in README and docs runs as it stands, and the README keeps its promises of size."""

import re
from pathlib import Path

import numpy as np

HOME = Path(__file__).parent.parent
README = HOME / "README.md"


def test_the_code_runs(capsys):
    first, second = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(compile(first, str(README), "exec"), names)
    result, more, idata = names["result"], names["more"], names["idata"]
    assert result.y.shape == result.x.shape == (8, 500, 2)
    assert more.state.num_drawn == 1_000
    assert more.settings["steps_per_jump"] == 10
    assert idata["posterior"]["x"].shape == (8, 500, 2)
    assert "chain" in capsys.readouterr().out
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    exec(compile(second, str(README), "exec"), names)
    y = np.asarray(names["mcmc"].get_samples()["y"])
    assert y.shape == (500, 2) and np.isfinite(y).all()
    assert names["posterior"].x["gain"].shape == (16, 1_000)
    means = [
        sites["y"][..., 0].mean() for sites in (names["mcmc"].get_samples(), names["posterior"].x)
    ]
    assert abs(means[0] - means[1]) < 0.2


def test_the_page_on_numpyro_runs():
    page = HOME / "docs" / "numpyro.md"
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    assert np.isfinite(names["draws_of_x"]).all()


def test_the_page_on_inverse_problems_runs():
    page = HOME / "docs" / "inverse.md"
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    assert names["result"].mean.shape == (8, 8)
    assert abs(names["particles"].log_evidence - names["exact"].log_evidence) < 0.5
    assert np.isfinite(names["draws_of_x"]).all()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
