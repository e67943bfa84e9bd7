"""Arrays from .npy and .npz: only real numbers, only what the file can hold (fault 27)."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neb_ppl.data import load_array
from neb_ppl.errors import DataFormatError, DataNotFoundError, InvalidArgumentError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
DTYPES = st.sampled_from(["?", "u1", "i8", "<f2", "<f4", ">f4", ">i4", "f8"])


def encode(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def write(folder, data):
    path = folder / "some.npy"
    path.write_bytes(data)
    return path


def write_npz(folder, **members):
    path = folder / "some.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


def npy_with_header(header, body=b""):
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    values=DTYPES.flatmap(lambda d: hnp.arrays(np.dtype(d), hnp.array_shapes(min_dims=0))),
    fortran=st.booleans(),
    npz=st.booleans(),
)
def test_round_trip(folder, values, fortran, npz):
    values = np.asarray(values, order="F" if fortran else "C")
    path = write_npz(folder, a=encode(values)) if npz else write(folder, encode(values))
    result = load_array(path)
    assert result.dtype == values.dtype.newbyteorder("=") and result.dtype.isnative
    assert result.flags.writeable
    np.testing.assert_array_equal(result, values)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), npz=st.booleans())
def test_mutated_file_is_read_or_refused(folder, data, npz):
    path = write_npz(folder, a=encode(VALUES)) if npz else write(folder, encode(VALUES))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(len(raw) // 2, len(raw)))])
    try:
        assert load_array(path).nbytes == VALUES.nbytes
    except DataFormatError as error:
        assert str(path) in str(error)


def test_keys_of_an_npz(tmp_path):
    path = write_npz(tmp_path, b=encode(VALUES), a=encode(VALUES + 1))
    np.testing.assert_array_equal(load_array(path, "a"), VALUES + 1)
    for key in (None, "c"):
        with pytest.raises(InvalidArgumentError, match=r"\['a', 'b'\]"):
            load_array(path, key)
    with pytest.raises(InvalidArgumentError, match="Leave key out"):
        load_array(write(tmp_path, encode(VALUES)), "a")


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize(
    "values",
    [np.array([Trap()]), np.array(["a"]), np.array([1j]), np.zeros(2, [("a", "f4")])],
    ids=["object", "string", "complex", "record"],
)
def test_only_real_numbers(tmp_path, values):
    for path in (write(tmp_path, encode(values)), write_npz(tmp_path, a=encode(values))):
        with pytest.raises(DataFormatError, match="expected real numbers"):
            load_array(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"\(none\)"),
        (b"GIF89a..", "47 49 46"),
        (encode(VALUES)[:-1], "expects 152"),
        (encode(VALUES) + b"z", "expects 152"),
        (encode(VALUES[:0]), "no empty arrays"),
        (b"\x93NUMPY\x03\x00....", "version 1.0 or 2.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4,294,967,295 bytes"),
        (npy_with_header("{'descr': '<f4'}"), "unreadable .npy header"),
        (npy_with_header("-" * 2_000 + "1"), "unreadable .npy header"),
        (npy_with_header("__import__('os').getcwd()"), "unreadable .npy header"),
        (
            npy_with_header("{'descr': '<f1', 'fortran_order': False, 'shape': (1,)}"),
            "expected real numbers",
        ),
        (
            npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}", b"1234"),
            "declares shape",
        ),
    ],
)
def test_malformed(tmp_path, data, message):
    path = write(tmp_path, data)
    with pytest.raises(DataFormatError, match=message) as caught:
        load_array(path)
    assert str(path) in str(caught.value)


def refused_within(limit, path, message, **options):
    tracemalloc.start()
    try:
        with pytest.raises(DataFormatError, match=message):
            load_array(path, **options)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_header_that_promises_too_much_costs_no_memory(tmp_path):
    data = npy_with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (2147483648,)}")
    refused_within(2**20, write(tmp_path, data), "17,179,869,2")
    refused_within(2**20, write_npz(tmp_path, a=data), "17,179,869,2")


def test_zip_bomb_is_not_unpacked(tmp_path):
    member = npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (10,)}")
    refused_within(3 * 2**20, write_npz(tmp_path, a=member + bytes(30 * 2**20)), "expects")
    honest = write_npz(tmp_path, a=encode(np.zeros(2**22)))
    refused_within(2**20, honest, "max_bytes=1,000", max_bytes=1_000)


def test_corrupt_checksum(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, a=VALUES)
    raw = bytearray(path.read_bytes())
    raw[raw.index(VALUES.tobytes())] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataFormatError, match="CRC"):
        load_array(path)


def test_other_compression_is_refused(tmp_path):
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", encode(VALUES))
    with pytest.raises(DataFormatError, match="stored or deflated"):
        load_array(path)


@pytest.mark.parametrize("flag", [0x1, 0x800], ids=["encrypted", "name-not-utf-8"])
def test_flags_that_make_zipfile_raise(tmp_path, flag):
    path = write_npz(tmp_path, a=encode(VALUES))
    raw = bytearray(path.read_bytes().replace(b"a.npy", b"\xff.npy"))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", raw, raw.index(signature) + offset, flag)
    path.write_bytes(raw)
    with pytest.raises(DataFormatError, match="damaged"):
        load_array(path)


def test_member_that_starts_beyond_any_file(tmp_path):
    path = tmp_path / "some.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", encode(VALUES))
        archive.infolist()[0].header_offset = 2**63
    with pytest.raises(DataFormatError, match="damaged"):
        load_array(path)


def test_missing_file(tmp_path):
    with pytest.raises(DataNotFoundError, match="nowhere"):
        load_array(tmp_path / "nowhere.npy")
