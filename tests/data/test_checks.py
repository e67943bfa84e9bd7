"""Data that would mislead training are refused: faults 1, 2, 5 and 23."""

import logging
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from neb_ppl.data import check_data, digits, drop_nonfinite, warn_outside_range
from neb_ppl.errors import (
    DataRangeWarning,
    EventShapeError,
    InvalidArgumentError,
    NonFiniteDataError,
)

X = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_good_data_pass_unchanged(array):
    x = check_data(array(X), (3, 4))
    assert isinstance(x, type(array(X))) and x.dtype == np.float32
    np.testing.assert_array_equal(x, X)


@pytest.mark.parametrize("array", [np.array, jnp.array])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_data_are_counted_and_located(array, bad):
    x = np.array(X)
    x[0, 2, 1] = x[1, 1, 3] = bad
    with pytest.raises(NonFiniteDataError, match=r"data holds 2 .* index \(0, 2, 1\).* of 24"):
        check_data(array(x), name="data")


@pytest.mark.skipif(jnp.result_type(float) != np.float32, reason="jax_enable_x64 is on")
def test_overflow_in_the_conversion_is_found():
    with pytest.raises(NonFiniteDataError, match="1 values .* as float32"):
        check_data(np.array([[1e300], [0.0]]))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((3, 4), r"x\[None\]"),
        ((5, 4, 3), "numpy.transpose"),
        ((5, 12), r"x.reshape\(-1, 3, 4\)"),
        ((5, 2, 4), "build the model"),
        ((), "batch axis"),
    ],
)
def test_wrong_event_shape_says_what_to_do(shape, hint):
    with pytest.raises(EventShapeError, match=hint):
        check_data(np.zeros(shape), (3, 4))


def test_wrong_event_shape_names_both_shapes():
    with pytest.raises(EventShapeError, match=r"events of shape \(3, 4\); expected \(4, 4\)"):
        check_data(X, (4, 4))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0)])
def test_no_data(shape):
    with pytest.raises(InvalidArgumentError, match="x is empty"):
        check_data(np.zeros(shape))


def test_integers_need_declared_units():
    pixels = np.array([[0, 51, 255]], np.uint8)
    with pytest.raises(InvalidArgumentError, match=r"dtype uint8, with values 0..255.*scale=255"):
        check_data(pixels)
    scaled = check_data(pixels, scale=255)
    assert scaled.dtype == jnp.result_type(float)
    np.testing.assert_array_equal(scaled, pixels / scaled.dtype.type(255))


def test_floats_are_not_scaled_twice():
    with pytest.raises(InvalidArgumentError, match="data units already"):
        check_data(X, scale=255)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf])
def test_scale_must_be_positive(scale):
    with pytest.raises(InvalidArgumentError, match="scale must be positive"):
        check_data(np.ones((1, 1), np.uint8), scale=scale)


@pytest.mark.parametrize(
    "x", [np.array([[None]]), np.array([["1"]]), np.array([[1j]]), [[1.0], [1.0, 2.0]]]
)
def test_not_numbers(x):
    with pytest.raises(InvalidArgumentError):
        check_data(x)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("digits", "y must be an array of events; got 'digits'"),
        (None, "y must be an array of events; got None"),
        (np.ones((2, 3), bool), r"y\.astype\(float\)"),
        (digits("train"), r"pass its \.x"),
    ],
)
def test_what_is_no_array_is_named(x, words):
    with pytest.raises(InvalidArgumentError, match=words):
        check_data(x, name="y")


def test_float64_comes_in_the_default_float():
    assert check_data(X.astype(np.float64)).dtype == jnp.result_type(float)
    assert check_data(X.astype(np.float16)).dtype == np.float16


def test_dropping_is_counted_and_logged(caplog):
    x = np.array(X)
    x[0, 1, 1] = np.nan
    with caplog.at_level(logging.WARNING, "neb_ppl"):
        kept, num_dropped = drop_nonfinite(x)
    np.testing.assert_array_equal(kept, X[1:])
    assert num_dropped == 1
    assert "dropped 1 of 2" in caplog.text


def test_dropping_nothing_is_silent_and_dropping_all_is_refused(caplog):
    kept, num_dropped = drop_nonfinite(X)
    assert num_dropped == 0 and len(kept) == 2 and not caplog.records
    with pytest.raises(NonFiniteDataError, match="All 2 events"):
        drop_nonfinite(np.full((2, 3), np.nan))


def test_data_on_another_scale_warn():
    with pytest.warns(DataRangeWarning, match=r"\[0, 255\].*trained on \[0, 1\].*Divide by 255"):
        warn_outside_range(255 * X, 0.0, 1.0)
    with pytest.warns(DataRangeWarning, match="another one"):
        warn_outside_range(2 * X - 1, 0.0, 1.0)
    with pytest.warns(DataRangeWarning, match=r"trained on \[0, 1\].*Divide by 255"):
        warn_outside_range(255 * X, 0.0, 1.0, reach=3.0)  # noise widens no range that is told
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_outside_range(X * 1.2, 0.0, 1.0)
