"""Pictures hold what they were given, and draw without pyplot's global state."""

import dataclasses
import io
from types import SimpleNamespace

import jax
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from matplotlib.figure import Figure

from neb_ppl import plots
from neb_ppl.diagnostics import class_mixing, coverage, judge_ranks, tarp
from neb_ppl.errors import EventShapeError, InvalidArgumentError
from neb_ppl.inverse import PosteriorResult
from neb_ppl.memory import Memories
from neb_ppl.plots.walks import _rank_shares
from neb_ppl.robust import Certificates
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
    alike = _rank_shares(result(4, 1_000).info["lp"])
    apart = _rank_shares(result(4, 1_000, shift=2.0).info["lp"])
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
    assert names == ["training", "validation", "linear"]


def test_training_curve_is_in_the_unit_of_the_risk():
    """What the loss tells of its batches in that unit, and not the loss."""
    bound = {"risk": np.full(300, 12.0)}
    history = History(None, np.full(300, 0.3), [100], [11.0], bound, measure="bound, nats")
    (axis,) = drawn(plots.training_curve(history)).axes
    assert axis.get_ylabel() == "bound, nats" and set(axis.lines[0].get_ydata()) == {12.0}
    history = History(None, np.full(300, 0.3), [100], [0.2])
    (axis,) = drawn(plots.training_curve(history)).axes
    assert "per dimension" in axis.get_ylabel()
    np.testing.assert_allclose(axis.lines[0].get_ydata(), 0.3)


def test_spheres_mark_sigma():
    x = np.random.default_rng(0).normal(size=(30, 2))
    (axis,) = drawn(plots.sphere_overlap(x, 0.5, 0.9)).axes
    assert [line.get_xdata()[0] for line in axis.lines] == [0.5, 0.9]


def calibration(quantities, num_draws=99, count=200):
    """Uniform ranks, but of the last quantity: all its truths lie above the median."""
    ranks = np.random.default_rng(0).integers(0, num_draws + 1, (count, quantities))
    ranks[:, -1] = np.maximum(ranks[:, -1], num_draws // 2)
    return judge_ranks(ranks, num_draws)


@pytest.mark.parametrize("draw", [plots.rank_ecdf, plots.rank_histogram])
@pytest.mark.parametrize(("quantities", "num_draws"), [(1, 19), (7, 99), (30, 96)])
def test_ranks_have_a_panel_each_and_red_where_they_fail(draw, quantities, num_draws):
    figure = drawn(draw(calibration(quantities, num_draws)))
    named = {axis.get_title().split("\n")[0]: axis for axis in figure.axes if axis.get_title()}
    assert len(named) == min(quantities, 24)
    failing = named[f"quantity[{quantities - 1}]"]
    assert failing.title.get_color() == plots.calibration.WRONG
    reds = [axis for axis in named.values() if axis.title.get_color() == plots.calibration.WRONG]
    assert reds == [failing]
    assert ("6 quantities not shown" in figure.get_suptitle()) == (quantities == 30)


def test_the_ecdf_is_that_of_the_ranks():
    found = calibration(1)
    (axis,) = drawn(plots.rank_ecdf(found)).axes
    curve = axis.lines[-1]
    assert np.allclose(curve.get_xdata(), np.arange(101) / 100)
    assert curve.get_ydata()[30] == pytest.approx((found.ranks < 30).mean() - 0.3)


def test_histograms_hold_every_rank():
    found = calibration(2)
    for axis, ranks in zip(drawn(plots.rank_histogram(found)).axes, found.ranks.T, strict=True):
        heights, edges, _ = axis.patches[0].get_data()
        assert np.allclose(heights.mean(), 1) and len(heights) == 20
        assert heights[-1] == pytest.approx((ranks >= 95).mean() * 20)


@pytest.mark.parametrize("wrong", ["ranks", None, [1, 2], np.zeros((30, 2))])
@pytest.mark.parametrize(
    ("draw", "wanted"),
    [
        (plots.rank_ecdf, "calibration must be a Calibration"),
        (plots.rank_histogram, "calibration must be a Calibration"),
        (plots.coverage_curve, "methods must be a Coverage"),
        (plots.tarp_curve, "methods must be a Tarp"),
    ],
)
def test_pictures_of_something_else(draw, wanted, wrong):
    with pytest.raises(InvalidArgumentError, match=f"{wanted}.*got {type(wrong).__name__}"):
        draw(wrong)


def of_methods():
    random = np.random.default_rng(0)
    truth, noise = random.normal(size=(100, 2)), random.normal(size=(100, 99, 2))
    return truth, {"exact": noise, "narrow": 0.5 * noise}


def test_coverage_against_claims():
    truth, methods = of_methods()
    levels = [0.9, 0.1, 0.5]
    curves = {name: coverage(draws, truth, levels) for name, draws in methods.items()}
    figure = drawn(plots.coverage_curve(curves))
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert np.array_equal(lines["narrow"].get_xdata(), [0.1, 0.5, 0.9])
    assert np.allclose(lines["narrow"].get_ydata(), curves["narrow"].mean[[1, 2, 0]])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["exact", "narrow"]
    assert not drawn(plots.coverage_curve(curves["exact"])).legends


def test_tarp_shows_its_p_values():
    truth, methods = of_methods()
    curves = {
        name: tarp(jax.random.key(0), draws, truth, references=np.zeros((100, 2)))
        for name, draws in methods.items()
    }
    figure = drawn(plots.tarp_curve(curves))
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [f"{name} (p = {curve.p_value:.1g})" for name, curve in curves.items()]
    difference = next(line for line in figure.axes[1].lines if line.get_label() == names[1])
    expected = curves["narrow"].coverage - curves["narrow"].credibility
    assert np.allclose(difference.get_ydata(), expected)
    drawn(plots.tarp_curve(curves["exact"]))
    with pytest.raises(InvalidArgumentError, match="a dict of 3, among them Calibration"):
        plots.tarp_curve(curves | {"other": calibration(1)})


def test_maps_of_a_posterior():
    """Six columns; z where the deviation is not 0; data of another size; a share held."""
    random = np.random.default_rng(0)
    truth = random.normal(size=(2, 4, 6))
    sd = np.ones_like(truth)
    sd[0, 0, 0] = 0
    lower, upper = np.full_like(truth, -9.0), np.full_like(truth, 9.0)
    lower[1] = 8.0
    figure = drawn(plots.posterior_maps(truth, truth[:, ::2, ::2], 0 * truth, sd, lower, upper))
    images = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(images) == 12
    z = images[4]
    assert z.mask.sum() == 1 and np.allclose(z.compressed(), truth[0].ravel()[1:])
    assert images[1].shape == (2, 3)
    assert any("holds 50%" in axis.get_title() for axis in figure.axes)
    flat = np.zeros((4, 6))
    single = drawn(plots.posterior_maps(truth[0], None, flat, flat, flat, flat))
    assert sum(bool(axis.images) for axis in single.axes) == 5


def test_maps_of_a_result():
    draws = np.random.default_rng(0).normal(size=(2, 30, 4, 6))
    of_draws = SimpleNamespace(mean_is_exact=False)
    result = PosteriorResult(of_draws, None, draws, np.arange(30), 0, 0.0)
    figure = drawn(plots.posterior_maps(draws[0, 0], None, result, level=0.8))
    _, mean, sd, _, width = (axis.images[0].get_array() for axis in figure.axes if axis.images)
    lower, upper = result.interval(0.8)
    for shown, wanted in ((mean, result.mean), (sd, result.sd), (width, upper - lower)):
        np.testing.assert_allclose(shown, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="got PosteriorResult beside sd"):
        plots.posterior_maps(draws[0, 0], None, result, draws[0, 0])


def test_maps_that_do_not_fit():
    image = np.zeros((4, 4))
    with pytest.raises(InvalidArgumentError, match="truth must be numbers.*got str"):
        plots.posterior_maps("digits", None, image, image, image, image)
    with pytest.raises(InvalidArgumentError, match="got ndarray beside sd and upper"):
        plots.posterior_maps(image, None, image, image, None, image)
    with pytest.raises(EventShapeError, match="sd must have the shape of truth"):
        plots.posterior_maps(image, None, image, image[:2], image, image)
    with pytest.raises(EventShapeError, match=r"truth must have shape \(height, width\)"):
        plots.posterior_maps(image[0], None, image, image, image, image)
    with pytest.raises(EventShapeError, match="np.where"):
        plots.posterior_maps(image, image[0], image, image, image, image)
    with pytest.raises(EventShapeError, match="observation must hold 1 images; got 2"):
        plots.posterior_maps(image, np.zeros((2, 4, 4)), image, image, image, image)


def remembered(count=3):
    random = np.random.default_rng(0)
    basins = np.full(count, 1 / count)
    rest = (random.normal(size=count),) * 3
    return Memories(random.normal(size=(count, 4, 4)), basins, *rest, np.arange(count), None, None)


@pytest.mark.parametrize(("count", "panels"), [(3, 5), (7, 10)])
def test_memories_are_shown_with_their_basins(count, panels):
    figure = drawn(plots.memory_tiles(remembered(count), columns=5))
    assert len(figure.axes) == panels and figure.axes[0].get_title() == f"{1 / count:.0%}"
    assert sum(bool(axis.images) for axis in figure.axes) == count
    assert f"{count} of {count} memories" in figure.get_suptitle()


def test_certified_accuracy_steps_down_at_each_radius():
    """Three of four are right, certified to .1, .2 and .3."""
    radii, bounds = np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 0.9)
    found = Certificates(np.array([0, 1, 2, 1]), radii, bounds, 0, 0.001, 0.5)
    axis = drawn(plots.certified_accuracy([0, 1, 2, 3], {"jumps": found}, [0, 0.15, 0.35])).axes[0]
    share = axis.lines[0].get_ydata()
    np.testing.assert_allclose(share, [0.75, 0.5, 0.0])
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    low, high = band[1:4], band[7:4:-1]
    assert (low <= share).all() and (share < high).all()
    for end in (low, high):
        np.testing.assert_allclose((end - share) ** 2, end * (1 - end) / 4, atol=1e-12)
    assert axis.get_legend().get_texts()[0].get_text() == "jumps"


def test_pictures_of_something_else_are_refused():
    with pytest.raises(InvalidArgumentError, match="found must be .* got str"):
        plots.memory_tiles("memories")
    with pytest.raises(EventShapeError, match="images"):
        found = remembered()
        plots.memory_tiles(dataclasses.replace(found, y=found.y.reshape(3, 16)))
    with pytest.raises(InvalidArgumentError, match="got jumps"):
        plots.certified_accuracy([0], {"jumps": 0.5})
