"""Three posteriors of posteriordb as NumPyro models, their data and reference draws from files."""

import json
import os
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest


def eight_schools(y, sigma, tau_scale=5.0):
    """Non-centred, as ``eight_schools-eight_schools_noncentered``."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(tau_scale))
    trans = numpyro.sample("theta_trans", dist.Normal(0.0, 1.0).expand([len(y)]))
    theta = numpyro.deterministic("theta", mu + tau * trans)
    numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def earnings(log_earn, height):
    """``earnings-logearn_height``: flat priors."""
    with numpyro.plate("coefficients", 2):
        beta = numpyro.sample("beta", dist.ImproperUniform(dist.constraints.real, (), ()))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(beta[0] + beta[1] * height, sigma), obs=log_earn)


def mesquite(log_weight, features):
    """``mesquite-logmesquite_logvas``: flat priors."""
    with numpyro.plate("coefficients", 7):
        beta = numpyro.sample("beta", dist.ImproperUniform(dist.constraints.real, (), ()))
    sigma = numpyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
    numpyro.sample("y", dist.Normal(features @ beta, sigma), obs=log_weight)


def case(name):
    """Model, arguments, and reference draws by site: (10, 1000, *shape)."""
    if name == "eight_schools":
        data = read("data", name)
        draws = reference("eight_schools-eight_schools_noncentered", ["mu", "tau"], "theta", 8)
        return eight_schools, (jnp.array(data["y"], float), jnp.array(data["sigma"], float)), draws
    if name == "earnings":
        data = read("data", name)
        draws = reference("earnings-logearn_height", ["sigma"], "beta", 2)
        args = jnp.log(jnp.array(data["earn"], float)), jnp.array(data["height"], float)
        return earnings, args, draws
    data = {k: np.array(v, np.float64) for k, v in read("data", "mesquite").items() if k != "N"}
    canopy = data["diam1"] * data["diam2"]
    columns = [
        np.ones(len(canopy)),
        np.log(canopy * data["canopy_height"]),
        np.log(canopy),
        np.log(data["diam1"] / data["diam2"]),
        np.log(data["total_height"]),
        np.log(data["density"]),
        data["group"],
    ]
    draws = reference("mesquite-logmesquite_logvas", ["sigma"], "beta", 7)
    args = jnp.array(np.log(data["weight"]), float), jnp.array(np.stack(columns, 1), float)
    return mesquite, args, draws


def reference(name, scalars, vector, size):
    chains = read("draws", name)
    draws = {site: np.array([chain[site] for chain in chains]) for site in scalars}
    entries = [[chain[f"{vector}[{i + 1}]"] for i in range(size)] for chain in chains]
    return draws | {vector: np.moveaxis(np.array(entries), 1, 2)}


def read(kind, name):
    """One zipped JSON file of ``$NEB_PPL_DATA/posteriordb``, or of a folder beside that."""
    home = Path(os.environ.get("NEB_PPL_DATA", "."))
    for folder in (home / "posteriordb", home.parent / "posteriordb"):
        path = folder / kind / f"{name}.json.zip"
        if path.is_file():
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read(archive.namelist()[0]))
    pytest.skip(f"no posteriordb/{kind}/{name}.json.zip in the folder that NEB_PPL_DATA names")
