"""What every entry point asks of keys and counts."""

import jax
import numpy as np

from neb_ppl.errors import InvalidArgumentError

__all__ = ["check_counts", "check_key"]


def check_key(rng_key: object) -> None:
    """A key of either kind, and not a seed."""
    if not isinstance(rng_key, jax.Array):
        raise InvalidArgumentError(
            f"rng_key must be a key, such as jax.random.key(0); got {rng_key!r}."
        )


def check_counts(**counts: int) -> None:
    """Each count must be a positive whole number."""
    for name, count in counts.items():
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise InvalidArgumentError(f"{name} must be a whole number of at least 1; got {count}.")
