import itertools
from dataclasses import replace

import numpy as np
from support.drawn import (
    DNCL,
    DNDE,
    annotations,
    entries,
    fakes,
    shares,
)
from support.fake_results import changed, lose

from jifv.experiments.report import figures
from jifv.experiments.studies import grid


def test_bars_stack_the_shares_of_every_cell(cells):
    figure = figures.beta_bars(cells)
    panels = [axes for axes in figure.axes if axes.patches]
    assert [axes.get_title() for axes in panels] == ["k = 0", "k = 2"]
    for axes, power in zip(panels, (0, 2), strict=True):
        some = [cell for cell in cells if cell.experiment.significance.power == power]
        places = axes.get_xticks()
        assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16", "32", "16", "16"]
        assert np.allclose(np.diff(places), (1, 1, 1.5, 1.5))
        for place, cell in zip(places, some, strict=True):
            bars = [bar for bar in axes.patches if abs(bar.get_x() + bar.get_width() / 2 - place) < 1e-6]
            np.testing.assert_allclose([bar.get_height() for bar in bars], shares(cell.realized.beta), atol=1e-6)
            np.testing.assert_allclose(bars[-1].get_y() + bars[-1].get_height(), 1, atol=1e-6)
        medians = [np.median(cell.evaluation.angles["prediction"]) for cell in some]
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
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], shares(cell.realized.beta), atol=1e-6)
    assert annotations(axes) == [f"{np.median(cell.evaluation.angles['prediction'][cell.realized.finite]):.1f}°"]


def test_angles_are_medians_and_quartiles_over_the_number_of_features(cells):
    figure = figures.angles_by_condition(cells)
    for axes, power in zip(figure.axes[:2], (0, 2), strict=True):
        some = [cell for cell in cells if cell.experiment.significance.power == power]
        groups = [some[:3], some[3:4], some[4:]]
        expected = list(itertools.product(("prediction", "response", "random"), groups))
        for container, (name, group) in zip(axes.containers, expected, strict=True):
            line, _, (errors,) = container.lines
            quartiles = np.array([np.percentile(cell.evaluation.angles[name], (25, 50, 75)) for cell in group])
            np.testing.assert_allclose(line.get_ydata(), quartiles[:, 1], rtol=1e-5)
            ends = np.array([segment[:, 1] for segment in errors.get_segments()])
            np.testing.assert_allclose(ends, quartiles[:, ::2], rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(np.diff(line.get_xdata()), np.ones(len(group) - 1))  # n doubles


def test_angles_of_several_networks_have_panels_of_their_own(parametrized):
    figure = figures.angles_by_condition(parametrized)
    titles = ["googlenet-bvlc, inception4c, n = 16\nk = 2", "densenet, dense3, n = 8\nk = 2"]
    assert [axes.get_title() for axes in figure.axes] == titles


def test_timings_are_seconds_and_their_shares():
    cells = fakes([DNCL, DNDE])
    cells[1] = changed(cells[1], seconds=cells[1].seconds | {"invert": 0.0})
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
