"""Arrays of real numbers from .npy and .npz files, without pickle and without trust."""

import ast
import math
import os
import re
import zipfile
from typing import BinaryIO, NamedTuple

import numpy as np

from neb_ppl.data._bounded import (
    MAX_BYTES,
    Readable,
    open_data,
    read_exactly,
    require_deflatable,
)
from neb_ppl.errors import DataFormatError, InvalidArgumentError

__all__ = ["load_array"]

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"
_LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4}
_MAX_HEADER = 2_048
_MAX_DIMS = 32
_REAL = re.compile(r"[<>|=][biuf][1248]")


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    order: str
    header_bytes: int

    @property
    def data_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def load_array(
    path: str | os.PathLike[str], key: str | None = None, *, max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """Load one array of real numbers from a .npy or .npz file (told by content).

    Parameters
    ----------
    path : path
    key : str, optional
        Which array of an .npz; may be left out where there is only one.
    max_bytes : int
        Largest decompressed size that is accepted from an .npz.

    Returns
    -------
    numpy array
        In native byte order.

    Raises
    ------
    DataNotFoundError
        If there is no such file.
    InvalidArgumentError
        If `key` is missing, unknown, or given for an .npy.
    DataFormatError
        If the file is malformed, empty, or holds anything but real numbers (object arrays are
        pickles and never read). Sizes are compared with the file before anything is allocated.
    """
    with open_data(path) as file:
        start = file.read(len(_NPY_MAGIC))
        file.seek(0)
        if start == _NPY_MAGIC:
            if key is not None:
                raise InvalidArgumentError(
                    f"key={key!r} was given for {path}, an .npy file with a single array. "
                    "Leave key out."
                )
            return _read_npy(path, file, os.fstat(file.fileno()).st_size)
        if start.startswith(_ZIP_MAGIC):
            return _read_npz(path, file, key, max_bytes)
        raise DataFormatError(
            f"{path} starts with bytes {start.hex(' ') or '(none)'}; expected those of an .npy "
            f"({_NPY_MAGIC.hex(' ')}) or .npz ({_ZIP_MAGIC.hex(' ')}) file. "
            "Save it with numpy.save or numpy.savez."
        )


def _read_npz(
    path: str | os.PathLike[str], file: BinaryIO, key: str | None, max_bytes: int
) -> np.ndarray:
    with zipfile.ZipFile(file) as archive:
        members = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
        member = members[_choose(path, sorted(members), key)]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataFormatError(
                f"{path}[{member.filename}] is compressed by method {member.compress_type}; "
                "expected stored or deflated, as numpy.savez writes them."
            )
        name = f"{path}[{member.filename}]"
        require_deflatable(name, member.file_size, member.compress_size, max_bytes)
        with archive.open(member) as stream:
            return _read_npy(name, stream, member.file_size)


def _choose(path: str | os.PathLike[str], keys: list[str], key: str | None) -> str:
    if key is None and len(keys) == 1:
        return keys[0]
    if key is None or key not in keys:
        raise InvalidArgumentError(
            f"key={key!r} does not name one array of {path}. Give one of its keys: {keys}."
        )
    return key


def _read_npy(path: str | os.PathLike[str], stream: Readable, size: int) -> np.ndarray:
    header = _read_header(path, stream)
    expected = header.header_bytes + header.data_bytes
    if size != expected:
        raise DataFormatError(
            f"{path} has {size:,} bytes; its header (shape {header.shape}, dtype {header.dtype}) "
            f"expects {expected:,}. Save or fetch it again."
        )
    data = read_exactly(path, stream, header.data_bytes)
    values = np.ndarray(header.shape, header.dtype, data, order=header.order)  # pyright: ignore
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _read_header(path: str | os.PathLike[str], stream: Readable) -> _Header:
    start = stream.read(8)
    version = start[6:]
    if start[:6] != _NPY_MAGIC or version not in _LENGTH_BYTES:
        raise DataFormatError(
            f"{path} starts with bytes {start.hex(' ') or '(none)'}; expected an .npy header of "
            "version 1.0 or 2.0 (3.0 is for records only). Save it with numpy.save."
        )
    num_length = _LENGTH_BYTES[version]
    length = int.from_bytes(stream.read(num_length), "little")
    if length > _MAX_HEADER:
        raise DataFormatError(
            f"{path} declares a header of {length:,} bytes; expected at most {_MAX_HEADER:,}."
        )
    descr, shape, fortran = _parse_header(path, stream.read(length))
    return _Header(
        _real_dtype(path, descr), shape, "F" if fortran else "C", 8 + num_length + length
    )


def _parse_header(path: str | os.PathLike[str], raw: bytes) -> tuple[object, tuple[int, ...], bool]:
    try:
        fields = ast.literal_eval(raw.decode("latin1").strip())
        descr, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError) as error:
        raise DataFormatError(
            f"{path} has an unreadable .npy header {raw[:60]!r}; expected a dictionary with "
            "descr, fortran_order and shape. Save it with numpy.save."
        ) from error
    regular = isinstance(shape, tuple) and all(type(n) is int and n > 0 for n in shape)
    if not regular or len(shape) > _MAX_DIMS or not isinstance(fortran, bool):
        raise DataFormatError(
            f"{path} declares shape {shape!r} and fortran_order {fortran!r}; expected at most "
            f"{_MAX_DIMS} sizes of at least 1 (no empty arrays) and a bool."
        )
    return descr, shape, fortran


def _real_dtype(path: str | os.PathLike[str], descr: object) -> np.dtype:
    try:
        if isinstance(descr, str) and _REAL.fullmatch(descr):
            return np.dtype(descr)
    except TypeError:
        pass
    raise DataFormatError(
        f"{path} holds dtype {descr!r}; expected real numbers (bool, int or float of up to 8 "
        "bytes). Object arrays are pickles and never read: save a plain numeric array."
    )
