"""The README's code runs as it stands, and the README keeps its promises of size."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_twelve_lines_run(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(compile(block, str(README), "exec"), names)
    result, more, idata = names["result"], names["more"], names["idata"]
    assert result.y.shape == result.x.shape == (8, 500, 2)
    assert more.state.num_drawn == 1_000
    assert idata["posterior"]["x"].shape == (8, 500, 2)
    assert "chain" in capsys.readouterr().out
    assert len([line for line in block.splitlines() if line.strip()]) <= 12


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
