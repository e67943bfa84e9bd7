"""The README's code runs as it stands, and the README keeps its promises of size."""

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


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
    assert 0 < y[:, 0].mean() < 1


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
