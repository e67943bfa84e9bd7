"""Image sets: fixed splits, units in [0, 1], and no set taken for another."""

import gzip
import os
import struct
import sys

import numpy as np
import pytest

from neb_ppl.data import digits, fashion_mnist, mnist
from neb_ppl.errors import DataFormatError, DataNotFoundError, InvalidArgumentError

LABELS = {
    "mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9],
    "fashion-mnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
}


# Another permutation would mix the training and test images of energies saved earlier.
FIRST_TRAIN_DIGITS = [6, 6, 6, 2, 5, 6, 6, 2, 2, 1]


def write_set(folder, labels, *, side=28, prefix="t10k", num_images=None, compress=True):
    folder.mkdir(parents=True, exist_ok=True)
    n = len(labels) if num_images is None else num_images
    pixels = np.arange(n * side * side, dtype=np.uint8)
    images = struct.pack(">4B3I", 0, 0, 8, 3, n, side, side) + pixels.tobytes()
    codes = struct.pack(">4BI", 0, 0, 8, 1, len(labels)) + bytes(labels)
    for kind, data in (("images-idx3", images), ("labels-idx1", codes)):
        path = folder / f"{prefix}-{kind}-ubyte{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(data) if compress else data)
    return folder


def test_digits_splits_are_fixed_and_disjoint():
    train, test, everything = (digits(split) for split in ("train", "test", "all"))
    assert train.x.shape == (1500, 8, 8) and test.x.shape == (297, 8, 8)
    assert train.x.dtype == np.float32 and train.x.min() == 0 and train.x.max() == 1
    assert train.labels.dtype == np.int32 and set(train.labels) == set(range(10))
    np.testing.assert_array_equal(everything.x, np.concatenate([train.x, test.x]))
    np.testing.assert_array_equal(everything.labels, np.concatenate([train.labels, test.labels]))
    assert train.labels[:10].tolist() == FIRST_TRAIN_DIGITS


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'neb-ppl\[demo\]'"):
        digits()


@pytest.mark.parametrize("load", [digits, mnist, fashion_mnist])
def test_unknown_split(load):
    with pytest.raises(InvalidArgumentError, match="'train', 'test' or 'all'; got 'valid'"):
        load("valid")


@pytest.mark.parametrize("compress", [False, True])
def test_folder_or_its_sub_folder(tmp_path, compress):
    write_set(tmp_path / "mnist", LABELS["mnist"], compress=compress)
    for folder in (tmp_path, tmp_path / "mnist"):
        x, labels = mnist("test", folder)
        assert x.shape == (10, 28, 28) and x.dtype == np.float32
        assert x.min() == 0 and x.max() == 1 and x[0, 1, 2] == np.float32(30) / np.float32(255)
        assert labels.tolist() == LABELS["mnist"]


def test_all_is_train_then_test(tmp_path):
    write_set(tmp_path, LABELS["mnist"])
    write_set(tmp_path, [5, 0, 4], prefix="train")
    assert mnist("all", tmp_path).labels.tolist() == [5, 0, 4, *LABELS["mnist"]]


def test_environment_names_folders(tmp_path, monkeypatch):
    folders = [write_set(tmp_path / name, labels) for name, labels in LABELS.items()]
    monkeypatch.setenv("NEB_PPL_DATA", os.pathsep.join(map(str, [tmp_path / "gone", *folders])))
    assert mnist("test").labels.tolist() == LABELS["mnist"]
    assert fashion_mnist("test").labels.tolist() == LABELS["fashion-mnist"]


@pytest.mark.parametrize(("load", "other"), [(mnist, "fashion-mnist"), (fashion_mnist, "mnist")])
def test_one_set_is_not_taken_for_the_other(tmp_path, load, other):
    write_set(tmp_path, LABELS[other])
    with pytest.raises(DataFormatError, match=f"belongs to {other}"):
        load("test", tmp_path)


def test_missing_files_list_what_was_looked_for(tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match="train-images-idx3-ubyte.gz") as caught:
        mnist("train", tmp_path)
    assert f"{tmp_path / 'mnist'}, {tmp_path}" in str(caught.value)
    monkeypatch.delenv("NEB_PPL_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match="NEB_PPL_DATA is not set"):
        mnist()


@pytest.mark.parametrize("wrong", [{"side": 27}, {"num_images": 9}])
def test_files_that_do_not_belong_together(tmp_path, wrong):
    write_set(tmp_path, LABELS["mnist"], **wrong)
    with pytest.raises(DataFormatError, match=r"expected uint8 of shapes \(n, 28, 28\)"):
        mnist("test", tmp_path)


@pytest.mark.skipif(not os.environ.get("NEB_PPL_DATA"), reason="NEB_PPL_DATA names no MNIST folder")
def test_real_mnist():
    x, labels = mnist("test")
    assert x.shape == (10_000, 28, 28) and labels[:10].tolist() == LABELS["mnist"]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The published mean grey value of the test images, to its four digits.
    assert round(float(x.mean()), 4) == 0.1325
