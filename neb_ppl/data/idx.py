"""IDX files, the format of MNIST, read without trust in their headers."""

import gzip
import math
import os
from typing import BinaryIO, NamedTuple

import numpy as np

from neb_ppl.data._bounded import (
    MAX_BYTES,
    Readable,
    open_data,
    read_exactly,
    require_deflatable,
)
from neb_ppl.errors import DataFormatError

__all__ = ["read_idx"]

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_DIMS = 32
_GZIP_MAGIC = b"\x1f\x8b"


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    header_bytes: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Read an IDX file, gzipped or not (told by content, not by name).

    Parameters
    ----------
    path : path
    max_bytes : int
        Largest decompressed size that is accepted.

    Returns
    -------
    numpy array
        Shape and dtype of the header, in native byte order.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    DataFormatError
        If magic number, dtype code or sizes are wrong, or the file is truncated, too long or
        corrupt. Sizes are compared with the file before anything is allocated.
    """
    with open_data(path) as file:
        size = os.fstat(file.fileno()).st_size
        if _starts_with_gzip(file):
            with gzip.GzipFile(fileobj=file, mode="rb") as stream:
                header = _read_header(path, stream)
                require_deflatable(path, header.header_bytes + header.data_bytes, size, max_bytes)
                data = read_exactly(path, stream, header.data_bytes)
        else:
            header = _read_header(path, file)
            _require_size(path, header, size)
            data = read_exactly(path, file, header.data_bytes)
        values = np.frombuffer(data, header.dtype).reshape(header.shape)
        return values.astype(header.dtype.newbyteorder("="), copy=False)


def _starts_with_gzip(file: BinaryIO) -> bool:
    start = file.read(2)
    file.seek(0)
    return start == _GZIP_MAGIC


def _read_header(path: str | os.PathLike[str], stream: Readable) -> _Header:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataFormatError(
            f"{path} starts with bytes {magic.hex(' ') or '(none)'}; an IDX file starts with "
            "00 00, a dtype code and the number of axes. Is it another format?"
        )
    code, num_dims = magic[2], magic[3]
    if code not in _DTYPES or not 1 <= num_dims <= _MAX_DIMS:
        raise DataFormatError(
            f"{path} has dtype code {code} and {num_dims} axes; expected a code among "
            f"{sorted(_DTYPES)} and 1 to {_MAX_DIMS} axes. Is it an IDX file?"
        )
    sizes = stream.read(4 * num_dims)
    shape = tuple(np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4").tolist())
    if len(sizes) < 4 * num_dims or 0 in shape:
        raise DataFormatError(
            f"{path} declares axes {shape}; expected {num_dims} sizes of at least 1. "
            "The file is empty or truncated: fetch it again."
        )
    return _Header(np.dtype(_DTYPES[code]), shape, 4 + 4 * num_dims)


def _require_size(path: str | os.PathLike[str], header: _Header, size: int) -> None:
    expected = header.header_bytes + header.data_bytes
    if size != expected:
        raise DataFormatError(
            f"{path} has {size:,} bytes; its header (shape {header.shape}, dtype {header.dtype}) "
            f"expects {expected:,}. Fetch it again."
        )
