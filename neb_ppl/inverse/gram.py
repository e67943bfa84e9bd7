r"""The matrix :math:`A A^T` of an operator, in coordinates where it is easy to invert.

Everything that a linear-Gaussian observation needs is a function of :math:`c_0 I + c_1 A A^T`.
"""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neb_ppl._precise import matmul
from neb_ppl._pytree import is_constant, static, value
from neb_ppl.estimators import lanczos
from neb_ppl.types import Array, Float, Scalar

__all__ = [
    "KRYLOV_STEPS", "DenseGram", "DiagonalGram", "FourierGram", "Gram", "KrylovGram", "dense_gram",
]  # fmt: skip

KRYLOV_STEPS = 100
NORM_STEPS = 40
KRYLOV_TOLERANCE = 1e-6


class Gram(abc.ABC):
    r""":math:`G = A A^T`; residuals r have the operator's output shape."""

    has_determinant: ClassVar[bool] = True

    @abc.abstractmethod
    def solve(self, c0: Any, c1: Any, r: Array) -> Array:
        """``(c0 I + c1 G)^{-1} r``."""

    def quadratic(self, c0: Any, c1: Any, r: Array) -> Scalar:
        """``r^T (c0 I + c1 G)^{-1} r``."""
        return jnp.vdot(r, self.solve(c0, c1, r))

    @abc.abstractmethod
    def log_determinant(self, c0: Any, c1: Any) -> Scalar:
        """``log det(c0 I + c1 G)``."""

    @abc.abstractmethod
    def norm(self) -> Scalar:
        """Largest eigenvalue of G: the squared norm of the operator."""


class _Diagonalised(Gram):
    """A Gram matrix whose eigenvectors are known."""

    eigenvalues: Array

    @abc.abstractmethod
    def forward(self, r: Array) -> Array:
        """Coordinates of r in the orthonormal eigenbasis."""

    @abc.abstractmethod
    def backward(self, z: Array) -> Array:
        """The inverse of `forward`."""

    def solve(self, c0: Any, c1: Any, r: Array) -> Array:
        """By division in the eigenbasis."""
        return self.backward(self.forward(r) / (c0 + c1 * self.eigenvalues))

    def quadratic(self, c0: Any, c1: Any, r: Array) -> Scalar:
        """One way into the eigenbasis, none back."""
        z = self.forward(r)
        return jnp.sum((z.real**2 + z.imag**2) / (c0 + c1 * self.eigenvalues))

    def log_determinant(self, c0: Any, c1: Any) -> Scalar:
        """Sum over the spectrum."""
        return jnp.sum(jnp.log(c0 + c1 * self.eigenvalues))

    def norm(self) -> Scalar:
        """The largest of the eigenvalues."""
        return jnp.max(self.eigenvalues)


@value
class DiagonalGram(_Diagonalised):
    """Rows that are orthogonal: masks, means over blocks, frequencies. c0 may be an array."""

    eigenvalues: Array

    def forward(self, r: Array) -> Array:
        """As it is."""
        return r

    def backward(self, z: Array) -> Array:
        """As it is."""
        return z


@value
class FourierGram(_Diagonalised):
    """Periodic convolutions."""

    eigenvalues: Array

    def forward(self, r: Array) -> Array:
        """Discrete Fourier transform over all axes."""
        return jnp.fft.fftn(r, norm="ortho")

    def backward(self, z: Array) -> Array:
        """Inverse transform."""
        return jnp.fft.ifftn(z, norm="ortho").real


@value
class DenseGram(_Diagonalised):
    """A matrix, decomposed. Eigenvectors of equal eigenvalues have no derivative: none is taken."""

    matrix: Float[Array, "m m"]
    eigenvalues: Float[Array, " m"]
    eigenvectors: Float[Array, "m m"]
    shape: tuple[int, ...] = static()

    def forward(self, r: Array) -> Array:
        """Product with the eigenvectors."""
        return matmul(self.eigenvectors.T, jnp.ravel(r))

    def backward(self, z: Array) -> Array:
        """Product with their transpose."""
        return matmul(self.eigenvectors, z).reshape(self.shape)

    def solve(self, c0: Any, c1: Any, r: Array) -> Array:
        """By division in the eigenbasis; derivatives are those of the equations, by the matrix."""
        divide = super().solve

        def product(v: Array) -> Array:
            return c0 * v + c1 * matmul(self.matrix, jnp.ravel(v)).reshape(self.shape)

        return jax.lax.custom_linear_solve(
            product, r, lambda _, r: divide(c0, c1, r), symmetric=True
        )

    quadratic = Gram.quadratic


@value
class KrylovGram(Gram):
    """Products with G alone: solved by conjugate gradients, the determinant unknown."""

    has_determinant: ClassVar[bool] = False
    operator: Any
    largest: Scalar

    def product(self, r: Array) -> Array:
        """``A A^T r``."""
        return self.operator(self.operator.adjoint(r))

    def solve(self, c0: Any, c1: Any, r: Array) -> Array:
        """Conjugate gradients: a few products where c0 I dominates, 100 at most."""

        def matrix(v: Array) -> Array:
            return c0 * v + c1 * self.product(v)

        solution, _ = jax.scipy.sparse.linalg.cg(
            matrix, r, tol=KRYLOV_TOLERANCE, maxiter=KRYLOV_STEPS
        )
        # Below 0 conjugate gradients would return numbers that mean nothing.
        return jnp.where(c0 + c1 * self.largest > 0, solution, jnp.nan)

    def log_determinant(self, c0: Any, c1: Any) -> Scalar:
        """Left out: a constant, unless c0, c1 or the operator move, which is refused.

        Raises
        ------
        TypeError
            Differentiated in any of them.
        """
        return _constant_determinant((self, c0, c1))

    def norm(self) -> Scalar:
        """By Lanczos, when it was made."""
        return self.largest


def dense_gram(matrix: Float[Array, "m d"], shape: tuple[int, ...]) -> DenseGram:
    """The Gram matrix of a matrix, decomposed: m^3 once.

    Where its eigenvalues agree, second derivatives of `log_determinant` in its entries are NaN.
    """
    gram = matmul(matrix, matrix.T)
    eigenvalues, eigenvectors = jnp.linalg.eigh(gram)
    eigenvectors = jax.lax.stop_gradient(eigenvectors)
    # Zeros that rounding left below 0 are 0, but bend as zeros do: no kink for derivatives.
    eigenvalues = eigenvalues + jax.lax.stop_gradient(jnp.maximum(-eigenvalues, 0.0))
    return DenseGram(gram, eigenvalues, eigenvectors, shape)


def largest_eigenvalue(
    product: Callable[[Array], Array], start: Array, num_steps: int = NORM_STEPS
) -> Scalar:
    """Largest eigenvalue of a symmetric positive map, by Lanczos: from below."""

    def flat(v: Array) -> Array:
        return jnp.ravel(product(v.reshape(start.shape)))

    eigenvalues, _, _ = lanczos(flat, jnp.ravel(start), min(num_steps, start.size))
    return eigenvalues[-1]


@jax.custom_jvp
def _constant_determinant(numbers: tuple[KrylovGram, Any, Any]) -> Scalar:
    return jnp.zeros((), numbers[0].largest.dtype)


@partial(_constant_determinant.defjvp, symbolic_zeros=True)
def _refuse_latents(primals: tuple, tangents: tuple) -> tuple:
    if not is_constant(tangents):
        raise TypeError(
            "noise scale, sigma or operator are differentiated, and with them a determinant that "
            "is not known: the operator has over 256 outputs and no structure. Use one that has "
            "(mask, periodic blur, downsample, fourier), or fewer outputs."
        )
    value = _constant_determinant(*primals)
    return value, jnp.zeros_like(value)
