"""Operators of images and signals: masks, blurs, coarse pixels, frequencies, projections."""

import jax
import jax.numpy as jnp
import numpy as np

from neb_ppl._checks import as_finite, as_numbers, check_counts, check_shape
from neb_ppl._pytree import static, value
from neb_ppl.energies.base import check_sigma
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.inverse.gram import DiagonalGram, FourierGram, Gram
from neb_ppl.inverse.operators import LinearOperator
from neb_ppl.types import Array, ArrayLike, Event, Float

__all__ = ["blur", "downsample", "fourier", "gaussian_kernel", "mask", "projections"]

BOUNDARIES = {"periodic": "wrap", "zero": "constant", "reflect": "reflect", "edge": "edge"}


def mask(keep: ArrayLike) -> LinearOperator:
    """Some entries of the event are seen, the others not: inpainting.

    Parameters
    ----------
    keep : bool array, shape ``(*event,)``
        True (or 1) where it is seen, False (or 0) where not; never indices. The output is flat,
        ``(m,)``; an observation may be given as it is or as a whole event, of which the rest is
        ignored. Another mask that keeps as many compiles nothing.

    Raises
    ------
    InvalidArgumentError
        Anything else than these, such as indices; or nothing is seen.
    """
    keep = _check_keep(keep)
    return _Mask(jnp.asarray(np.flatnonzero(keep)), check_shape(keep.shape))


def blur(
    kernel: ArrayLike, event_shape: tuple[int, ...], boundary: str = "periodic"
) -> LinearOperator:
    """Convolution with a kernel, output of the event's shape.

    Parameters
    ----------
    kernel : array
        As many axes as the event, no longer than it; its centre is entry ``n // 2``.
    event_shape : tuple of int
    boundary : "periodic", "zero", "reflect" or "edge"
        What lies outside. Periodic ones are solved exactly by FFT, and their kernel may be latent.

    Raises
    ------
    EventShapeError, InvalidArgumentError, NonFiniteDataError
    """
    event_shape = check_shape(event_shape)
    kernel = as_finite("kernel", kernel)
    if kernel.ndim != len(event_shape) or any(
        k > n for k, n in zip(kernel.shape, event_shape, strict=True)
    ):
        raise EventShapeError(
            f"kernel {kernel.shape} must have as many axes as the event {event_shape} and fit in."
        )
    if boundary not in BOUNDARIES:
        raise InvalidArgumentError(
            f"boundary must be one of {', '.join(BOUNDARIES)}; got {boundary!r}."
        )
    return _Blur(kernel, event_shape, boundary)


def gaussian_kernel(width: float | Array, size: int, ndim: int = 2) -> Array:
    """Gaussian kernel of standard deviation `width` pixels, sum 1; `width` may be latent.

    Its peak is entry ``size // 2``, where `blur` has the centre. Cut at `size`, so that kernels
    wider than about ``size / 4`` look alike, and data cannot tell such a width.
    """
    check_counts(size=size, ndim=ndim)
    width = check_sigma(width, "width")
    line = jnp.exp(-0.5 * ((jnp.arange(size) - size // 2) / width) ** 2)
    line = line / line.sum()
    kernel = line
    for _ in range(ndim - 1):
        kernel = kernel[..., None] * line
    return kernel


def downsample(factor: int, event_shape: tuple[int, ...]) -> LinearOperator:
    """Means over blocks of `factor` entries along every axis."""
    event_shape = check_shape(event_shape)
    whole = isinstance(factor, int | np.integer) and factor >= 1
    if not whole or any(n % factor for n in event_shape):
        swapped = " The order is downsample(factor, event_shape)." if np.ndim(factor) else ""
        raise InvalidArgumentError(
            f"factor must divide every axis of the event {event_shape}; got {factor!r}.{swapped}"
        )
    return _Downsample(event_shape, int(factor))


def fourier(keep: ArrayLike) -> LinearOperator:
    """Some Fourier coefficients of the event: real and imaginary parts, shape ``(2, m)``.

    Parameters
    ----------
    keep : bool array, shape ``(*event,)``
        True (or 1) where a coefficient is seen, on the grid of `numpy.fft.fftn` (orthonormal). A
        frequency and its mirror image say the same of a real event: where both are kept, one is
        left out.

    Raises
    ------
    InvalidArgumentError
    """
    keep = _check_keep(keep)
    here = np.flatnonzero(keep)
    places = np.unravel_index(here, keep.shape)
    mirrored = [(-place) % n for place, n in zip(places, keep.shape, strict=True)]
    mirror = np.asarray(np.ravel_multi_index(tuple(mirrored), keep.shape))
    first = (here <= mirror) | ~np.isin(mirror, here)
    here, mirror = here[first], mirror[first]
    return _Fourier(jnp.asarray(here), jnp.asarray(here == mirror), keep.shape)


def projections(angles: ArrayLike, event_shape: tuple[int, int]) -> LinearOperator:
    """Line integrals of an image (a small Radon transform), shape ``(angles, width)``.

    Parameters
    ----------
    angles : array, shape ``(k,)``
        In radians; 0 sums along rows' direction.
    event_shape : (int, int)
        A square image. Bilinear interpolation, rays one pixel apart, zero outside.
    """
    event_shape = check_shape(event_shape)  # pyright: ignore
    if len(event_shape) != 2 or event_shape[0] != event_shape[1]:
        raise EventShapeError(f"projections are of square images; got events {event_shape}.")
    return _Projections(as_finite("angles", angles), event_shape)


def _check_keep(keep: ArrayLike) -> np.ndarray:
    keep = as_numbers("keep", keep)
    if keep.ndim == 0 or not np.isin(keep, (0, 1)).all():
        found = f"values from {keep.min():g} to {keep.max():g}" if keep.ndim else "one number"
        raise InvalidArgumentError(
            "keep must have the event's shape, True (1) where it is seen and False (0) where not; "
            f"got {found}. With indices: keep = np.zeros(event_shape, bool); "
            "keep.flat[indices] = True."
        )
    if not keep.any():
        raise InvalidArgumentError(
            f"keep must hold at least one True; got 0 of {keep.size} entries kept."
        )
    return keep.astype(bool)


@value
class _Mask(LinearOperator):
    index: Array
    in_shape: tuple[int, ...] = static()  # pyright: ignore

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.index.shape

    def apply(self, x: Event) -> Array:
        return jnp.ravel(x)[self.index]

    def gram(self) -> Gram:
        return DiagonalGram(jnp.ones(self.index.shape))

    def select(self, o: Array) -> Array:
        return self(o) if jnp.shape(o) == self.in_shape else o


@value
class _Blur(LinearOperator):
    kernel: Array
    in_shape: tuple[int, ...] = static()  # pyright: ignore
    boundary: str = static()

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return self.in_shape

    def apply(self, x: Event) -> Array:
        if self.boundary == "periodic":
            return jnp.fft.ifftn(jnp.fft.fftn(x) * self._response()).real.astype(x.dtype)
        half = [(n - 1 - n // 2, n // 2) for n in self.kernel.shape]
        padded = jnp.pad(x, half, mode=BOUNDARIES[self.boundary])  # pyright: ignore
        return jax.scipy.signal.convolve(padded, self.kernel, mode="valid")

    def gram(self) -> Gram:
        if self.boundary == "periodic":
            return FourierGram(jnp.abs(self._response()) ** 2)
        return super().gram()

    def _response(self) -> Array:
        """Transfer function of the kernel, its centre at the origin."""
        whole = jnp.zeros(self.in_shape, self.kernel.dtype)
        whole = whole.at[tuple(slice(n) for n in self.kernel.shape)].set(self.kernel)
        shifts = [-(n // 2) for n in self.kernel.shape]
        return jnp.fft.fftn(jnp.roll(whole, shifts, axis=range(whole.ndim)))


@value
class _Downsample(LinearOperator):
    in_shape: tuple[int, ...] = static()  # pyright: ignore
    factor: int = static()

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return tuple(n // self.factor for n in self.in_shape)

    def apply(self, x: Event) -> Array:
        blocks = [length for n in self.out_shape for length in (n, self.factor)]
        return x.reshape(blocks).mean(axis=tuple(range(1, len(blocks), 2)))

    def gram(self) -> Gram:
        return DiagonalGram(jnp.full(self.out_shape, float(self.factor) ** -len(self.in_shape)))


@value
class _Fourier(LinearOperator):
    index: Array
    own_mirror: Array
    in_shape: tuple[int, ...] = static()  # pyright: ignore

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return (2, *self.index.shape)

    def apply(self, x: Event) -> Array:
        found = jnp.ravel(jnp.fft.fftn(x, norm="ortho"))[self.index]
        return jnp.stack([found.real, found.imag]).astype(x.dtype)

    def gram(self) -> Gram:
        whole = jnp.where(self.own_mirror, 1.0, 0.5)
        return DiagonalGram(jnp.stack([whole, jnp.where(self.own_mirror, 0.0, 0.5)]))


@value
class _Projections(LinearOperator):
    angles: Float[Array, " k"]
    in_shape: tuple[int, ...] = static()  # pyright: ignore

    @property
    def out_shape(self) -> tuple[int, ...]:  # pyright: ignore
        return (len(self.angles), self.in_shape[0])

    def apply(self, x: Event) -> Array:
        centre = (self.in_shape[0] - 1) / 2
        line = jnp.arange(self.in_shape[0]) - centre

        def project(angle: Array) -> Array:
            across, along = jnp.meshgrid(line, line, indexing="ij")
            rows = jnp.cos(angle) * across - jnp.sin(angle) * along + centre
            columns = jnp.sin(angle) * across + jnp.cos(angle) * along + centre
            turned = jax.scipy.ndimage.map_coordinates(x, [rows, columns], order=1)
            return turned.sum(axis=1)

        return jax.vmap(project)(self.angles)
