"""The benchmarks run. No timing is asserted: see docs/numbers.md for what they measure."""

import numpy as np
import pytest

from tests.benchmarks import overhead


@pytest.mark.benchmark
def test_the_overhead_benchmark_runs(monkeypatch):
    monkeypatch.setattr(overhead, "SIZES", {"digits": ((4, 4), overhead.neb.MLP(8, 1), 20)})
    rows = overhead.overheads([2], rounds=1)
    assert len(rows) == len(overhead.WALKS)
    assert all(np.isfinite(row["ratio"]) for row in rows)
