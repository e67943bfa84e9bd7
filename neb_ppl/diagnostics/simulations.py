"""Simulation-based calibration of any inference: draw truths, simulate data, infer, rank."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from neb_ppl._checks import check_counts, check_key, check_share
from neb_ppl.diagnostics._events import paired
from neb_ppl.diagnostics.calibration import MIN_SIMULATIONS, Calibration, check_num_draws
from neb_ppl.diagnostics.quantities import Evaluator, evaluate, evaluators
from neb_ppl.diagnostics.ranks import random_ranks
from neb_ppl.errors import EventShapeError, InvalidArgumentError, NebPPLError
from neb_ppl.progress import interruptible, progress
from neb_ppl.types import PRNGKey, PyTree

__all__ = ["calibrate"]

FORMS = {
    "simulate": "rng_key -> (truth, data)",
    "infer": "(rng_key, data) -> draws",
    "quantities": "(theta, data) -> numbers",
    "log_likelihood": "(theta, data) -> number",
}


def calibrate(
    rng_key: PRNGKey,
    simulate: Callable[[PRNGKey], tuple[PyTree, PyTree]],
    infer: Callable[[PRNGKey, PyTree], PyTree],
    *,
    num_simulations: int,
    quantities: Callable[[PyTree, PyTree], PyTree] | None = None,
    log_likelihood: Callable[[PyTree, PyTree], Any] | None = None,
    alpha: float = 0.01,
    keep: bool = True,
    progress_bar: bool = True,
) -> Calibration:
    """Simulation-based calibration: are the draws of `infer` from the posterior of `simulate`?

    Given the data, a truth from the prior and draws from its posterior have the same law, so the
    rank of the truth among them is uniform, whatever the quantity. Each quantity is judged by the
    simultaneous band of `rank_band`.

    The log-likelihood belongs among the quantities. Draws from the prior alone, with the likelihood
    dropped, give uniform ranks for every quantity that does not depend on the data; the
    log-likelihood of the truth, which the data were drawn from, is then higher than that of the
    draws (Modrak et al. 2023).

    Parameters
    ----------
    rng_key : key
        Simulation i has the key ``fold_in(rng_key, i)``, so that one can be repeated by itself.
    simulate : callable
        ``simulate(rng_key) -> (truth, data)``: truth from the prior, data from the model at that
        truth; both arrays or pytrees of arrays.
    infer : callable
        ``infer(rng_key, data) -> draws``, shaped as the truth with a leading axis of at least 19
        draws, in every simulation as many. Thin them until they are nearly independent: ranks
        among correlated draws pile up at both ends.
    num_simulations : int
        At least 20. For one quantity and alpha .01, 500 find nine times in ten a standard deviation
        that is a fifth too small, or a shift by a fifth of it, and three times in four one that is
        a fifth too large; 100 find one a third too small, or a shift by a half.
    quantities : callable, optional
        ``quantities(theta, data)`` of one theta, in JAX: a dict of scalars, or an array. It is
        mapped over the draws. Default: every number of theta up to 16 of them; of more, 8 fixed
        random projections and the squared norm.
    log_likelihood : callable, optional
        ``log_likelihood(theta, data) -> scalar``, in JAX: one more quantity, of that name.
    alpha : float
        Chance of calling a right posterior wrong, over all quantities together.
    keep : bool
        Whether truths, draws and data stay in the result, for `tarp`. Data must then have the same
        shapes in every simulation.
    progress_bar : bool

    Returns
    -------
    Calibration
        Print it, or see `neb_ppl.plots.rank_ecdf`. Ctrl-C ends the run after the simulation at hand
        and keeps what is there; a second one does not wait for it. From the 21st on, a simulation
        with fewer draws than those before, such as `neb_ppl.sample` hands back after Ctrl-C, is
        left out and ends the run too.

    Raises
    ------
    InvalidArgumentError
        No functions, or a simulation that is no pair; too few simulations or draws; quantities that
        are NaN.
    EventShapeError, NonFiniteDataError
        Draws that do not fit the truth, or are not finite. A note says which simulation.
    KeyboardInterrupt
        Ctrl-C before 20 simulations, which are too few to keep.

    Cost: `num_simulations` inferences, one after the other.

    References
    ----------
    Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration"
    (2018); Modrak et al., "Simulation-based calibration checking for Bayesian computation: the
    choice of test quantities shapes sensitivity" (2023).
    """
    check_key(rng_key)
    check_counts(num_simulations=num_simulations)
    check_share("alpha", alpha)
    if num_simulations < MIN_SIMULATIONS:
        raise InvalidArgumentError(
            f"num_simulations must be at least {MIN_SIMULATIONS}; got {num_simulations}."
        )
    _check_functions(simulate=simulate, infer=infer)
    optional = {"quantities": quantities, "log_likelihood": log_likelihood}
    _check_functions(**{name: given for name, given in optional.items() if given is not None})
    measured = evaluators(quantities, log_likelihood)

    def simulation(i: int) -> _Simulation:
        return _simulation(jax.random.fold_in(rng_key, i), simulate, infer, measured)

    done = _run(simulation, num_simulations, keep, progress_bar)
    if len(done) < MIN_SIMULATIONS:
        raise KeyboardInterrupt(f"after {len(done)} simulations; {MIN_SIMULATIONS} can be judged")
    return _gathered(done, alpha, keep, len(done) == num_simulations)


def _check_functions(**functions: Any) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise InvalidArgumentError(
                f"{name} must be a function {FORMS[name]}; got {type(function).__name__}."
            )


class _Simulation(NamedTuple):
    """One simulation: ranks of its quantities, and what they came from."""

    names: tuple[str, ...]
    ranks: np.ndarray
    num_draws: int
    truth: PyTree
    draws: PyTree
    data: PyTree


def _run(
    simulation: Callable[[int], _Simulation], num_simulations: int, keep: bool, progress_bar: bool
) -> list[_Simulation]:
    """One after the other, until the last or Ctrl-C."""
    done: list[_Simulation] = []
    with (
        progress(num_simulations, "simulations", show=progress_bar, unit="sim") as bar,
        interruptible() as interrupt,
    ):
        for i in range(num_simulations):
            try:
                one = simulation(i)
                if len(done) >= MIN_SIMULATIONS and one.num_draws < done[0].num_draws:
                    break
                _check_alike(one, done[:1], keep)
            except KeyboardInterrupt:  # a second one, or one that infer took for itself
                break
            except NebPPLError as error:
                error.add_note(f"In simulation {i}, of the key jax.random.fold_in(rng_key, {i}).")
                raise
            done.append(one if keep else one._replace(truth=None, draws=None, data=None))
            bar.update(1)
            if interrupt.requested:
                break
    return done


def _simulation(
    rng_key: PRNGKey, simulate: Callable, infer: Callable, measured: list[Evaluator]
) -> _Simulation:
    key_simulate, key_infer, key_ties = jax.random.split(rng_key, 3)
    pair = simulate(key_simulate)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        found = f"{len(pair)} of them" if isinstance(pair, tuple | list) else type(pair).__name__
        raise InvalidArgumentError(f"simulate must return a pair (truth, data); got {found}.")
    truth, data = pair
    draws = infer(key_infer, data)
    num_draws = len(paired(draws, truth, simulations=False)[0])
    names, values = evaluate(measured, truth, draws, data)
    ranks = random_ranks(key_ties, values[None, 1:], values[:1])[0]
    held = (jax.tree.map(np.asarray, tree) for tree in (truth, draws, data))
    return _Simulation(names, ranks, num_draws, *held)


def _check_alike(one: _Simulation, first: list[_Simulation], keep: bool) -> None:
    """As many draws as in the first simulation, and data that can be stacked with its."""
    check_num_draws(one.num_draws)
    for other in first:
        if one.num_draws != other.num_draws:
            raise InvalidArgumentError(
                f"infer must return as many draws every time; got {one.num_draws} after "
                f"{other.num_draws} (fewer, if it was interrupted)."
            )
        shapes, before = (jax.tree.map(np.shape, run.data) for run in (one, other))
        if keep and shapes != before:
            raise EventShapeError(
                f"data must have the same shapes every time to be kept; got {shapes} after "
                f"{before}. Use keep=False."
            )


def _gathered(done: list[_Simulation], alpha: float, keep: bool, is_complete: bool) -> Calibration:
    held = zip(*((one.truth, one.draws, one.data) for one in done), strict=True)
    truth, draws, data = (
        jax.tree.map(lambda *arrays: np.stack(arrays), *column) if keep else None for column in held
    )
    return Calibration(
        names=done[0].names,
        ranks=np.stack([one.ranks for one in done]),
        num_draws=done[0].num_draws,
        alpha=alpha,
        truth=truth,
        draws=draws,
        data=data,
        is_complete=is_complete,
    )
