"""Operators against their matrices: adjoints, Gram matrices, norms; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neb_ppl.errors import EventShapeError, InvalidArgumentError, NonFiniteDataError
from neb_ppl.inverse import (
    blur,
    check_adjoint,
    downsample,
    fourier,
    from_function,
    from_matrix,
    gaussian,
    gaussian_kernel,
    identity,
    mask,
    projections,
    stack,
    weighted,
)
from neb_ppl.inverse.gram import DiagonalGram, FourierGram, KrylovGram

SHAPE = (8, 8)
RNG = np.random.default_rng(0)
KEEP = RNG.random(SHAPE) < 0.4
KERNEL = RNG.random((3, 4)) / 12
OPERATORS = {
    "identity": identity(SHAPE),
    "mask": mask(KEEP),
    "blur, periodic": blur(KERNEL, SHAPE),
    "blur, zero": blur(KERNEL, SHAPE, "zero"),
    "blur, reflect": blur(KERNEL, SHAPE, "reflect"),
    "blur, edge": blur(KERNEL, SHAPE, "edge"),
    "downsample": downsample(2, SHAPE),
    "fourier": fourier(KEEP),
    "matrix": from_matrix(RNG.normal(size=(5, 64)), SHAPE),
    "projections": projections([0.0, 0.5, 1.2], SHAPE),
    "weights": weighted(RNG.random(SHAPE), identity(SHAPE)),
    "gain": weighted(2.0, blur(KERNEL, SHAPE)),
    "weighted blur": weighted(RNG.random(SHAPE), blur(KERNEL, SHAPE)),
    "composed": downsample(2, SHAPE) @ blur(KERNEL, SHAPE),
    "stacked": stack([downsample(2, SHAPE), mask(KEEP)]),
    "function": from_function(lambda gain, x: gain * x.sum(0), SHAPE, params=2.0),
}


def columns(operator) -> np.ndarray:
    """The matrix, column by column: nothing of the adjoint is used."""
    basis = jnp.eye(64).reshape(64, *SHAPE)
    return np.asarray(jax.vmap(operator)(basis)).reshape(64, -1).T.astype(np.float64)


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]


def test_matrix_and_adjoint(operator):
    """Errors are float32 rounding: 64 products of numbers of order 1."""
    np.testing.assert_allclose(operator.matrix(), columns(operator), atol=2e-6)
    check_adjoint(operator, operator.adjoint, SHAPE)


def test_functions_of_the_gram_matrix(operator):
    whole = columns(operator)
    gram = whole @ whole.T
    shifted = 2 * np.eye(len(gram)) + 0.3 * gram
    r = np.random.default_rng(1).normal(size=operator.out_shape).astype(np.float32)
    solved = np.linalg.solve(shifted, r.ravel())
    found = operator.gram()
    np.testing.assert_allclose(np.ravel(found.solve(2.0, 0.3, r)), solved, atol=1e-5)
    np.testing.assert_allclose(found.quadratic(2.0, 0.3, r), r.ravel() @ solved, rtol=1e-5)
    determinant = np.linalg.slogdet(shifted)[1]
    np.testing.assert_allclose(found.log_determinant(2.0, 0.3), determinant, rtol=1e-5)
    np.testing.assert_allclose(operator.norm(), np.linalg.norm(whole, 2), rtol=1e-5)


@pytest.mark.parametrize("gain", [1e-3, 0.5, 300.0])
def test_norms_without_a_matrix(gain):
    """Of over 256 outputs: where the Krylov space is exhausted at once, and where it is not."""
    same = from_function(lambda x: gain * x, (300,))
    assert float(same.norm()) == pytest.approx(gain, rel=1e-5)
    pooled = weighted(gain, downsample(2, (40, 40)) @ identity((40, 40)))
    assert float(pooled.norm()) == pytest.approx(gain / 2, rel=1e-4)
    blurred = weighted(gain, blur(gaussian_kernel(1.0, 5), (20, 20), "zero"))
    exact = np.linalg.norm(columns_of(blurred), 2)
    assert float(blurred.norm()) == pytest.approx(exact, rel=1e-3)


def test_batches_are_refused(operator):
    """A mask would pick entries of the first event, a matrix fail in its own words."""
    batch = np.zeros((3, *operator.in_shape))
    with pytest.raises(EventShapeError, match="jax.vmap"):
        operator(batch)
    with pytest.raises(EventShapeError, match="one event"):
        gaussian(operator, np.zeros(operator.out_shape), 1.0).log_likelihood(batch[..., None])


def test_cheap_structure_is_found():
    assert isinstance(OPERATORS["fourier"].gram(), DiagonalGram)
    assert isinstance(OPERATORS["weights"].gram(), DiagonalGram)
    assert isinstance(OPERATORS["gain"].gram(), FourierGram)


def test_large_ones_are_solved_without_a_matrix():
    operator = blur(np.full((5, 5), 0.04), (28, 28), "zero")
    gram = operator.gram()
    assert isinstance(gram, KrylovGram)
    r = np.random.default_rng(0).normal(size=(28, 28)).astype(np.float32)
    solved = gram.solve(1.0, -0.8, r)
    np.testing.assert_allclose(solved - 0.8 * gram.product(solved), r, atol=1e-5)
    exact = np.linalg.norm(columns_of(operator), 2)
    assert 0.999 * exact < operator.norm() <= 1.0001 * exact


def columns_of(operator) -> np.ndarray:
    basis = jnp.eye(operator.in_size).reshape(-1, *operator.in_shape)
    return np.asarray(jax.vmap(operator)(basis)).reshape(operator.in_size, -1).T


def test_boundaries_agree_inside_and_differ_at_the_edge():
    inside, edge = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    inside[4, 4] = edge[0, 0] = 1
    periodic = blur(KERNEL, SHAPE)
    for boundary in ("zero", "reflect", "edge"):
        other = blur(KERNEL, SHAPE, boundary)
        np.testing.assert_allclose(other(inside), periodic(inside), atol=1e-6)
        assert np.abs(other(edge) - periodic(edge)).max() > 1e-2


def test_a_mask_takes_whole_events_and_other_masks_compile_nothing(compilations):
    other = np.roll(KEEP, 1, axis=0)
    x = jnp.asarray(RNG.normal(size=SHAPE), jnp.float32)
    np.testing.assert_array_equal(mask(KEEP).select(x), x[KEEP])
    seen = jax.jit(lambda operator, x: operator(x))
    seen(mask(KEEP), x)
    another = mask(other)
    with compilations() as count:
        found = seen(another, x)
    assert not count
    np.testing.assert_array_equal(found, x[other])


@pytest.mark.parametrize("kind", [int, float, np.uint8])
def test_zeros_and_ones_are_a_mask(kind):
    np.testing.assert_array_equal(mask(KEEP.astype(kind)).index, mask(KEEP).index)
    np.testing.assert_array_equal(fourier(KEEP.astype(kind)).index, fourier(KEEP).index)
    under_jit = jax.jit(lambda x: mask(KEEP.astype(kind))(x))
    np.testing.assert_array_equal(under_jit(jnp.ones(SHAPE)), np.ones(KEEP.sum()))


def test_a_blur_width_may_be_differentiated():
    x = jnp.asarray(RNG.normal(size=SHAPE), jnp.float32)

    def total(width):
        operator = blur(gaussian_kernel(width, 5), SHAPE)
        return jnp.sum(operator(x) ** 2) + operator.gram().log_determinant(1.0, 0.5)

    step = 1e-2
    numeric = (total(1 + step) - total(1 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(total)(1.0), numeric, rtol=1e-2)


def test_gaussian_kernels_sum_to_one():
    kernel = gaussian_kernel(0.7, 5)
    assert kernel.shape == (5, 5)
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "build, error, words",
    [
        (lambda: mask([0, 3, 5]), InvalidArgumentError, "0 to 5. With indices: keep = np.zeros"),
        (lambda: mask(True), InvalidArgumentError, "one number"),
        (lambda: jax.jit(mask)(KEEP), InvalidArgumentError, "keep is traced by jax.jit"),
        (lambda: mask([[True], [True, False]]), InvalidArgumentError, "keep must be numbers"),
        (lambda: mask(np.zeros(SHAPE, bool)), InvalidArgumentError, "0 of 64 entries kept"),
        (lambda: fourier(np.full(SHAPE, 2)), InvalidArgumentError, "2 to 2"),
        (lambda: blur(np.ones(3), SHAPE), EventShapeError, "as many axes"),
        (lambda: blur(np.ones((9, 9)), SHAPE), EventShapeError, "fit in"),
        (lambda: blur(KERNEL, SHAPE, "mirror"), InvalidArgumentError, "mirror"),
        (lambda: downsample(3, SHAPE), InvalidArgumentError, "divide"),
        (lambda: downsample(SHAPE, 2), InvalidArgumentError, "The order is downsample"),
        (lambda: from_matrix(np.ones((2, 63)), SHAPE), EventShapeError, "63 columns"),
        (lambda: from_matrix(np.ones(3)), EventShapeError, "(3,)"),
        (lambda: from_function(lambda x: x**2, SHAPE), InvalidArgumentError, "not linear"),
        (lambda: from_function(lambda x: x + 1, SHAPE), InvalidArgumentError, "not linear"),
        (lambda: from_function(lambda x: x.clip(-9, 9), SHAPE), InvalidArgumentError, "10000 a"),
        (lambda: weighted(np.ones(3), identity(SHAPE)), EventShapeError, "(3,)"),
        (lambda: downsample(2, SHAPE) @ downsample(2, SHAPE), EventShapeError, "not take what B"),
        (lambda: stack([identity((3,)), identity((4,))]), EventShapeError, "same events"),
        (lambda: projections([0.0], (4, 6)), EventShapeError, "square"),
        (lambda: identity(()), EventShapeError, "()"),
        (lambda: identity(SHAPE) @ np.eye(64), InvalidArgumentError, "from_matrix"),
        (lambda: from_matrix([[1.0, np.nan]]), NonFiniteDataError, "matrix must hold finite"),
        (lambda: from_matrix([[1.0, 2.0j]]), InvalidArgumentError, "complex"),
        (lambda: from_matrix(None), InvalidArgumentError, "got None"),
        (lambda: blur(np.full((3, 3), np.nan), SHAPE), NonFiniteDataError, "9 of 9"),
        (lambda: weighted(np.inf, identity(SHAPE)), NonFiniteDataError, "weights"),
        (lambda: projections([np.nan], (4, 4)), NonFiniteDataError, "angles"),
        (lambda: gaussian_kernel(-1.0, 3), InvalidArgumentError, "width must be a positive"),
        (lambda: gaussian_kernel("1", 3), InvalidArgumentError, "width must be a number"),
        (lambda: gaussian_kernel(1.0, 3.5), InvalidArgumentError, "size must be a whole"),
        (lambda: from_function(3, SHAPE), InvalidArgumentError, "function must be"),
        (
            lambda: check_adjoint(identity(SHAPE), lambda o: 1.01 * o, SHAPE),
            InvalidArgumentError,
            "not the adjoint",
        ),
        (
            lambda: check_adjoint(identity((10**6,)), lambda o: 1.001 * o, (10**6,)),
            InvalidArgumentError,
            "not the adjoint",
        ),
        (
            lambda: check_adjoint(identity(SHAPE), lambda o: jnp.nan * o, SHAPE),
            InvalidArgumentError,
            "not the adjoint",
        ),
        (
            lambda: from_function(lambda x: 1e-5 + x / 1000, SHAPE),
            InvalidArgumentError,
            "not linear",
        ),
    ],
)  # fmt: skip
def test_refused(build, error, words):
    with pytest.raises(error) as caught:
        build()
    assert words in str(caught.value)
