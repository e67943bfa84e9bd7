"""Pictures hold what they were given, and draw without pyplot's global state."""

import io

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from matplotlib.figure import Figure

from neb_ppl import plots
from neb_ppl.diagnostics import class_mixing
from neb_ppl.sampling import SampleResult
from neb_ppl.training import History


def result(chains=5, draws=40, shift=0.0):
    random = np.random.default_rng(0)
    y = random.normal(size=(chains, draws, 4, 4))
    lp = random.normal(size=(chains, draws)) + shift * np.arange(chains)[:, None]
    settings = {"walk": "ULA", "sigma": 0.5, "steps_per_jump": 10}
    return SampleResult(y, y, {"lp": lp}, state=None, settings=settings)


def drawn(figure):
    assert isinstance(figure, Figure)
    figure.savefig(stream := io.BytesIO(), dpi=40)
    assert stream.getvalue()[:4] == b"\x89PNG"
    return figure


def words(axis):
    return f"{axis.get_title()} {axis.get_xlabel()} {axis.get_ylabel()}"


def test_rows_share_their_gray_levels():
    """A row like the first is shown as the first is; one of another range by its own."""
    images = np.random.default_rng(0).normal(size=(3, 4, 4))
    rows = {"clean": images, "noisy": 9 * images, "jump": 1.1 * images}
    axes = drawn(plots.image_rows(rows, "told")).axes
    clean, noisy, jump = (
        {axis.images[0].get_clim() for axis in axes[i : i + 3]} for i in (0, 3, 6)
    )
    assert clean == jump == {(images.min(), images.max())}
    assert noisy == {(9 * images.min(), 9 * images.max())}


@pytest.mark.parametrize("count", [1, 20, 23])
def test_film_keeps_time_and_says_the_steps(count):
    frames = np.random.default_rng(0).normal(size=(count, 4, 4))
    figure = drawn(plots.film_strip(frames, 17))
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert np.array_equal(shown, frames)
    assert "17 walk steps" in figure.get_suptitle()


def test_energy_is_minus_lp_and_the_odd_chain_is_named():
    run = result()
    run.info["lp"][2] -= 4
    (axis,) = drawn(plots.energy_trace(run, reference=np.arange(100.0))).axes
    assert len(axis.lines) == 5
    named = {line.get_label(): line for line in axis.lines}
    assert np.array_equal(named["chain 2"].get_ydata(), -run.info["lp"][2])
    assert named["chain 2"].get_xdata()[-1] == 400
    assert "5 chains" in words(axis)


@pytest.mark.parametrize(("chains", "draws"), [(1, 1), (2, 3), (16, 40)])
def test_trace_and_rank_at_every_size(chains, draws):
    figure = drawn(plots.trace_and_rank(result(chains, draws)))
    assert len(figure.axes[0].lines) == chains


def test_ranks_are_even_in_alike_chains_and_not_in_shifted_ones():
    """1,000 draws in 20 bins: a share has a standard error of about .14."""
    alike = plots._rank_shares(result(4, 1_000).info["lp"])
    apart = plots._rank_shares(result(4, 1_000, shift=2.0).info["lp"])
    assert np.allclose(alike.mean(axis=1), 1) and np.allclose(alike.mean(axis=0), 1)
    assert np.abs(alike - 1).max() < 0.7
    assert apart[0, 0] > 3 and apart[0, -1] == 0


def test_class_colours_are_the_same_left_and_right():
    labels = np.arange(60).reshape(3, 20) % 10
    figure = drawn(plots.class_visits(labels, class_mixing(labels)))
    left, right = figure.axes
    colours = left.images[0].to_rgba(np.arange(10))
    bars = [bar.get_facecolor() for bar in right.patches]
    assert np.allclose(bars, colours)
    assert "1000 class changes" in words(left)


def test_training_curve_shows_the_baselines():
    history = History(None, np.linspace(2, 1, 300), [100, 200], [1.5, 1.2])
    (axis,) = drawn(plots.training_curve(history, {"linear": 1.7})).axes
    names = [text.get_text() for text in axis.get_legend().get_texts()]
    assert names == ["training loss", "validation", "linear"]


def test_spheres_mark_sigma():
    x = np.random.default_rng(0).normal(size=(30, 2))
    (axis,) = drawn(plots.sphere_overlap(x, 0.5, 0.9)).axes
    assert [line.get_xdata()[0] for line in axis.lines] == [0.5, 0.9]
