"""What is seen of x, as a law given y."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from neb_ppl.errors import InvalidArgumentError
from neb_ppl.inverse.gram import Gram, KrylovGram
from neb_ppl.types import Array, PRNGKey, Scalar

__all__ = ["SplitNormal"]


class SplitNormal(dist.Distribution):
    r"""Normal law of covariance :math:`c_0 I + c_1 A A^T`, through the spectrum of A A^T.

    Parameters
    ----------
    loc : array, shape ``(*output,)``
    gram : Gram
        Of A.
    c0, c1 : scalar arrays
        ``tau**2`` and ``-sigma**2``; where the sum is not positive the density is NaN.
    """

    arg_constraints: dict[str, Any] = {}
    pytree_data_fields = ("loc", "gram", "c0", "c1")

    def __init__(
        self, loc: Array, gram: Gram, c0: Array, c1: Array, *, validate_args: bool | None = None
    ):
        self.loc, self.gram, self.c0, self.c1 = loc, gram, c0, c1
        super().__init__((), jnp.shape(loc), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Real, with as many dimensions as the output."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def log_prob(self, value: Array, intermediates: Any = None) -> Scalar:
        """Log density, but for a constant where A A^T has too many rows to be decomposed."""
        quadratic = self.gram.quadratic(self.c0, self.c1, value - self.loc)
        determinant = self.gram.log_determinant(self.c0, self.c1)
        return -0.5 * (quadratic + determinant + self.loc.size * jnp.log(2 * jnp.pi))

    def sample(self, key: PRNGKey | None = None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, shape ``(*sample_shape, *output)``."""
        assert key is not None
        if isinstance(self.gram, KrylovGram):
            raise InvalidArgumentError(
                "data of an operator with over 256 outputs and no structure cannot be drawn given "
                "y: draw x, and simulate with neb_ppl.inverse.gaussian(...)."
            )
        gram: Any = self.gram
        noise = jax.random.normal(key, (*sample_shape, *self.event_shape), self.loc.dtype)
        flat = noise.reshape(-1, *self.event_shape)
        spread = jnp.sqrt(self.c0 + self.c1 * gram.eigenvalues)
        drawn = jax.vmap(lambda z: gram.backward(spread * gram.forward(z)))(flat)
        return self.loc + drawn.reshape(noise.shape)
