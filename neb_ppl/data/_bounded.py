"""Reading files that may be damaged or hostile: never more memory than was agreed on."""

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from neb_ppl.errors import DataFormatError, DataNotFoundError, NebPPLError

MAX_BYTES = 4 * 2**30
_CHUNK = 2**20
# Deflate codes at most 258 bytes in two bits.
_MAX_DEFLATE_RATIO = 1032
_PARSER_ERRORS = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Readable(Protocol):
    """Anything with ``read``."""

    def read(self, size: int, /) -> bytes: ...


@contextlib.contextmanager
def open_data(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a data file; whatever its parser trips over leaves as `DataFormatError`."""
    if not Path(path).is_file():
        raise DataNotFoundError(f"No file {path}. Nothing is downloaded: give the path of a file.")
    with open(path, "rb") as file:
        try:
            yield file
        except NebPPLError:
            raise
        except _PARSER_ERRORS as error:
            raise DataFormatError(
                f"{path} is damaged or not what its name says: {error}. Fetch it again."
            ) from error


def require_deflatable(
    path: str | os.PathLike[str], num_bytes: int, compressed: int, max_bytes: int
) -> None:
    """Refuse a declared size beyond the cap, or beyond what so few compressed bytes can hold."""
    if num_bytes > max_bytes:
        raise DataFormatError(
            f"{path} declares {num_bytes:,} bytes of data once decompressed; expected at most "
            f"max_bytes={max_bytes:,}. Raise max_bytes if you trust the file."
        )
    if num_bytes > _MAX_DEFLATE_RATIO * compressed:
        raise DataFormatError(
            f"{path} declares {num_bytes:,} bytes of data, but its {compressed:,} compressed bytes "
            f"hold at most {_MAX_DEFLATE_RATIO * compressed:,}. Fetch it again."
        )


def read_exactly(path: str | os.PathLike[str], stream: Readable, num_bytes: int) -> bytearray:
    """The next `num_bytes` bytes, which must be there and be the last ones.

    Memory grows with what is read, so a header that lies costs nothing.
    """
    data = bytearray()
    while len(data) < num_bytes:
        chunk = stream.read(min(_CHUNK, num_bytes - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) < num_bytes or stream.read(1):
        seen = f"only {len(data):,}" if len(data) < num_bytes else "more"
        raise DataFormatError(
            f"{path} holds {seen} bytes of data; its header expects exactly {num_bytes:,}. "
            "Fetch it again."
        )
    return data
