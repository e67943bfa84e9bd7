"""Can these draws be trusted? What was seen, in plain words, and what to try."""

import dataclasses

import jax
import numpy as np

from neb_ppl.diagnostics.arviz import effective_sample_size, rhat
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.sampling import SampleResult
from neb_ppl.sampling.result import check_result
from neb_ppl.types import ArrayLike, PyTree

__all__ = ["Diagnosis", "Finding", "diagnose", "stuck_chains"]

STUCK_DRAWS = 20
MAX_RHAT, GOOD_RHAT = 1.05, 1.01
MIN_ESS, GOOD_ESS = 100, 400
MAX_QUANTITIES = 16
MAX_OUTSIDE = 0.1
MIN_DRAWS = 8
MIN_REFERENCE = 50


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing seen: a problem, or a note that is no fault."""

    is_problem: bool
    seen: str
    advice: str = ""

    def __str__(self) -> str:
        mark = "PROBLEM" if self.is_problem else "note"
        return f"{mark}: {self.seen}" + (f"\n         -> {self.advice}" if self.advice else "")


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run.

    Attributes
    ----------
    findings : tuple of Finding
    numbers : dict
        What was measured; ArviZ's numbers are absent where a chain is stuck, since they mislead.
    """

    findings: tuple[Finding, ...]
    numbers: dict[str, float | int | str]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not any(finding.is_problem for finding in self.findings)

    def __str__(self) -> str:
        width = max(len(name) for name in self.numbers)
        table = [f"{name:<{width}}  {_shown(number)}" for name, number in self.numbers.items()]
        verdict = "No problem found." if self.ok else "Do not trust these draws yet."
        return "\n".join([*table, "", *map(str, self.findings), verdict])


def diagnose(result: SampleResult, reference: ArrayLike | None = None) -> Diagnosis:
    """Judge a run in the order in which faults hide each other.

    Stuck chains and low acceptance come first: ArviZ gives a chain that never moved an effective
    sample size equal to its length, so its numbers are shown only once every chain moves. Then
    divergent proposals, energies that were not finite, R-hat (a problem above 1.05, noted above
    1.01), effective sample size (a problem below 100, noted below 400), chains that accept less
    than the others, energies against those of data, and what an unadjusted walk or a mean jump
    means for the use of the draws.

    R-hat and ESS are taken over lp and at most 16 quantities of y, and of x: every coordinate of a
    small event; of a large one 8 fixed random projections, and 8 coordinates where the chains'
    means disagree most.

    Parameters
    ----------
    result : SampleResult
    reference : array, shape (n,), optional
        Energies phi of fresh ``data + noise``; a trained `NeuralEnergy` brings its own. A walk on a
        learned energy can settle where no data are, with every chain in agreement: R-hat cannot
        see that, the energies often can. A problem if more than a tenth of the last draws, or half
        of a chain's, lies outside their central 98 %.

    Returns
    -------
    Diagnosis
        Print it.

    Raises
    ------
    InvalidArgumentError
        Not a `SampleResult`, or a reference that is not at least 50 energies.
    """
    check_result(result)
    known = _quantiles(result, reference)
    y = _flat(result.y, result)
    numbers: dict[str, float | int | str] = {
        "chains": result.num_chains,
        "draws of each": result.num_samples,
        "walk": result.settings["walk"],
        "step size": float(result.info["step_size"].flat[0]),
    }
    if result.num_samples < MIN_DRAWS:
        seen = f"only {result.num_samples} draws of each chain: nothing can be judged."
        return Diagnosis((Finding(True, seen, "raise num_samples."), *_meaning(result)), numbers)
    findings = [*_immobile(result, y), *_acceptance(result, numbers)]
    moves = not any(finding.is_problem for finding in findings)
    findings += [*_divergent(result), *_nonfinite(result)]
    if not moves:
        findings.append(Finding(False, "R-hat and ESS are not shown: they mislead here."))
    else:
        findings += _convergence(result, y, numbers)
    findings += _slow_chains(result)
    if known is not None:
        findings += _elsewhere(result, known, numbers)
    elif "data_energy" in result.settings:
        seen = "not checked against data: pass reference=energies of data + noise."
        findings.append(Finding(False, seen))
    findings += _clamped(result)
    findings += _meaning(result)
    return Diagnosis(tuple(findings), numbers)


def stuck_chains(y: np.ndarray) -> np.ndarray:
    """Which chains stood still: in 20 draws running and a tenth of all, or throughout.

    At the usual acceptance of .574 and one step a draw, 20 rejections in a row have a chance of
    4e-8 at each draw.

    Parameters
    ----------
    y : array, shape (chains, draws, dimensions)
    """
    moved = (y[:, 1:] != y[:, :-1]).any(axis=2)
    longest = np.array([_longest_run(~chain) for chain in moved])
    return (longest >= max(STUCK_DRAWS, y.shape[1] / 10)) | (longest >= max(1, y.shape[1] - 1))


def _quantiles(result: SampleResult, reference: ArrayLike | None) -> np.ndarray | None:
    """Low, median and high of the energies of data + noise, where they are known."""
    if reference is None:
        known = result.settings.get("data_energy")
        return None if known is None else np.asarray(known)
    energies = np.asarray(reference)
    if energies.ndim != 1 or len(energies) < MIN_REFERENCE or not np.isfinite(energies).all():
        raise InvalidArgumentError(
            f"reference must be at least {MIN_REFERENCE} finite energies, shape (n,): "
            "neb_ppl.smoothed_energies(rng_key, energy, x); got shape "
            f"{energies.shape}."
        )
    return np.quantile(energies, [0.01, 0.5, 0.99])


def _flat(tree: PyTree, result: SampleResult) -> np.ndarray:
    leaves = jax.tree.leaves(tree)
    shape = (result.num_chains, result.num_samples, -1)
    return np.concatenate([np.asarray(leaf).reshape(shape) for leaf in leaves], axis=2)


def _longest_run(flags: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return int(max(edges[1::2] - edges[::2], default=0))


def _immobile(result: SampleResult, y: np.ndarray) -> list[Finding]:
    findings = []
    step = float(result.info["step_size"].flat[0])
    adjusted = result.settings["is_adjusted"]
    left = result.info["diverging"][:, -1] & (not adjusted)
    if left.any():
        findings.append(
            Finding(
                True,
                f"{_chains(left)} left the finite numbers and stand where they were last finite.",
                f"use a step size below {step:.3g}, or MALA, which cannot diverge.",
            )
        )
    stuck = stuck_chains(y) & ~left
    if stuck.any():
        findings.append(
            Finding(
                True,
                f"{_chains(stuck)} stood still for {STUCK_DRAWS} draws or more.",
                f"use a smaller step size than {step:.3g}, or leave it out to adapt it; look at "
                "the energy where they stand.",
            )
        )
    return findings


def _divergent(result: SampleResult) -> list[Finding]:
    share = result.info["diverging"].mean()
    if not result.settings["is_adjusted"] or share <= 0.01:
        return []
    seen = f"{share:.1%} of draws met a divergent proposal."
    step = float(result.info["step_size"].flat[0])
    return [Finding(True, seen, f"use a step size below {step:.3g}.")]


def _nonfinite(result: SampleResult) -> list[Finding]:
    counts = result.info.get("nonfinite")
    if counts is None or not counts.sum():
        return []
    steps = counts.size * result.settings["steps_per_jump"]
    share = counts.sum() / steps
    seen = f"{int(counts.sum())} of {steps} proposals had an energy that is not finite."
    return [Finding(bool(share > 1e-3), seen, "check the energy far from the data.")]


def _acceptance(result: SampleResult, numbers: dict) -> list[Finding]:
    rates = result.info.get("acceptance_rate")
    if rates is None:
        return []
    rate, target = float(rates.mean()), result.settings["target_acceptance"]
    numbers["acceptance"] = rate
    step = float(result.info["step_size"].flat[0])
    if rate < 0.2:
        advice = f"use a smaller step size than {step:.3g}, or leave it out to adapt it."
        return [Finding(True, f"only {rate:.1%} of proposals were accepted.", advice)]
    slow = _slow(result).any()
    if target is not None and rate > 0.5 * (1 + target) and not slow:
        advice = f"a larger step size than {step:.3g} would move faster; {target:g} is the target."
        return [Finding(False, f"{rate:.1%} of proposals were accepted.", advice)]
    return []


def _slow(result: SampleResult) -> np.ndarray:
    """Which chains accept less than half of what the median chain does."""
    rates = result.info.get("acceptance_rate")
    each = np.ones(result.num_chains) if rates is None else rates.mean(axis=1)
    return each < 0.5 * np.median(each)


def _slow_chains(result: SampleResult) -> list[Finding]:
    slow = _slow(result)
    if not slow.any():
        return []
    each = result.info["acceptance_rate"].mean(axis=1)
    seen = (
        f"{_chains(slow)} accepted {each[slow].mean():.0%} of proposals, the median chain "
        f"{np.median(each):.0%}: "
    )
    if "data_energy" in result.settings:  # of a learned energy alone
        seen += "it sits where the energy curves more than a smoothed density can, in a well that "
        advice = "start_at_data, neb_ppl.refine with walk=MALA(), or train on."
        return [Finding(True, f"{seen}no data made.", advice)]
    seen += (
        "the density is narrower there, as in another mode or, of a learned energy, in a well that "
        "no data made. Which of the places is right, acceptance does not say."
    )
    advice = "look at each chain's draws and lp; use more chains, or start where the data point."
    return [Finding(True, seen, advice)]


def _convergence(result: SampleResult, y: np.ndarray, numbers: dict) -> list[Finding]:
    lp = result.info["lp"][..., None]
    quantities = [_quantities(y)]
    if result.x is not None:
        quantities.append(_quantities(_flat(result.x, result)))
    if np.isfinite(lp).all():
        quantities.append(lp)
    quantities = np.concatenate(quantities, axis=2)
    worst_rhat = float(np.max(rhat(_in_halves(quantities))))
    ess = float(np.min(effective_sample_size(quantities)))
    numbers["largest R-hat"] = worst_rhat
    numbers["smallest ESS"] = ess
    numbers["ESS a draw"] = ess / (result.num_chains * result.num_samples)
    findings = []
    if result.num_chains == 1:
        seen = "one chain: R-hat compares its two halves only."
        findings.append(Finding(False, seen, "run at least four."))
    if GOOD_RHAT < worst_rhat <= MAX_RHAT or MIN_ESS <= ess < GOOD_ESS:
        seen = f"numbers to publish want R-hat below {GOOD_RHAT} and {GOOD_ESS} effective draws."
        findings.append(
            Finding(False, seen, "go on with sample(None, energy, None, result.state, ...).")
        )
    if not worst_rhat <= MAX_RHAT:
        findings.append(
            Finding(
                True,
                f"chains disagree: R-hat is {worst_rhat:.3f} (above {MAX_RHAT}).",
                "run longer, raise num_warmup or steps_per_jump, start_at_data, or use a larger "
                "sigma, whose modes are joined.",
            )
        )
    if not ess >= MIN_ESS:
        findings.append(
            Finding(
                True,
                f"only {ess:.0f} effective draws (below {MIN_ESS}).",
                "raise num_samples or steps_per_jump, or the step size.",
            )
        )
    return findings


def _in_halves(draws: np.ndarray) -> np.ndarray:
    """One chain as two, for statistics that compare chains."""
    if len(draws) > 1:
        return draws
    return np.concatenate(np.split(draws[:, : draws.shape[1] // 2 * 2], 2, axis=1))


def _elsewhere(result: SampleResult, known: np.ndarray, numbers: dict) -> list[Finding]:
    """Whether the second half of the draws has the energies of data + noise."""
    energies = -result.info["lp"][:, result.num_samples // 2 :]
    low, median, high = known
    outside = ((energies < low) | (energies > high)).mean(axis=1)
    numbers["energies unlike data's"] = float(outside.mean())
    if outside.mean() <= MAX_OUTSIDE and outside.max() <= 0.5:
        return []
    who = "" if outside.mean() > MAX_OUTSIDE else f" of {_chains(outside > 0.5)}"
    where = "below" if np.median(energies) < median else "above"
    seen = (
        f"{outside.max() if who else outside.mean():.0%} of the later draws{who} have an energy "
        f"unlike that of data + noise (the median is {where}): the walk has settled where no data "
        "are"
    )
    advice = "neb_ppl.refine the energy, start_at_data, or a larger sigma."
    if where == "above" and not result.settings["is_adjusted"]:
        seen, advice = f"{seen}, or its step is too large", f"halve the step; {advice}"
    return [Finding(True, f"{seen}.", advice)]


def _clamped(result: SampleResult) -> list[Finding]:
    counts = result.info.get("num_clamped")
    if counts is None or not counts.any():
        return []
    seen = (
        f"in {(counts > 0).mean():.0%} of draws the covariance of X given Y had negative "
        f"eigenvalues, {counts.mean():.1f} a draw, set to 0: no smoothed density has them."
    )
    return [Finding(False, seen, "trust intervals of x less there.")]


def _quantities(y: np.ndarray) -> np.ndarray:
    """At most 16 scalar functions of y, float64."""
    y = y.astype(np.float64)
    if y.shape[2] <= MAX_QUANTITIES:
        return y
    directions = np.random.default_rng(0).normal(size=(y.shape[2], MAX_QUANTITIES // 2))
    halves = np.concatenate(np.split(y[:, : y.shape[1] // 2 * 2], 2, axis=1))
    within, between = halves.var(axis=1).mean(axis=0), halves.mean(axis=1).var(axis=0)
    ratio = between / np.where(within > 0, within, 1.0)
    worst = np.argsort(ratio)[-(MAX_QUANTITIES // 2) :]
    return np.concatenate([y @ (directions / np.sqrt(y.shape[2])), y[..., worst]], axis=2)


def _meaning(result: SampleResult) -> list[Finding]:
    findings = []
    if not result.settings["is_adjusted"]:
        findings.append(Finding(False, _bias(result)))
    if result.settings["jump"] == "mean_jump":
        seen = "x are posterior means, not draws: for intervals of x use jump=stochastic_jump."
        findings.append(Finding(False, seen))
    if not result.is_complete:
        findings.append(Finding(False, "the run was interrupted; the draws until then are valid."))
    return findings


def _bias(result: SampleResult) -> str:
    """What is known of the step's bias, on a Gaussian as narrow as the noise itself."""
    name, sigma, tuning = (result.settings[key] for key in ("walk", "sigma", "tuning"))
    if name == "ULA" and result.settings["is_scaled"]:
        ratio = 1 / (1 - tuning["step_size"] / 2)
        return (
            f"ULA is not adjusted: on a Gaussian whose scale warm-up has learned its variance is "
            f"{ratio:.3f} times too large, more along directions narrower than that."
        )
    if name == "ULA" and sigma:
        ratio = 1 / (1 - tuning["step_size"] / (2 * sigma**2))
        return (
            f"ULA is not adjusted: along directions of standard deviation sigma, the narrowest of "
            f"a smoothed density, its variance is {ratio:.3f} times too large, less elsewhere."
        )
    if tuning.get("scheme") in ("BAOAB", "ABOBA"):
        return (
            f"{tuning['scheme']} is not adjusted: its position variance is exact on Gaussians, and "
            "wells stiffer than its step throw it out; halve the step, or compare with MALA from "
            "the same start, to see its bias."
        )
    return f"{name} is not adjusted: halve the step, or compare with MALA, to see its bias."


def _chains(flags: np.ndarray) -> str:
    which = np.flatnonzero(flags)
    if len(which) == 1:
        return f"chain {which[0]} of {len(flags)}"
    shown = ", ".join(map(str, which[:6])) + (", ..." if len(which) > 6 else "")
    return f"{len(which)} of {len(flags)} chains ({shown})"


def _shown(number: float | int | str) -> str:
    return f"{number:.4g}" if isinstance(number, float) else str(number)
