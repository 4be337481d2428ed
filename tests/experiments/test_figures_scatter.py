import numpy as np
import pytest
from matplotlib.patches import StepPatch
from support.drawn import (
    DNCL,
    MANY,
    annotations,
    axes_of,
    entries,
    finite,
    legend_of,
    offsets,
    shares,
)
from support.fake_results import changed, fake, lose

from jifv.experiments.report import figures
from jifv.experiments.results import OBJECTIVES


@pytest.fixture(scope="module")
def many():
    results = fake(MANY, side=12, prediction=80.0)
    beta = np.random.default_rng(0).dirichlet(np.ones(512), 300)  # fragmented, as where nothing can be predicted
    return changed(results, beta=beta)


def test_points_of_the_scatter_are_the_samples(few):
    main = axes_of(figures.scatter(few), "SSIM, re-optimized for the prediction")
    drawn = offsets(main)
    expected = [
        finite(few.evaluation.angles[name][kind], few.evaluation.ssim["prediction"][kind])
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
    np.testing.assert_allclose(offsets(main)[0][:, 0], many.evaluation.angles["prediction"][:150], rtol=1e-6)
    assert legend_of(figure) == ["sampled", "canonical"]
    assert sum(len(points) for points in offsets(main)) == 300


def test_few_samples_are_points_in_the_margins(few):
    figure = figures.scatter(few)
    margin, right = axes_of(figure, "response\non $V$"), axes_of(figure, "re-optimized for")
    names = ("prediction", "prediction_on_v", "response_on_v", "random_on_v")
    for row, (name, points) in enumerate(zip(names, offsets(margin), strict=True)):
        np.testing.assert_allclose(points[:, 0], few.evaluation.angles[name][few.realized.finite], rtol=1e-6)
        assert (np.abs(points[:, 1] + row) < 0.4).all()
    right = next(axes for axes in figure.axes if axes.get_title().startswith("SSIM"))
    for column, (name, points) in enumerate(zip(OBJECTIVES, offsets(right), strict=True)):
        np.testing.assert_allclose(points[:, 1], few.evaluation.ssim[name][few.realized.finite], rtol=1e-6)
        assert (np.abs(points[:, 0] - column) < 0.4).all()
    medians = [f"{np.median(few.evaluation.ssim[name][few.realized.finite]):.2f}" for name in OBJECTIVES]
    assert [text.get_text() for text in right.texts] == ["median", *medians]
    lines = [line.get_xdata()[0] for line in margin.lines]
    np.testing.assert_allclose(
        lines, [np.median(few.evaluation.angles[name][few.realized.finite]) for name in names], rtol=1e-6
    )


def test_many_samples_are_histograms_in_the_margins(many):
    figure = figures.scatter(many)
    margin = axes_of(figure, "response")
    steps = [patch for patch in margin.patches if isinstance(patch, StepPatch)]
    assert len(steps) == 3
    for row, (patch, name) in enumerate(zip(steps, ("prediction", "response", "random"), strict=True)):
        heights, edges, baseline = patch.get_data()
        counts = np.histogram(many.evaluation.angles[name], edges)[0]
        assert counts.sum() == 300
        np.testing.assert_allclose((heights - baseline) / 0.8, counts / counts.max(), atol=1e-12)
        assert baseline == -row - 0.4


def test_bar_of_the_scatter_merges_what_is_beyond_the_first_shares(many, few):
    for results, names in ((many, 6), (few, 5)):
        axes = axes_of(figures.scatter(results), "mean share")
        widths, expected = [bar.get_width() for bar in axes.patches], shares(results.realized.beta)
        np.testing.assert_allclose(widths, expected, rtol=1e-5)
        np.testing.assert_allclose([bar.get_x() for bar in axes.patches], np.cumsum([0, *expected[:-1]]), atol=1e-5)
        words = entries(axes.get_legend())
        assert len(words) == names
        assert words[0] == f"$\\beta_0$: {expected[0]:.2f}"
    assert words[-1].startswith("$\\beta_4$ to")


def test_legend_of_the_scatter_counts_what_cannot_be_drawn(few):
    words = legend_of(figures.scatter(few))
    assert words == ["sampled", "canonical", "hollow: in $\\mathbf{R}^{10}$", "NaN: 1 of 16"]
    flags = {"off_v": np.zeros(16), "on_floor": np.zeros(16, bool), "dead": np.zeros((16, 10), bool)}
    flags["off_v"][5], flags["on_floor"][7] = 0.95, True
    flags["dead"][3] = True
    figure = figures.scatter(changed(few, **flags))
    words = legend_of(figure)
    assert words[3:] == ["target lost", "on the cosine's floor", "NaN: 1 of 16"]
    lost, floor = offsets(axes_of(figure, "SSIM, re-optimized for the prediction"))[-2:]
    np.testing.assert_allclose(lost[:, 0], few.evaluation.angles["prediction_on_v"][[3, 5]], rtol=1e-6)
    np.testing.assert_allclose(floor[:, 0], few.evaluation.angles["prediction_on_v"][[7]], rtol=1e-6)


@pytest.mark.parametrize(("canonical", "words"), [(False, ["sampled"]), (True, ["canonical"])])
def test_scatter_with_one_class_of_samples(canonical, words):
    results = changed(fake(DNCL, side=12), canonical=np.full(16, canonical), basis=np.eye(10))
    assert legend_of(figures.scatter(results)) == words


def test_outliers_have_their_number(few):
    far = changed(
        few,
        angles=few.evaluation.angles | {"prediction_on_v": np.full(16, 2.0), "prediction": np.full(16, 100.0)},
        ssim=few.evaluation.ssim | {"prediction": np.full(16, 0.99)},
    )
    far.evaluation.angles["prediction_on_v"][[3, 9]] = 60, 150
    far.evaluation.ssim["prediction"][[9, 12]] = 0.4, 0.6
    main = axes_of(figures.scatter(changed(far, basis=np.eye(10))), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#9"]  # by their similarity: the angle in Rⁿ was not changed
    main = axes_of(figures.scatter(far), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#3", "#9"]
    far.evaluation.angles["prediction_on_v"][5], far.evaluation.ssim["prediction"][5] = 60, 0.99
    main = axes_of(figures.scatter(far), "SSIM, re-optimized for the prediction")
    assert sorted(annotations(main)) == ["#12", "#3", "#9"]  # #5 lies on #3


def test_results_without_a_single_angle_are_drawn(few):
    nothing = lose(few, tuple(range(16)))
    figure = figures.scatter(nothing)
    assert not axes_of(figure, "mean share").patches
    assert "NaN: 16 of 16" in legend_of(figure)
    figures.gallery(nothing)
    cell = changed(nothing, basis=np.eye(10))
    assert annotations(figures.beta_bars([cell]).axes[0]) == ["NaN"]
    figures.angles_by_condition([cell])
