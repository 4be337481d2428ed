"""What is drawn is what the results say: numbers are read back from the figures."""

import itertools
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.patches import StepPatch
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image
from support.fake_results import fake, fake_study, lose

from jifv.experiments.experiment import OBJECTIVES, Experiment
from jifv.experiments.report import figures
from jifv.experiments.studies import grid

DNCL = Experiment("dncl", "densenet", "classifier", samples=16, canonical=4, jacobians=8, aggregation="identity")
DNDE = Experiment("dnde", "densenet", "dense3", samples=6, features=8)
MANY = replace(DNDE, name="many", samples=300, features=512, canonical=150)
CELLS = grid(DNDE, features=(8, 16, 32), power=(0, 2)) + grid(
    replace(DNDE, features=16), aggregation=("mean", "pick"), power=(0, 2)
)


def fakes(experiments, **options):
    return [fake(each, **{"seed": number, "side": 12, **options}) for number, each in enumerate(experiments)]


@pytest.fixture(scope="module")
def few():
    return fake(DNCL, side=12, not_finite=(2,))


@pytest.fixture(scope="module")
def many():
    results = fake(MANY, side=12, prediction=80.0)
    beta = np.random.default_rng(0).dirichlet(np.ones(512), 300)  # fragmented, as where nothing can be predicted
    return results._replace(beta=beta)


@pytest.fixture(scope="module")
def cells():
    return fakes(CELLS)


def axes_of(figure, text):
    """The axes whose label, title or ticks have this text."""
    for axes in figure.axes:
        ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        if any(text in each for each in (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(), *ticks)):
            return axes
    raise AssertionError(f"no axes with {text}")


def legend_of(figure):
    """The names in the legend of a scatter."""
    return entries(next(axes for axes in figure.axes if not axes.axison).get_legend())


def offsets(axes):
    """The points of each collection of an axes, without those that are masked."""
    points = [np.ma.filled(each.get_offsets(), np.nan) for each in axes.collections if isinstance(each, PathCollection)]
    return [each[np.isfinite(each).all(-1)] for each in points]


def entries(legend):
    return [text.get_text() for text in legend.get_texts()]


def finite(*columns):
    rows = np.stack(columns, -1)
    return rows[np.isfinite(rows).all(-1)]


def annotations(axes):
    return [each.get_text() for each in axes.texts if isinstance(each, Annotation)]


def shares(beta):
    mean = beta[np.isfinite(beta).all(-1)].mean(0)
    return [part.sum() for part in np.split(mean, (1, 2, 3, 4, 16)) if len(part)]


# Scatter (Fig. 2)


def test_points_of_the_scatter_are_the_samples(few):
    main = axes_of(figures.scatter(few), "SSIM, re-optimized for the prediction")
    drawn = offsets(main)
    expected = [
        finite(few.angles[name][kind], few.ssim["prediction"][kind])
        for name in ("prediction", "prediction_on_v")
        for kind in (~few.canonical, few.canonical)
    ]
    for points, wanted in zip(drawn, expected, strict=False):
        np.testing.assert_allclose(points, wanted, rtol=1e-6)
    assert [len(points) for points in drawn[:4]] == [11, 4, 11, 4]
    (low, high), (bottom, top) = main.get_xlim(), main.get_ylim()
    for points in drawn:
        assert ((points > (low, bottom)) & (points < (high, top))).all()


def test_only_the_angle_on_v_is_drawn_where_it_is_that_in_the_ambient_space(many):
    figure = figures.scatter(many)
    main = axes_of(figure, "SSIM, re-optimized for the prediction")
    np.testing.assert_allclose(offsets(main)[0][:, 0], many.angles["prediction"][:150], rtol=1e-6)
    assert legend_of(figure) == ["sampled", "canonical"]
    assert sum(len(points) for points in offsets(main)) == 300


def test_few_samples_are_points_in_the_margins(few):
    figure = figures.scatter(few)
    margin, right = axes_of(figure, "response\non $V$"), axes_of(figure, "re-optimized for")
    names = ("prediction", "prediction_on_v", "response_on_v", "random_on_v")
    for row, (name, points) in enumerate(zip(names, offsets(margin), strict=True)):
        np.testing.assert_allclose(points[:, 0], few.angles[name][few.finite], rtol=1e-6)
        assert (np.abs(points[:, 1] + row) < 0.4).all()
    right = next(axes for axes in figure.axes if axes.get_title().startswith("SSIM"))
    for column, (name, points) in enumerate(zip(OBJECTIVES, offsets(right), strict=True)):
        np.testing.assert_allclose(points[:, 1], few.ssim[name][few.finite], rtol=1e-6)
        assert (np.abs(points[:, 0] - column) < 0.4).all()
    medians = [f"{np.median(few.ssim[name][few.finite]):.2f}" for name in OBJECTIVES]
    assert [text.get_text() for text in right.texts] == ["median", *medians]
    lines = [line.get_xdata()[0] for line in margin.lines]
    np.testing.assert_allclose(lines, [np.median(few.angles[name][few.finite]) for name in names], rtol=1e-6)


def test_many_samples_are_histograms_in_the_margins(many):
    figure = figures.scatter(many)
    margin = axes_of(figure, "response")
    steps = [patch for patch in margin.patches if isinstance(patch, StepPatch)]
    assert len(steps) == 3
    for row, (patch, name) in enumerate(zip(steps, ("prediction", "response", "random"), strict=True)):
        heights, edges, baseline = patch.get_data()
        counts = np.histogram(many.angles[name], edges)[0]
        assert counts.sum() == 300
        np.testing.assert_allclose((heights - baseline) / 0.8, counts / counts.max(), atol=1e-12)
        assert baseline == -row - 0.4


def test_bar_of_the_scatter_merges_what_is_beyond_the_first_shares(many, few):
    for results, names in ((many, 6), (few, 5)):
        axes = axes_of(figures.scatter(results), "mean share")
        widths, expected = [bar.get_width() for bar in axes.patches], shares(results.beta)
        np.testing.assert_allclose(widths, expected, rtol=1e-5)
        np.testing.assert_allclose([bar.get_x() for bar in axes.patches], np.cumsum([0, *expected[:-1]]), atol=1e-5)
        words = entries(axes.get_legend())
        assert len(words) == names
        assert words[0] == f"$\\beta_0$: {expected[0]:.2f}"
    assert words[-1].startswith("$\\beta_4$ to")


def test_legend_of_the_scatter_counts_what_cannot_be_drawn(few):
    words = legend_of(figures.scatter(few))
    assert words == ["sampled", "canonical", "hollow: in $\\mathbf{R}^{10}$", "NaN: 1 of 16"]
    flags = {"off_v": np.zeros(16), "on_floor": np.zeros(16, bool), "silent": np.zeros((16, 10), bool)}
    flags["off_v"][5], flags["on_floor"][7] = 0.95, True
    flags["silent"][3] = True
    figure = figures.scatter(few._replace(**flags))
    words = legend_of(figure)
    assert words[3:] == ["target lost", "on the cosine's floor", "NaN: 1 of 16"]
    lost, floor = offsets(axes_of(figure, "SSIM, re-optimized for the prediction"))[-2:]
    np.testing.assert_allclose(lost[:, 0], few.angles["prediction_on_v"][[3, 5]], rtol=1e-6)
    np.testing.assert_allclose(floor[:, 0], few.angles["prediction_on_v"][[7]], rtol=1e-6)


@pytest.mark.parametrize(("canonical", "words"), [(False, ["sampled"]), (True, ["canonical"])])
def test_scatter_with_one_class_of_samples(canonical, words):
    results = fake(DNCL, side=12)._replace(canonical=np.full(16, canonical), basis=np.eye(10))
    assert legend_of(figures.scatter(results)) == words


def test_outliers_have_their_number(few):
    far = few._replace(
        angles=few.angles | {"prediction_on_v": np.full(16, 2.0), "prediction": np.full(16, 100.0)},
        ssim=few.ssim | {"prediction": np.full(16, 0.99)},
    )
    far.angles["prediction_on_v"][[3, 9]] = 60, 150
    far.ssim["prediction"][[9, 12]] = 0.4, 0.6
    main = axes_of(figures.scatter(far._replace(basis=np.eye(10))), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#9"]  # by their similarity: the angle in Rⁿ was not changed
    main = axes_of(figures.scatter(far), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#3", "#9"]
    far.angles["prediction_on_v"][5], far.ssim["prediction"][5] = 60, 0.99
    main = axes_of(figures.scatter(far), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#3", "#9"]  # #5 lies on #3


def test_results_without_a_single_angle_are_drawn(few):
    nothing = lose(few, tuple(range(16)))
    figure = figures.scatter(nothing)
    assert not axes_of(figure, "mean share").patches
    assert "NaN: 16 of 16" in legend_of(figure)
    figures.gallery(nothing)
    cell = nothing._replace(basis=np.eye(10))
    assert annotations(figures.beta_bars([cell]).axes[0]) == ["NaN"]
    figures.angles_by_condition([cell])


# Gallery


def test_gallery_has_images_and_the_largest_weights():
    results = fake(replace(DNDE, features=40), side=12, not_finite=(1,))
    figure = figures.gallery(results, shown=5)
    images, bars = figure.axes[0::2], figure.axes[1::2]
    assert [axes.get_title().split(":")[0] for axes in images] == [f"#{index}" for index in range(6)]
    assert images[1].get_title() == "#1: NaN"
    assert images[0].get_title() == f"#0: {results.angles['prediction_on_v'][0]:.1f}°"
    np.testing.assert_allclose(images[4].images[0].get_array(), results.images[4])
    vectors = [results.objectives[4], results.prediction[4], results.response[4]]
    units = [vector / np.linalg.norm(vector) for vector in vectors]
    largest = np.argsort(-np.maximum(abs(units[0]), abs(units[1])))[:5]
    assert [label.get_text() for label in bars[4].get_yticklabels()] == [str(index) for index in largest]
    for container, unit in zip(bars[4].containers, units, strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in container], unit[largest], rtol=1e-5)


def test_gallery_of_few_features_keeps_their_order_and_projects_onto_v(few):
    figure = figures.gallery(few, most=3)
    assert [axes.get_title().split(":")[0] for axes in figure.axes[0::2]] == ["#0", "#8", "#15"]  # evenly spread
    bars = figure.axes[1]
    assert [label.get_text() for label in bars.get_yticklabels()] == list(few.feature_names)
    target = few.objectives[0] - few.objectives[0].mean()
    widths = [bar.get_width() for bar in bars.containers[0]]
    np.testing.assert_allclose(widths, target / np.linalg.norm(target), atol=1e-5)


# Bars of β (Fig. 3) and angles


def test_bars_stack_the_shares_of_every_cell(cells):
    figure = figures.beta_bars(cells)
    panels = [axes for axes in figure.axes if axes.patches]
    assert [axes.get_title() for axes in panels] == ["k = 0", "k = 2"]
    for axes, power in zip(panels, (0, 2), strict=True):
        some = [cell for cell in cells if cell.experiment.settings.power == power]
        places = axes.get_xticks()
        assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16", "32", "16", "16"]
        assert np.allclose(np.diff(places), (1, 1, 1.5, 1.5))
        for place, cell in zip(places, some, strict=True):
            bars = [bar for bar in axes.patches if abs(bar.get_x() + bar.get_width() / 2 - place) < 1e-6]
            np.testing.assert_allclose([bar.get_height() for bar in bars], shares(cell.beta), atol=1e-6)
            np.testing.assert_allclose(bars[-1].get_y() + bars[-1].get_height(), 1, atol=1e-6)
        medians = [np.median(cell.angles["prediction"]) for cell in some]
        assert annotations(axes) == [f"{angle:.1f}°" if angle < 9.95 else f"{angle:.0f}°" for angle in medians]
        groups = [label.get_text().strip() for label in axes.child_axes[0].get_xticklabels()]
        assert groups == ["max-mean", "mean", "pick"]
    assert entries(figure.legends[0])[-1] == "rest"
    assert figure.legends[0].get_title().get_text() == "densenet, dense3"


def test_bars_of_cells_that_differ_in_their_parametrization():
    some = fakes(grid(replace(DNDE, layer="block8"), parametrization=("geometry", "geometry_with_mask"), power=(0, 2)))
    figure = figures.beta_bars(some)
    for axes in figure.axes[:2]:
        assert [label.get_text() for label in axes.get_xticklabels()] == ["mask = 1", "mask free"]
    assert figure.legends[0].get_title().get_text() == "densenet, block8, n = 8"
    assert entries(figure.legends[0])[-1] != "rest"  # there are only eight shares


def test_cells_that_differ_otherwise_go_by_their_names():
    some = fakes([replace(DNDE, name="first"), replace(DNDE, name="second", samples=4)])
    axes = figures.beta_bars(some).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["first", "second"]


def test_samples_that_are_not_finite_do_not_count(cells):
    cell = lose(cells[0], (0, 3))
    axes = figures.beta_bars([cell]).axes[0]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], shares(cell.beta), atol=1e-6)
    assert annotations(axes) == [f"{np.median(cell.angles['prediction'][cell.finite]):.1f}°"]


def test_angles_are_medians_and_quartiles_over_the_number_of_features(cells):
    figure = figures.angles_by_condition(cells)
    for axes, power in zip(figure.axes[:2], (0, 2), strict=True):
        some = [cell for cell in cells if cell.experiment.settings.power == power]
        groups = [some[:3], some[3:4], some[4:]]
        expected = list(itertools.product(("prediction", "response", "random"), groups))
        for container, (name, group) in zip(axes.containers, expected, strict=True):
            line, _, (errors,) = container.lines
            quartiles = np.array([np.percentile(cell.angles[name], (25, 50, 75)) for cell in group])
            np.testing.assert_allclose(line.get_ydata(), quartiles[:, 1], rtol=1e-5)
            ends = np.array([segment[:, 1] for segment in errors.get_segments()])
            np.testing.assert_allclose(ends, quartiles[:, ::2], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(np.diff(line.get_xdata()), np.ones(len(group) - 1))  # n doubles


# By parametrization (Fig. 4)


@pytest.fixture(scope="module")
def parametrized():
    names = ("pixels", "fourier", "fourier_decorrelated")
    other = replace(DNDE, name="gn4c", network="googlenet-bvlc", layer="inception4c", features=16)
    other = replace(other, samples=2, canonical=1)
    return fakes(grid(other, parametrization=names) + grid(DNDE, parametrization=names))


def test_rows_are_targets_and_columns_parametrizations(parametrized):
    cells = [*parametrized[:3], lose(parametrized[3], (0,)), *parametrized[4:]]
    figure = figures.by_parametrization(cells, shown=3)
    first, second = figure.subfigs
    assert first.get_suptitle() == "googlenet-bvlc, inception4c, n = 16"
    images = [axes for axes in second.axes if axes.images]
    assert [axes.get_ylabel() for axes in second.axes[::3]] == ["#1, sampled", "#3, sampled", "#5, sampled"]
    for axes, (index, cell) in zip(images, itertools.product((1, 3, 5), cells[3:]), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), cell.images[index])
        angle = cell.angles["prediction_on_v"][index]
        assert axes.get_title().split("\n")[-1] == (f"{angle:.1f}°" if angle < 9.95 else f"{angle:.0f}°")
    words = ["pixels", "Fourier", "Fourier,\ndecorrelated"]
    assert [axes.get_title().rpartition("\n")[0] for axes in images[:3]] == words
    assert [bool(axes.images) for axes in first.axes] == [True] * 6 + [False] * 3


def test_columns_with_other_targets_are_refused(parametrized):
    other = parametrized[4]._replace(objectives=parametrized[4].objectives[::-1])
    with pytest.raises(ValueError, match="must have the same targets, those of densenet, dense3, n = 8 differ"):
        figures.by_parametrization([*parametrized[3:4], other])


def test_angles_of_several_networks_have_panels_of_their_own(parametrized):
    figure = figures.angles_by_condition(parametrized)
    titles = ["googlenet-bvlc, inception4c, n = 16\nk = 2", "densenet, dense3, n = 8\nk = 2"]
    assert [axes.get_title() for axes in figure.axes] == titles


# Timings


def test_timings_are_seconds_and_their_shares():
    cells = fakes([DNCL, DNDE])
    cells[1] = cells[1]._replace(seconds=cells[1].seconds | {"invert": 0.0})
    figure = figures.timings(cells)
    shares, seconds = figure.axes
    stages = (("visualize", "jacobian", "invert", "critical", "reoptimize"), ("visualize", "jacobian", "reoptimize"))
    expected = [[cell.seconds[stage] for stage in some] for cell, some in zip(cells, stages, strict=True)]
    bars = [[bar.get_width() for bar in shares.patches if round(bar.get_y() + 0.31) == row] for row in range(2)]
    for row, times in enumerate(expected):
        np.testing.assert_allclose(bars[row], np.array(times) / sum(times))
        drawn = [line.get_xdata()[0] for line in seconds.lines if line.get_ydata()[0] == row]
        np.testing.assert_allclose(drawn, times)
    assert [text.get_text() for text in shares.texts] == [f"{sum(times):.3g} s" for times in expected]
    assert [label.get_text() for label in shares.get_yticklabels()] == ["dncl, n = 10", "dnde, n = 8"]


# Pictures


def test_rgb_is_shown_as_it_is_and_grey_is_grey():
    image = np.random.default_rng(0).uniform(-0.2, 1.2, (2, 3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(figures.picture(image), np.clip(image, 0, 1))
    grey = figures.picture(image[..., :1])
    assert grey.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(grey[..., 2], np.clip(image[..., 0], 0, 1))


@pytest.mark.parametrize("channels", [5, 6])
def test_frames_are_shown_by_their_normals_where_the_mask_is(channels):
    frame = np.zeros((1, 3, channels))
    frame[0, :, 0] = 1, 0, -1
    frame[0, :, 1:4] = -1, 0.5, 1
    shown = figures.picture(frame)
    np.testing.assert_allclose(shown[0], [[0, 0.75, 1], [0, 0.375, 0.5], [0, 0, 0]])


def test_nan_is_black():
    assert not figures.picture(np.full((2, 2, 3), np.nan)).any()


@pytest.mark.parametrize("shape", [(4, 4, 2), (4, 4, 4), (4, 3)])
def test_other_channels_are_refused(shape, unchecked):
    with pytest.raises(ValueError, match=r"images must have shape .* with 1, 3, 5 or 6 channels, got"):
        figures.picture(np.zeros(shape))


# Files


def test_the_same_figure_is_the_same_file(cells, tmp_path):
    before = dict(matplotlib.rcParams)
    for ending, magic in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        for name in ("first", "second"):
            figures.save(figures.beta_bars(cells), tmp_path / f"{name}{ending}")
        first, second = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("first", "second"))
        assert first == second
        assert first.startswith(magic)
    assert dict(matplotlib.rcParams) == before
    text = (tmp_path / "first.svg").read_text()
    assert "mean share β of the target" in text
    assert "<dc:date>" not in text
    with Image.open(tmp_path / "first.png") as image:
        assert image.width == int(figures.beta_bars(cells).get_figwidth() * 150)


def test_other_formats_are_refused(cells, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.png, \.pdf, \.svg, got 'figure\.jpg'"):
        figures.save(figures.beta_bars(cells[:1]), tmp_path / "figure.jpg")


# Studies


def test_every_study_has_its_figures(few, cells):
    assert list(figures.for_study("scatter", [few])) == ["figure", "gallery"]
    names = list(figures.for_study("scatter", cells[:2]))
    assert names == ["figure-dnde-n8-k0", "figure-dnde-n8-k2", "gallery-dnde-n8-k0", "gallery-dnde-n8-k2"]
    for figure in ("beta", "parametrizations"):
        assert list(figures.for_study(figure, cells[:1])) == ["figure", "angles"]
    assert list(figures.for_study("timings", cells)) == ["figure"]


def test_studies_without_cells_or_of_another_kind_are_refused(few, cells, unchecked):
    with pytest.raises(ValueError, match="figure must be scatter, beta, parametrizations or timings, got 'table'"):
        figures.for_study("table", cells)
    draw = (figures.beta_bars, figures.angles_by_condition, figures.by_parametrization, figures.timings)
    for function, wrong in itertools.product(draw, ([], few)):
        with pytest.raises(ValueError, match="cells must be a sequence of at least one Results"):
            function(wrong)


def texts_of(figure):
    """Every text that is seen, with its box in pixels of the PNG: letters are wider in other resolutions."""
    figure.set_dpi(150)
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    hidden = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
            hidden += [label for tick in outside for label in (tick.label1, tick.label2)]
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and not any(text is each for each in hidden):
            box = text.get_window_extent(renderer)
            lines = text.get_text().split("\n")
            empty = sum(not line for line in lines) / len(lines)  # of the labels of groups, the first ones
            found.append((text.get_text(), Bbox([[box.x0, box.y0], [box.x1, box.y1 - empty * box.height]])))
    return found


@pytest.mark.parametrize("name", ["dncl", "gn4c-features", "dnde", "srnet", "parametrizations", "timings"])
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_no_label_lies_on_another_or_outside(name, preset):
    kind = {"dncl": "scatter", "parametrizations": "parametrizations", "timings": "timings"}.get(name, "beta")
    drawn = figures.for_study(kind, fake_study(name, preset, side=12, samples=4))
    for key, figure in drawn.items():
        texts = texts_of(figure)
        width, height = figure.bbox.max
        for text, box in texts:
            assert box.x0 >= -1, (key, text)
            assert box.y0 >= -1, (key, text)
            assert box.x1 <= width + 1, (key, text)
            assert box.y1 <= height + 1, (key, text)
        for (one, a), (other, b) in itertools.combinations(texts, 2):
            overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(overlap) < 1, (key, one, other)
