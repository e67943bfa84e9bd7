"""Scalar quantities of a truth and its draws, for their ranks."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from neb_ppl.diagnostics._events import flatten, number_names
from neb_ppl.errors import InvalidArgumentError
from neb_ppl.types import PyTree

__all__ = ["Evaluator", "evaluate", "evaluators"]

MAX_NUMBERS = 16
NUM_PROJECTIONS = 8

Columns: TypeAlias = tuple[tuple[str, ...], np.ndarray]
Evaluator: TypeAlias = Callable[[PyTree, PyTree], Columns]


def evaluators(
    quantities: Callable[[PyTree, PyTree], PyTree] | None,
    log_likelihood: Callable[[PyTree, PyTree], Any] | None,
) -> list[Evaluator]:
    """Functions of many thetas and one data set that return names and columns."""
    found = [_numbers if quantities is None else _mapped(quantities, "quantity")]
    return found + ([] if log_likelihood is None else [_mapped(log_likelihood, "log_likelihood")])


def evaluate(measured: list[Evaluator], truth: PyTree, draws: PyTree, data: PyTree) -> Columns:
    """Names, and values at the truth and at every draw, shape (1 + L, quantities).

    Truth and draws go through one call, so that equal values stay equal.
    """
    theta = jax.tree.map(
        lambda true, drawn: np.concatenate([np.asarray(true)[None], np.asarray(drawn)]),
        truth,
        draws,
    )
    found = [one(theta, data) for one in measured]
    names = tuple(name for group, _ in found for name in group)
    values = np.concatenate([columns for _, columns in found], axis=1)
    if len(set(names)) != len(names) or not names:
        raise InvalidArgumentError(
            f"quantities must have different names, log_likelihood once; got {names}."
        )
    counts = np.isnan(values).sum(axis=0)
    if counts.any():
        worst = int(counts.argmax())
        where = "the truth among them" if np.isnan(values[0, worst]) else "the truth is not"
        raise InvalidArgumentError(
            f"quantities must be numbers; {names[worst]} is NaN at {counts[worst]} of "
            f"{len(values)} thetas, {where}."
        )
    return names, values


def _mapped(function: Callable, default: str) -> Evaluator:
    mapped = jax.jit(jax.vmap(function, in_axes=(0, None)))

    def evaluator(theta: PyTree, data: PyTree) -> Columns:
        values = mapped(theta, data)
        if not jax.tree.leaves(values):
            raise InvalidArgumentError(
                f"{default} must be a number, an array or a dict of them; got {values!r}."
            )
        return number_names(values, 1, default), flatten(values, 1)

    return evaluator


def _numbers(theta: PyTree, data: PyTree) -> Columns:
    """Every number of theta, or projections and the squared norm where there are many."""
    values = flatten(theta, 1)
    if values.shape[1] <= MAX_NUMBERS:
        return number_names(theta, 1, "theta"), values
    values = values.astype(np.float64)
    size = values.shape[1]
    directions = np.random.default_rng(0).normal(size=(size, NUM_PROJECTIONS)) / np.sqrt(size)
    names = [f"projection[{i}]" for i in range(NUM_PROJECTIONS)]
    squares = (values**2).sum(axis=1, keepdims=True)
    return (*names, "squared norm"), np.concatenate([values @ directions, squares], axis=1)
