"""Degraded events back to clean ones with a saved energy: inpaint, deblur, upsample, denoise."""

import dataclasses
import math
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from neb_ppl import plots
from neb_ppl._checks import check_counts, check_positive, check_share, least_draws
from neb_ppl.checkpoints import LearnedEnergy
from neb_ppl.data import check_data
from neb_ppl.energies.scale import warn_of_units
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.inverse import (
    LinearOperator,
    PosteriorResult,
    blur,
    downsample,
    gaussian,
    identity,
    mask,
    solve,
)
from neb_ppl.inverse.result import APART, SHORT, mixing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "RestoreSettings",
    "Restored",
    "blur_kernel",
    "forward_operator",
    "restore_events",
    "restored_picture",
]

REACH = 4.0
SHOWN = 10
SHOWN_DRAWS = 3


@dataclasses.dataclass(frozen=True)
class RestoreSettings:
    """What was done to the events, and how they are to be restored.

    Attributes
    ----------
    noise_scale : float
        Standard deviation of the noise, in data units.
    keep : bool array, shape ``(*event,)``, optional
        True where a number was seen: inpaint.
    blur : float, optional
        Standard deviation of a periodic Gaussian blur, in pixels: deblur.
    downsample : int, optional
        Means over blocks of so many pixels along each axis were seen: upsample.
    closure, sigma, num_chains, num_samples
        As in `neb_ppl.inverse.solve`.
    num_draws : int
        Draws of each x; rounded up to a multiple of `num_chains`.
    level : float
        Of the intervals.
    """

    noise_scale: float
    keep: np.ndarray | None = None
    blur: float | None = None
    downsample: int | None = None
    closure: str = "auto"
    sigma: float | None = None
    num_draws: int = 256
    num_chains: int = 16
    num_samples: int = 128
    level: float = 0.9
    seed: int = 0
    progress_bar: bool = True


class Restored(NamedTuple):
    """What is known of each event, the events along the first axis.

    Attributes
    ----------
    mean, sd, lower, upper : arrays, shape ``(n, *event)``
        The last two are the ends of a central interval.
    draws : array, shape ``(n, draws, *event)``
    rhat, ess : arrays, shape ``(n,)``
        The largest R-hat and the smallest effective number of draws of any entry.
    sigma : float
        The noise level of the energy that was used.
    """

    mean: np.ndarray
    sd: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    draws: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    sigma: float


def restore_events(
    energy: LearnedEnergy,
    source: np.ndarray,
    settings: RestoreSettings,
    *,
    scale: float | None = None,
    say: Callable[[str], None] = print,
) -> Restored:
    """Posterior of every event of `source`, one after the other.

    Parameters
    ----------
    energy : a learned energy
        A range of noise levels is best: the level is then chosen so that draws are exact.
    source : array, shape ``(n, *seen)`` or ``(*seen,)``
        What was seen: events as the operator leaves them. With a mask whole events, of which the
        hidden entries are ignored.
    settings : RestoreSettings
    scale : float, optional
        Of integer data, as in `neb_ppl.data.check_data`.
    say : callable
        Told what the posterior is, and how well the walk for each event mixed.

    Raises
    ------
    InvalidArgumentError, EventShapeError, NonFiniteDataError
        Before anything is run.
    KeyboardInterrupt
        At Ctrl-C: a walk that ended early is not a posterior.
    """
    check_positive(noise_scale=settings.noise_scale)
    _check_draws(settings)
    operator = forward_operator(settings, energy.event_shape)
    observed = _check_source(source, energy, operator, settings, scale)
    found, closure, sigma = [], settings.closure, math.nan
    for index, key in enumerate(jax.random.split(jax.random.key(settings.seed), len(observed))):
        result = solve(
            key,
            energy,  # pyright: ignore[reportArgumentType]  (a score is refused by it)
            gaussian(operator, observed[index], settings.noise_scale),
            closure=closure,
            sigma=settings.sigma,
            num_chains=settings.num_chains,
            num_samples=settings.num_samples,
            num_draws=settings.num_draws,
            progress_bar=settings.progress_bar,
        )
        if not result.walk.is_complete:
            raise KeyboardInterrupt
        closure = result.posterior.closure  # chosen once, and warned of once
        sigma = float(result.posterior.sigma)
        if index == 0:
            say(str(result.posterior.explain()))
        say(f"event {index + 1}: {_verdict(result)}")
        found.append(_summary(result, settings.level))
    return Restored(*map(np.stack, zip(*found, strict=True)), sigma)  # pyright: ignore


def forward_operator(settings: RestoreSettings, event_shape: tuple[int, ...]) -> LinearOperator:
    """The operator that `settings` speak of; the identity where they name none.

    Raises
    ------
    InvalidArgumentError
        More than one, or one that does not fit the events.
    EventShapeError
        A mask of another shape.
    """
    given = [name for name in ("keep", "blur", "downsample") if getattr(settings, name) is not None]
    names = [{"keep": "mask"}.get(name, name) for name in given]
    if len(given) > 1:
        raise InvalidArgumentError(
            f"give one of mask, blur and downsample, or none to denoise; got {' and '.join(names)}."
        )
    if settings.keep is not None:
        return mask(_check_mask(settings.keep, event_shape))
    if settings.blur is not None:
        return blur(blur_kernel(settings.blur, event_shape), event_shape)
    if settings.downsample is not None:
        if len(event_shape) > 2:
            raise InvalidArgumentError(
                f"downsample takes means along every axis; events {event_shape} have channels, "
                "which would be mixed. Use an energy of one channel."
            )
        return downsample(settings.downsample, event_shape)
    return identity(event_shape)


def blur_kernel(width: float, event_shape: tuple[int, ...]) -> np.ndarray:
    """Gaussian of standard deviation `width` pixels, cut at 4 and wrapped around the event.

    The blur that `scipy.ndimage.gaussian_filter` gives with ``mode="wrap"``. A third axis holds
    channels and is left alone.
    """
    if not (math.isfinite(width) and width > 0):
        raise InvalidArgumentError(f"blur must be a positive width in pixels; got {width}.")
    reach = int(REACH * width + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / width) ** 2)
    lines = []
    for length in event_shape[:2]:
        line = np.zeros(length)
        np.add.at(line, (length // 2 + offsets) % length, weights / weights.sum())
        lines.append(line)
    lines += [np.ones(1)] * len(event_shape[2:])
    return reduce(np.multiply.outer, lines)


def restored_picture(source: np.ndarray, restored: Restored, settings: RestoreSettings) -> "Figure":
    """Rows of what was seen, means, standard deviations and draws of the first ten events.

    Hidden pixels are in sand.

    Parameters
    ----------
    source : array, shape ``(n, h, w)``
    restored : Restored
        Of events ``(height, width)``.
    settings : RestoreSettings
    """
    shape = restored.mean.shape[1:]
    check_images(shape)
    seen = np.asarray(source, np.float64).reshape(-1, *np.shape(source)[-2:])[:SHOWN]
    if settings.keep is not None:
        seen = np.where(settings.keep, seen, np.nan)
    draws = restored.draws[:SHOWN, :: max(1, restored.draws.shape[1] // SHOWN_DRAWS)]
    limits = np.quantile(draws, [0.002, 0.998])
    widest = restored.sd[:SHOWN].max()
    rows = {
        "seen": _gray(seen, [np.nanmin(seen), np.nanmax(seen)]),
        "mean": _gray(restored.mean[:SHOWN], limits),
        "sd": _gray(restored.sd[:SHOWN], [0, widest]),
    }
    for number in range(SHOWN_DRAWS):
        rows[f"draw {number + 1}"] = _gray(draws[:, number], limits)
    return plots.image_rows(rows, f"row of sd: from 0 to {widest:.2g}")


def check_images(event_shape: tuple[int, ...]) -> None:
    """A picture is of images."""
    if len(event_shape) != 2:
        raise InvalidArgumentError(
            f"picture is of events with two axes, (height, width); these are {event_shape}."
        )


def _check_draws(settings: RestoreSettings) -> None:
    """Counts and level, before the first walk."""
    check_counts(
        num_chains=settings.num_chains,
        num_samples=settings.num_samples,
        num_draws=settings.num_draws,
    )
    check_share("level", settings.level)
    most = settings.num_chains * settings.num_samples
    if settings.num_draws > most:
        raise InvalidArgumentError(
            f"draws are {settings.num_draws}, and {settings.num_chains} chains of "
            f"{settings.num_samples} samples have {most}. Ask for more samples, or fewer draws."
        )
    needed = least_draws(settings.level)
    if settings.num_draws < needed:
        raise InvalidArgumentError(
            f"intervals of level {settings.level:g} need at least {needed} draws; draws are "
            f"{settings.num_draws}."
        )


def _check_mask(keep: np.ndarray, event_shape: tuple[int, ...]) -> np.ndarray:
    keep = np.asarray(keep)
    if keep.shape != event_shape:
        raise EventShapeError(
            f"mask has shape {keep.shape}; expected that of an event, {event_shape}."
        )
    if not np.isin(keep, (0, 1)).all():
        raise InvalidArgumentError(
            f"mask must hold True (1) where a number was seen and False (0) where not; got values "
            f"from {keep.min()} to {keep.max()}. Of an image of 0 and 255 save mask > 0."
        )
    return keep.astype(bool)


def _check_source(
    source: np.ndarray,
    energy: LearnedEnergy,
    operator: LinearOperator,
    settings: RestoreSettings,
    scale: float | None,
) -> np.ndarray:
    """Finite floats, shape ``(n, *seen)``; hidden entries are zero."""
    source = np.asarray(source)
    shape = energy.event_shape if settings.keep is not None else operator.out_shape
    if source.shape == shape:
        source = source[None]
    if source.ndim == len(shape):
        raise EventShapeError(
            f"source has shape {source.shape}; expected {shape}, as one event was seen, or several "
            "along a first axis."
        )
    keep = np.ones(shape, bool) if settings.keep is None else settings.keep.astype(bool)
    if source.shape[1:] == shape:
        source = np.where(keep, source, np.zeros((), source.dtype))
    try:
        observed = np.asarray(check_data(source, shape, name="source", scale=scale))
    except NonFiniteDataError as error:
        raise NonFiniteDataError(
            f"{error} Where numbers were hidden, give a mask that is False there."
        ) from error
    warn_of_units(energy, observed[:, keep], name="source", noise=settings.noise_scale)
    return observed


def _verdict(result: PosteriorResult) -> str:
    """Whether the walk can be trusted."""
    ess, ratio = mixing(np.asarray(result.walk.x))
    lines = [f"largest R-hat {ratio.max():.3f}, smallest ESS {ess.min():.0f}"]
    if result.num_clamped:
        share = result.num_clamped / (result.draws.shape[0] * result.draws.shape[1])
        lines.append(
            f"note: at {share:.0%} of draws the prior gave variances below 0, which were "
            "set to 0: intervals may be too narrow"
        )
    diagnosis = result.diagnose()
    problems = [finding.seen for finding in diagnosis.findings if finding.is_problem]
    if "largest R-hat" in diagnosis.numbers:  # R-hat of x, as it was told, is the judge
        problems = ["the chains disagree."] if ratio.max() > APART else []
    lines += [
        f"PROBLEM: {seen} Do not trust these draws: ask for more samples, and if that does not "
        "mend it, the posterior has modes apart"
        for seen in problems
    ]
    if not problems and ratio.max() > SHORT:
        lines.append(
            f"note: an R-hat above {SHORT} may be chance, or chains that are short for how they "
            "mix: more samples tell"
        )
    return "\n         ".join(lines)


def _summary(result: PosteriorResult, level: float) -> tuple[np.ndarray, ...]:
    lower, upper = result.interval(level)
    draws = np.asarray(result.draws)
    together = draws.reshape(-1, *draws.shape[2:])
    ess, ratio = mixing(np.asarray(result.walk.x))
    numbers = (result.mean, result.sd, lower, upper, together, ratio.max(), ess.min())
    return tuple(number.astype(draws.dtype) for number in numbers)


def _gray(images: np.ndarray, limits: object) -> np.ndarray:
    low, high = np.asarray(limits, np.float64)
    return np.clip((images - low) / max(high - low, 1e-12), 0, 1)
