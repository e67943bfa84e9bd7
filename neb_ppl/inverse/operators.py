r"""Linear forward operators :math:`A`, without matrices: what an observation sees of x.

An operator is a pytree that maps one event to its output; the adjoint comes from
`jax.linear_transpose`. Compose them with ``@``: ``Downsample(2) @ Blur(kernel)`` blurs first.
"""

import abc
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from neb_ppl._checks import as_finite, check_shape
from neb_ppl._precise import matmul
from neb_ppl._pytree import static, value
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.inverse.gram import (
    DenseGram,
    DiagonalGram,
    FourierGram,
    Gram,
    KrylovGram,
    dense_gram,
    largest_eigenvalue,
)
from neb_ppl.types import Array, ArrayLike, Event, Float, PyTree, Scalar

__all__ = [
    "LinearOperator",
    "check_adjoint",
    "from_function",
    "from_matrix",
    "identity",
    "stack",
    "weighted",
]

DENSE_SIZE = 256
LINEARITY = 1e-3


class LinearOperator(abc.ABC):
    """A linear map of one event; batch it with `jax.vmap`.

    Subclasses are pytrees with their two shapes and `apply`.

    Attributes
    ----------
    in_shape, out_shape : tuple of int
        Of one event x and of what is seen of it.
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    @abc.abstractmethod
    def apply(self, x: Event) -> Array:
        """``A x`` of one event: what an operator of your own defines, besides its shapes."""

    def __call__(self, x: Event) -> Array:
        """``A x``."""
        x = jnp.asarray(x)
        shape = x.shape
        if shape != self.in_shape:
            hint = "Reshape it, or make the operator for this shape."
            if shape[len(shape) - len(self.in_shape) :] == self.in_shape:
                hint = "Operators take one event without batch axes: batch with jax.vmap."
            raise EventShapeError(
                f"x has shape {shape}; expected one event {self.in_shape}. {hint}"
            )
        return self.apply(x)

    def adjoint(self, o: Array) -> Event:
        """``A^T o``, by transposing the program of ``A x``."""
        example = jax.ShapeDtypeStruct(self.in_shape, o.dtype)
        (x,) = jax.linear_transpose(self.__call__, example)(o)
        return x

    def gram(self) -> Gram:
        """``A A^T`` in the coordinates that suit it: dense up to 256 outputs, Krylov beyond."""
        if self.out_size <= DENSE_SIZE:
            return dense_gram(self.matrix(), self.out_shape)
        start = jax.random.normal(jax.random.key(0), self.out_shape)
        largest = largest_eigenvalue(lambda v: self(self.adjoint(v)), start)
        return KrylovGram(self, largest)

    def norm(self) -> Scalar:
        """Operator norm ``||A||``: the largest factor by which A stretches an event."""
        return jnp.sqrt(self.gram().norm())

    def matrix(self) -> Float[Array, "m d"]:
        """A as a matrix on raveled events: m adjoints, ``m * d`` numbers."""
        rows = jnp.eye(self.out_size).reshape(self.out_size, *self.out_shape)
        return jax.vmap(self.adjoint)(rows).reshape(self.out_size, -1)

    def select(self, o: Array) -> Array:
        """An observation in the operator's output shape."""
        return o

    @property
    def in_size(self) -> int:
        """Numbers in one event."""
        return int(np.prod(self.in_shape, dtype=int))

    @property
    def out_size(self) -> int:
        """Numbers in one output."""
        return int(np.prod(self.out_shape, dtype=int))

    def __matmul__(self, first: "LinearOperator") -> "LinearOperator":
        if not isinstance(first, LinearOperator):
            raise InvalidArgumentError(
                f"A @ B composes two operators; B is a {type(first).__name__}. Wrap a matrix in "
                "neb_ppl.inverse.from_matrix; apply A to an event by A(x)."
            )
        if first.out_shape != self.in_shape:
            raise EventShapeError(
                f"A @ B applies B first, and here A = {self!r} does not take what B = {first!r} "
                "gives."
            )
        return _Composed(self, first)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({self.in_shape} -> {self.out_shape})"


def identity(event_shape: tuple[int, ...]) -> LinearOperator:
    """Everything is seen as it is: denoising."""
    return _Identity(check_shape(event_shape))


def weighted(weights: float | ArrayLike, operator: LinearOperator) -> LinearOperator:
    """``w * (A x)``: a gain (a number), or one weight for each output."""
    weights = as_finite("weights", weights)
    if weights.shape not in ((), operator.out_shape):
        raise EventShapeError(
            f"weights must be a number or have the output's shape {operator.out_shape}; got shape "
            f"{weights.shape}."
        )
    return _Weighted(weights, operator)


def from_matrix(matrix: ArrayLike, event_shape: tuple[int, ...] | None = None) -> LinearOperator:
    """A matrix ``(m, d)`` on the raveled event.

    Parameters
    ----------
    matrix : array, shape ``(m, d)``
    event_shape : tuple of int, optional
        Default ``(d,)``.

    Raises
    ------
    EventShapeError, NonFiniteDataError
        No matrix, or events of another size; numbers that are not finite.
    """
    matrix = as_finite("matrix", matrix)
    shape = matrix.shape
    if len(shape) != 2:
        raise EventShapeError(f"matrix must have shape (m, d); got {shape}.")
    event_shape = shape[1:] if event_shape is None else check_shape(event_shape)
    if np.prod(event_shape, dtype=int) != shape[1]:
        raise EventShapeError(
            f"matrix has {shape[1]} columns; events {event_shape} hold "
            f"{np.prod(event_shape, dtype=int)} numbers."
        )
    return _Matrix(matrix, event_shape)


def from_function(
    function: Callable[..., Array], event_shape: tuple[int, ...], *, params: PyTree = None
) -> LinearOperator:
    """Any linear JAX function of one event; its adjoint is derived.

    Parameters
    ----------
    function : callable
        ``x -> A x``, or ``(params, x) -> A x`` where `params` are given: arrays that may change
        without compiling anew, or be latent.
    event_shape : tuple of int
    params : pytree, optional

    Raises
    ------
    InvalidArgumentError
        A function that is not linear: ``f(c a + b) = c f(a) + f(b)`` is tried on random events, for
        c = 2 and, where that does not overflow, 10,000.
    """
    event_shape = check_shape(event_shape)
    if not callable(function):
        raise InvalidArgumentError(
            f"function must be x -> A x, JAX code of one event; got {type(function).__name__}."
        )
    apply = function if params is None else lambda x: function(params, x)
    key_a, key_b = jax.random.split(jax.random.key(0))
    a, b = jax.random.normal(key_a, event_shape), jax.random.normal(key_b, event_shape)
    seen = apply(a)
    for c in (2, 10_000):
        gap = jnp.abs(apply(c * a + b) - c * seen - apply(b)).max()
        if isinstance(gap, Tracer) or (c > 2 and not jnp.isfinite(gap)):
            break
        if not gap <= LINEARITY * c * jnp.abs(seen).max():
            raise InvalidArgumentError(
                f"function is not linear: f({c} a + b) differs from {c} f(a) + f(b) by "
                f"{float(gap):.3g}. Give a plain function as the observation's operator where the "
                "map is not linear."
            )
    params = None if params is None else jax.tree.map(jnp.asarray, params)
    return _Function(params, function, event_shape, jnp.shape(seen))


def stack(operators: Sequence[LinearOperator]) -> LinearOperator:
    """Several looks at the same event as one, their outputs raveled and joined."""
    operators = tuple([operators] if isinstance(operators, LinearOperator) else operators)
    if not operators:
        raise InvalidArgumentError("operators must hold at least one LinearOperator; got none.")
    shapes = {operator.in_shape for operator in operators}
    if len(shapes) != 1:
        raise EventShapeError(f"operators must take the same events; got {sorted(shapes)}.")
    return _Stacked(operators)


def check_adjoint(
    operator: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    event_shape: tuple[int, ...],
    *,
    tolerance: float = 1e-4,
) -> None:
    r"""Refuse an adjoint of your own that is not one.

    .. math:: \langle A x, o \rangle = \langle x, A^T o \rangle

    on eight random x, once with a random o and once with ``o = A x``, relative to ``|A x| |o|``.

    Raises
    ------
    InvalidArgumentError
        With the largest relative gap.
    """
    gaps = []
    for seed in range(8):
        key_x, key_o = jax.random.split(jax.random.key(seed))
        x = jax.random.normal(key_x, event_shape)
        seen = operator(x)
        for o in (jax.random.normal(key_o, seen.shape), seen):
            back = adjoint(o)
            if back.shape != tuple(event_shape):
                raise EventShapeError(
                    f"the adjoint gives shape {back.shape}; expected one event "
                    f"{tuple(event_shape)}."
                )
            scale = jnp.linalg.norm(jnp.ravel(seen)) * jnp.linalg.norm(jnp.ravel(o))
            gaps.append(float(abs(jnp.vdot(seen, o) - jnp.vdot(x, back)) / scale))
    largest = float(np.max(gaps))
    if not largest <= tolerance:
        raise InvalidArgumentError(
            f"this is not the adjoint: <A x, o> and <x, A^T o> differ by {largest:.2g} of "
            "|A x| |o|. Leave it out: from_function derives it."
        )


@value
class _Identity(LinearOperator):
    shape: tuple[int, ...] = static()

    @property
    def in_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.shape

    out_shape = in_shape  # pyright: ignore

    def apply(self, x: Event) -> Array:
        return x

    def gram(self) -> Gram:
        return DiagonalGram(jnp.ones(self.shape))


@value
class _Weighted(LinearOperator):
    weights: Array
    operator: LinearOperator

    @property
    def in_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.operator.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.operator.out_shape

    def apply(self, x: Event) -> Array:
        return self.weights * self.operator(x)

    def gram(self) -> Gram:
        inner = self.operator.gram()
        scalar = jnp.ndim(self.weights) == 0
        if isinstance(inner, DiagonalGram) or (scalar and isinstance(inner, FourierGram)):
            return type(inner)(self.weights**2 * inner.eigenvalues)
        if scalar and isinstance(inner, DenseGram):
            gain = self.weights**2
            return DenseGram(
                gain * inner.matrix, gain * inner.eigenvalues, inner.eigenvectors, self.out_shape
            )
        return super().gram()

    def select(self, o: Array) -> Array:
        return self.operator.select(o)


@value
class _Matrix(LinearOperator):
    entries: Float[Array, "m d"]
    in_shape: tuple[int, ...] = static()  # pyright: ignore

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return (self.entries.shape[0],)

    def apply(self, x: Event) -> Array:
        return matmul(self.entries, jnp.ravel(x))

    def matrix(self) -> Float[Array, "m d"]:
        return self.entries


@value
class _Function(LinearOperator):
    params: PyTree
    function: Callable[..., Array] = static()
    in_shape: tuple[int, ...] = static()  # pyright: ignore
    out_shape: tuple[int, ...] = static()  # pyright: ignore

    def apply(self, x: Event) -> Array:
        return self.function(x) if self.params is None else self.function(self.params, x)


@value
class _Stacked(LinearOperator):
    operators: tuple[LinearOperator, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.operators[0].in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return (sum(operator.out_size for operator in self.operators),)

    def apply(self, x: Event) -> Array:
        return jnp.concatenate([jnp.ravel(operator(x)) for operator in self.operators])


@value
class _Composed(LinearOperator):
    last: LinearOperator
    first: LinearOperator

    @property
    def in_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.first.in_shape

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.last.out_shape

    def apply(self, x: Event) -> Array:
        return self.last(self.first(x))
