"""Ctrl-C reaches every loop that is under way; bars are seen, and fill no file."""

import signal

import pytest

from neb_ppl.progress import interruptible, progress


def test_one_press_ends_the_inner_loop_and_the_outer():
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as outer:
        with interruptible() as inner:
            signal.raise_signal(signal.SIGINT)
            assert inner.requested and outer.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_press_raises():
    with interruptible() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_bar_in_a_file_is_drawn_seldom(capsys):
    with progress(5_000, "walking", show=True) as bar:
        for _ in range(5_000):
            bar.update(1)
    assert 1 <= capsys.readouterr().err.count("walking") <= 2
