"""to_arviz: names, dimensions, attributes, and a round trip through a file, on either major."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neb_ppl as neb

ORACLE = neb.gaussian_mixture([1.0], np.zeros((1, 2, 3)), np.ones(1), 0.5)


@pytest.fixture(scope="module")
def result():
    start = ORACLE.sample(jax.random.key(0), (3,))
    return neb.sample(
        jax.random.key(1), ORACLE, neb.MALA(0.1), start, num_samples=20, progress_bar=False
    )


def test_variables_and_statistics(result):
    idata = neb.diagnostics.to_arviz(result)
    assert idata["posterior"]["y"].dims == ("chain", "draw", "event_0", "event_1")
    assert idata["posterior"]["x"].dims == idata["posterior"]["y"].dims
    assert np.array_equal(idata["posterior"]["y"].values, result.y)
    stats = idata["sample_stats"]
    assert set(stats.data_vars) == {
        "lp", "acceptance_rate", "diverging", "nonfinite", "step_size",
    }  # fmt: skip
    assert float(stats["lp"][0, -1]) == pytest.approx(-float(ORACLE(result.y[0, -1])), rel=1e-5)
    assert "energy" not in stats.data_vars


def test_dims_coords_and_dicts(result):
    names = {"y": ["row", "column"], "x": ["row", "column"]}
    idata = neb.diagnostics.to_arviz(result, dims=names, coords={"column": ["a", "b", "c"]})
    assert list(idata["posterior"]["x"].coords["column"].values) == ["a", "b", "c"]
    start = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(2)}
    walk = neb.sample(
        jax.random.key(0),
        lambda z: jnp.sum(z["a"] ** 2) + z["b"] ** 2,
        neb.ULA(0.1),
        start,
        num_samples=5,
        progress_bar=False,
    )
    idata = neb.diagnostics.to_arviz(walk)
    assert idata["posterior"]["a"].shape == (2, 5, 3)
    assert idata["posterior"]["b"].shape == (2, 5)
    assert "unadjusted" in idata["posterior"].attrs["note"]


def test_attributes_say_how_it_was_made_and_survive_a_file(result, tmp_path):
    pytest.importorskip("h5netcdf", reason="netCDF files need arviz[h5netcdf]")
    idata = neb.diagnostics.to_arviz(result)
    path = tmp_path / "draws.nc"
    idata.to_netcdf(path, engine="h5netcdf")
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(path, group="posterior", engine="h5netcdf") as back:
        assert np.array_equal(back["y"].values, result.y)
        assert back.attrs["walk"] == "MALA"
        assert back.attrs["sigma"] == 0.5
        assert json.loads(back.attrs["tuning"])["step_size"] == pytest.approx(0.1)
