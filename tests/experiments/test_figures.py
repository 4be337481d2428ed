"""What is drawn is what the results say: numbers are read back from the figures."""

import itertools

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from support.fake_results import fake_study

from jifv.experiments.report import figures


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


def test_the_same_figure_is_the_same_file(cells, tmp_path):
    before = dict(matplotlib.rcParams)
    for ending, magic in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        for name in ("first", "second"):
            figures.save(figures.beta_bars(cells[:2]), tmp_path / f"{name}{ending}")
        first, second = ((tmp_path / f"{name}{ending}").read_bytes() for name in ("first", "second"))
        assert first == second
        assert first.startswith(magic)
    assert dict(matplotlib.rcParams) == before
    text = (tmp_path / "first.svg").read_text()
    assert "mean share β of the target" in text
    assert "<dc:date>" not in text
    with Image.open(tmp_path / "first.png") as image:
        assert image.width == int(figures.beta_bars(cells[:2]).get_figwidth() * 150)


def test_other_formats_are_refused(cells, tmp_path):
    with pytest.raises(ValueError, match=r"path must end in \.png, \.pdf, \.svg, got 'figure\.jpg'"):
        figures.save(figures.beta_bars(cells[:1]), tmp_path / "figure.jpg")


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


@pytest.mark.parametrize("name", ["dncl", "gn4c-features", "dnde", "srnet", "parametrizations", "timings"])
@pytest.mark.parametrize("preset", ["quick", pytest.param("paper", marks=pytest.mark.slow)])
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
