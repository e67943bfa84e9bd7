"""Malformed IDX files are refused by name, before memory is spent on them (fault 27)."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neb_ppl.data import read_idx
from neb_ppl.errors import DataFormatError, DataNotFoundError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def encode(values):
    code = CODES[values.dtype.str[1:]]
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return (
        bytes([0, 0, code, values.ndim])
        + sizes
        + values.astype(values.dtype.newbyteorder(">")).tobytes()
    )


def write(folder, data):
    path = folder / "some-idx3-ubyte"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    values=st.sampled_from(sorted(CODES)).flatmap(
        lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(max_dims=4, max_side=5))
    ),
    compress=st.booleans(),
)
def test_round_trip(folder, values, compress):
    data = encode(values)
    result = read_idx(write(folder, gzip.compress(data) if compress else data))
    assert result.dtype == values.dtype and result.dtype.isnative
    np.testing.assert_array_equal(result, values)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), compress=st.booleans())
def test_mutated_file_is_read_in_full_or_refused(folder, data, compress):
    raw = bytearray(gzip.compress(encode(IMAGES)) if compress else encode(IMAGES))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=3))
    path = write(folder, raw)
    try:
        assert read_idx(path).nbytes == IMAGES.nbytes
    except DataFormatError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"\(none\)"),
        (b"\x89PNG....", "89 50 4e 47"),
        (encode(IMAGES)[:10], "expected 3 sizes"),
        (b"\0\0\x0a\x01\0\0\0\x01z", "dtype code 10"),
        (b"\0\0\x08\x00z", "0 axes"),
        (b"\0\0\x08\x01\0\0\0\0", r"declares axes \(0,\)"),
        (encode(IMAGES)[:-1], "24|40"),
        (encode(IMAGES) + b"z", "24|40"),
    ],
    ids=["empty", "png", "short-header", "dtype", "no-axes", "no-items", "truncated", "too-long"],
)
def test_malformed(tmp_path, data, message, compress):
    path = write(tmp_path, gzip.compress(data) if compress else data)
    with pytest.raises(DataFormatError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cut", [4, 30])
def test_truncated_gzip(tmp_path, cut):
    with pytest.raises(DataFormatError, match="damaged|declares"):
        read_idx(write(tmp_path, gzip.compress(encode(IMAGES))[:-cut]))


def test_corrupt_gzip_checksum(tmp_path):
    data = bytearray(gzip.compress(encode(IMAGES)))
    data[-6] ^= 1
    with pytest.raises(DataFormatError, match="CRC"):
        read_idx(write(tmp_path, data))


def huge_header(num_items):
    return b"\0\0\x08\x01" + struct.pack(">I", num_items)


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compress", [False, True])
def test_header_that_promises_too_much_costs_no_memory(tmp_path, compress):
    data = huge_header(2**31) + bytes(100)
    path = write(tmp_path, gzip.compress(data) if compress else data)

    def refused():
        with pytest.raises(DataFormatError, match="2,147,483,6"):
            read_idx(path)

    assert peak_bytes(refused) < 2**20


def test_bomb_behind_a_small_header_is_not_unpacked(tmp_path):
    path = write(tmp_path, gzip.compress(huge_header(10) + bytes(30 * 2**20)))

    def refused():
        with pytest.raises(DataFormatError, match="more bytes"):
            read_idx(path)

    assert peak_bytes(refused) < 3 * 2**20


def test_decompressed_size_is_capped(tmp_path):
    path = write(tmp_path, gzip.compress(encode(IMAGES)))
    with pytest.raises(DataFormatError, match="max_bytes=39"):
        read_idx(path, max_bytes=39)
    assert read_idx(path, max_bytes=40).shape == IMAGES.shape


def test_missing_file(tmp_path):
    with pytest.raises(DataNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
