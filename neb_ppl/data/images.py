"""Small images: the 8x8 digits of scikit-learn, MNIST and Fashion-MNIST from their own files."""

import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from neb_ppl.data.idx import read_idx
from neb_ppl.errors import DataFormatError, DataNotFoundError, InvalidArgumentError

__all__ = ["Labelled", "digits", "fashion_mnist", "mnist"]

Split: TypeAlias = Literal["train", "test", "all"]

_NUM_TRAIN_DIGITS = 1_500
_FILE_PREFIX = {"train": "train", "test": "t10k"}
# The two sets share their file names; these tell them apart.
_FIRST_TEST_AND_TRAIN_LABELS = {
    "mnist": ((7, 2, 1, 0, 4, 1, 4, 9, 5, 9), (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)),
    "fashion-mnist": ((9, 2, 1, 1, 6, 1, 4, 6, 5, 7), (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)),
}


class Labelled(NamedTuple):
    """Data with a class for each event.

    Attributes
    ----------
    x : array, shape ``(n, *event)``, float32
    labels : array, shape ``(n,)``, int32
    """

    x: np.ndarray
    labels: np.ndarray


def digits(split: Split = "train") -> Labelled:
    """The 1,797 handwritten digits of scikit-learn, 8x8, in [0, 1].

    Parameters
    ----------
    split : {"train", "test", "all"}
        1,500, 297 or all, after one fixed permutation; "all" is "train" and then "test".

    Returns
    -------
    Labelled
        x of shape ``(n, 8, 8)``, the original 0..16 over 16.

    Raises
    ------
    DataNotFoundError
        If scikit-learn is not installed.
    """
    _check_split(split)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataNotFoundError(
            "The digits come with scikit-learn, which cannot be imported. "
            "Install it: pip install 'neb-ppl[demo]'."
        ) from error
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(images))
    chosen = {"train": order[:_NUM_TRAIN_DIGITS], "test": order[_NUM_TRAIN_DIGITS:], "all": order}
    index = chosen[split]
    x = (images[index] / 16).astype(np.float32).reshape(-1, 8, 8)
    return Labelled(x, labels[index].astype(np.int32))


def mnist(split: Split = "train", folder: str | os.PathLike[str] | None = None) -> Labelled:
    """MNIST, 28x28, in [0, 1], from the original IDX files. Nothing is downloaded.

    Parameters
    ----------
    split : {"train", "test", "all"}
    folder : path, optional
        Where the files are, gzipped or not; also looked for in its sub-folder ``mnist``. Default:
        the folders named in the environment variable ``NEB_PPL_DATA`` (separated as in ``PATH``).

    Returns
    -------
    Labelled
        x of shape ``(n, 28, 28)``, the original 0..255 over 255.

    Raises
    ------
    DataNotFoundError
        If a file is missing; the folders and names looked for are listed.
    DataFormatError
        If a file is malformed, or is of another data set.
    """
    return _load(split, folder, "mnist")


def fashion_mnist(split: Split = "train", folder: str | os.PathLike[str] | None = None) -> Labelled:
    """Fashion-MNIST, as `mnist`; the sub-folder is ``fashion-mnist``."""
    return _load(split, folder, "fashion-mnist")


def _load(split: Split, folder: str | os.PathLike[str] | None, name: str) -> Labelled:
    _check_split(split)
    folders = _folders(folder, name)
    parts = [_load_part(p, folders, name) for p in ("train", "test") if split in (p, "all")]
    return Labelled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _load_part(part: str, folders: list[Path], name: str) -> Labelled:
    images_path = _find(folders, f"{_FILE_PREFIX[part]}-images", "idx3-ubyte")
    labels_path = _find(folders, f"{_FILE_PREFIX[part]}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    right_dtypes = images.dtype == labels.dtype == np.uint8
    if not right_dtypes or images.shape != (labels.size, 28, 28) or labels.ndim != 1:
        raise DataFormatError(
            f"{images_path} holds {images.dtype} of shape {images.shape}, {labels_path} "
            f"{labels.dtype} of shape {labels.shape}; expected uint8 of shapes (n, 28, 28) and "
            "(n,). Do the files belong together?"
        )
    _refuse_other_set(labels, labels_path, name)
    x = images.astype(np.float32)
    x /= 255
    return Labelled(x, labels.astype(np.int32))


def _refuse_other_set(labels: np.ndarray, path: Path, name: str) -> None:
    for other, beginnings in _FIRST_TEST_AND_TRAIN_LABELS.items():
        if other != name and tuple(labels[:10].tolist()) in beginnings:
            raise DataFormatError(
                f"{path} belongs to {other}; expected {name}. Both use the same file names: keep "
                f"them in folders named mnist and fashion-mnist."
            )


def _folders(folder: str | os.PathLike[str] | None, name: str) -> list[Path]:
    if folder is not None:
        roots = [Path(folder)]
    else:
        roots = [Path(p) for p in os.environ.get("NEB_PPL_DATA", "").split(os.pathsep) if p]
    others = set(_FIRST_TEST_AND_TRAIN_LABELS) - {name}
    return [p for root in roots for p in (root / name, root) if p.name not in others]


def _find(folders: list[Path], stem: str, ending: str) -> Path:
    names = [f"{stem}{dot}{ending}{gz}" for dot in "-." for gz in ("", ".gz")]
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    looked_in = ", ".join(map(str, folders)) or "no folder, as NEB_PPL_DATA is not set"
    raise DataNotFoundError(
        f"Found none of {', '.join(names)}. Looked in: {looked_in}. Nothing is downloaded: put "
        "the original IDX files there, name the folder (folder=..., or --data-dir), or set "
        "NEB_PPL_DATA."
    )


def _check_split(split: str) -> None:
    if split not in ("train", "test", "all"):
        raise InvalidArgumentError(f"split must be 'train', 'test' or 'all'; got {split!r}.")
