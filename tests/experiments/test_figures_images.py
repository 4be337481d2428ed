import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from support.drawn import (
    DNDE,
)
from support.fake_results import changed, fake, lose

from jifv.experiments.report import figures, figures_images
from jifv.experiments.report.picture import picture


def test_gallery_has_images_and_the_largest_weights():
    results = fake(replace(DNDE, features=40), side=12, not_finite=(1,))
    figure = figures.gallery(results, shown=5)
    images, bars = figure.axes[0::2], figure.axes[1::2]
    assert [axes.get_title().split(":")[0] for axes in images] == [f"#{index}" for index in range(6)]
    assert images[1].get_title() == "#1: NaN"
    assert images[0].get_title() == f"#0: {results.evaluation.angles['prediction_on_v'][0]:.1f}°"
    np.testing.assert_allclose(images[4].images[0].get_array(), results.realized.images[4])
    vectors = [results.objectives[4], results.realized.prediction[4], results.realized.response[4]]
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


@pytest.mark.parametrize("ends", [(-0.4, 0.4), (-0.46, 0.42), (-0.35, 0.4), (-0.2, 0.9), (-0.04, 0.05), (0.0, 1.0)])
def test_labels_of_weights_do_not_collide(ends):
    figure = Figure(figsize=(4.8, 1.57), dpi=150, layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1.1, 1, 1.1, 1))[1]
    vector = np.array([*ends, *[0] * 8])
    figures_images.weights(
        axes, {name: vector for name in ("target", "prediction", "response")}, ("automobile",) * 10, 10
    )
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    low, high = axes.get_xlim()
    seen = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [label.get_window_extent(renderer) for label in seen]
    assert len(boxes) >= 2
    assert all(a.x1 + 4 < b.x0 for a, b in itertools.pairwise(boxes))


def test_rows_are_targets_and_columns_parametrizations(parametrized):
    cells = [*parametrized[:3], lose(parametrized[3], (0,)), *parametrized[4:]]
    figure = figures.by_parametrization(cells, shown=3)
    first, second = figure.subfigs
    assert first.get_suptitle() == "googlenet-bvlc, inception4c, n = 16"
    images = [axes for axes in second.axes if axes.images]
    assert [axes.get_ylabel() for axes in second.axes[::3]] == ["#1, sampled", "#3, sampled", "#5, sampled"]
    for axes, (index, cell) in zip(images, itertools.product((1, 3, 5), cells[3:]), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), cell.realized.images[index])
        angle = cell.evaluation.angles["prediction_on_v"][index]
        assert axes.get_title().split("\n")[-1] == (f"{angle:.1f}°" if angle < 9.95 else f"{angle:.0f}°")
    words = ["pixels", "Fourier", "Fourier,\ndecorrelated"]
    assert [axes.get_title().rpartition("\n")[0] for axes in images[:3]] == words
    assert [bool(axes.images) for axes in first.axes] == [True] * 6 + [False] * 3


def test_columns_with_other_targets_are_refused(parametrized):
    other = changed(parametrized[4], objectives=parametrized[4].objectives[::-1])
    with pytest.raises(ValueError, match="must have the same targets, those of densenet, dense3, n = 8 differ"):
        figures.by_parametrization([*parametrized[3:4], other])


def test_rgb_is_shown_as_it_is_and_grey_is_grey():
    image = np.random.default_rng(0).uniform(-0.2, 1.2, (2, 3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(picture(image), np.clip(image, 0, 1))
    grey = picture(image[..., :1])
    assert grey.shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(grey[..., 2], np.clip(image[..., 0], 0, 1))


@pytest.mark.parametrize("channels", [5, 6])
def test_frames_are_shown_by_their_normals_where_the_mask_is(channels):
    frame = np.zeros((1, 3, channels))
    frame[0, :, 0] = 1, 0, -1
    frame[0, :, 1:4] = -1, 0.5, 1
    shown = picture(frame)
    np.testing.assert_allclose(shown[0], [[0, 0.75, 1], [0, 0.375, 0.5], [0, 0, 0]])


def test_nan_is_black():
    assert not picture(np.full((2, 2, 3), np.nan)).any()


@pytest.mark.parametrize("shape", [(4, 4, 2), (4, 4, 4), (4, 3)])
def test_other_channels_are_refused(shape, unchecked):
    with pytest.raises(ValueError, match=r"images must have shape .* with 1, 3, 5 or 6 channels, got"):
        picture(np.zeros(shape))
