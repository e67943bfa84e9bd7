"""To ArviZ and its numbers, for both majors. The only module that imports arviz."""

import json
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from neb_ppl.errors import InvalidArgumentError
from neb_ppl.sampling import SampleResult
from neb_ppl.sampling.result import check_result

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces 1.0 at every import
    import arviz as az

__all__ = ["effective_sample_size", "has_netcdf", "rhat", "save_netcdf", "to_arviz"]

IS_ONE = int(version("arviz").split(".")[0]) >= 1


def to_arviz(
    result: SampleResult,
    *,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Any:
    """The draws as ArviZ's own object: InferenceData (0.23) or DataTree (1.x).

    Parameters
    ----------
    result : SampleResult
    dims : dict, optional
        Names of event dimensions, such as ``{"y": ["row", "column"], "x": ["row", "column"]}``.
        By default y and x share ``event_0``, ``event_1``, ...
    coords : dict, optional
        Coordinates of those dimensions.

    Returns
    -------
    InferenceData or DataTree
        ``posterior``: y (a variable for each key of a dict) and x, the jumps, where there are any;
        of a model, its latent and deterministic sites.
        ``sample_stats``: ``lp`` = -phi(y), ``step_size``, ``diverging``, ``acceptance_rate``,
        ``nonfinite``. Attributes of ``posterior`` say how the draws were made; a nested one is
        JSON, so that everything can be written to netCDF.
    """
    check_result(result)
    if isinstance(result.x, Mapping):  # of a model: its sites; y are the same unconstrained
        posterior = dict(result.x)
    else:
        posterior = dict(result.y) if isinstance(result.y, Mapping) else {"y": result.y}
        if result.x is not None:
            posterior["x"] = result.x
    posterior = {name: np.asarray(draws) for name, draws in posterior.items()}
    event = ("y", "x") if "y" in posterior else tuple(posterior)
    shared = {
        name: [f"event_{i}" for i in range(posterior[name].ndim - 2)]
        for name in posterior
        if name in event and "y" in posterior and not isinstance(result.x, Mapping)
    }
    _check_dims(posterior, dims or {})
    groups = {
        "posterior": posterior,
        "sample_stats": {name: np.asarray(stat) for name, stat in result.info.items()},
    }
    options = {"dims": shared | {k: list(v) for k, v in (dims or {}).items()}, "coords": coords}
    options = {name: option for name, option in options.items() if option}
    idata = az.from_dict(groups, **options) if IS_ONE else az.from_dict(**groups, **options)
    idata["posterior"].attrs.update(_attributes(result))
    return idata


def has_netcdf() -> bool:
    """Whether the library is there that ArviZ writes netCDF files with."""
    try:
        import h5netcdf  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def save_netcdf(path: Path, result: SampleResult) -> None:
    """Write the draws for ArviZ, over an older file."""
    path.unlink(missing_ok=True)
    to_arviz(result).to_netcdf(str(path), engine="h5netcdf")


def _check_dims(posterior: Mapping[str, np.ndarray], dims: Mapping[str, Sequence[str]]) -> None:
    for name, names in dims.items():
        if name not in posterior:
            raise InvalidArgumentError(
                f"dims names {name!r}; the variables are {', '.join(posterior)}."
            )
        wanted = posterior[name].ndim - 2
        if len(names) != wanted:
            raise InvalidArgumentError(
                f"dims[{name!r}] must hold {wanted} names, one for each axis of an event; got "
                f"{list(names)}."
            )


def effective_sample_size(draws: np.ndarray) -> np.ndarray:
    """Bulk effective sample size of each quantity, draws of shape ``(chains, draws, quantity)``."""
    return _statistic(draws, az.ess, method="bulk")


def rhat(draws: np.ndarray) -> np.ndarray:
    """Rank-normalised split R-hat of each quantity, draws ``(chains, draws, quantity)``."""
    return _statistic(draws, az.rhat, method="rank")


def _statistic(draws: np.ndarray, function: Any, **settings: Any) -> np.ndarray:
    groups = {"posterior": {"q": np.asarray(draws, np.float64)}}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.filterwarnings("ignore", "More chains", UserWarning)  # many short chains are fine
        idata = az.from_dict(groups) if IS_ONE else az.from_dict(**groups)  # pyright: ignore
        return np.atleast_1d(np.asarray(function(idata, **settings)["q"]))


def _attributes(result: SampleResult) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "inference_library": "neb_ppl",
        "inference_library_version": version("neb-ppl"),
        "is_complete": int(result.is_complete),
    }
    for name, setting in result.settings.items():
        if isinstance(setting, bool):
            attributes[name] = int(setting)
        elif setting is None:
            continue
        elif isinstance(setting, str | int | float):
            attributes[name] = setting
        else:
            attributes[name] = json.dumps(setting)
    if not result.settings["is_adjusted"]:
        attributes["note"] = "unadjusted walk: draws of y carry a bias of its step size"
    return attributes
