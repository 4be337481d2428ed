"""The page as a file."""

import re

import numpy as np
import pytest
from support.fake_results import fake
from support.pages import DEAD, FIGURE, NAMES, NOT_FINITE, OFF_V, TABLE, data_of, pixels, written

from jifv.experiments.experiment import Experiment
from jifv.experiments.report import page


def test_one_file_that_asks_for_nothing(lone_path):
    assert [path.name for path in lone_path.parent.iterdir()] == ["report.html"]
    text = lone_path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'\\<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|iframe|object|embed)\b|\bsrc=\"|@import|url\(|\bimport\(|fetch\(", text)


def test_numbers_come_back_and_what_is_not_finite_is_null(lone, lone_path):
    (cell,) = data_of(lone_path)["cells"]
    columns = {
        "angle": lone.evaluation.angles["prediction_on_v"],
        "angle_in_rn": lone.evaluation.angles["prediction"],
        "angle_response": lone.evaluation.angles["response_on_v"],
        "angle_random": lone.evaluation.angles["random_on_v"],
        "ssim": lone.evaluation.ssim["prediction"],
        "ssim_response": lone.evaluation.ssim["response"],
        "ssim_random": lone.evaluation.ssim["random"],
        "gap": lone.calibrated.gap,
        "off_v": lone.evaluation.off_v,
    }
    for name, values in columns.items():
        read = np.array([np.nan if value is None else value for value in cell[name]])
        np.testing.assert_allclose(read, values, rtol=1e-5, err_msg=name)
    assert [i for i, angle in enumerate(cell["angle"]) if angle is None] == list(NOT_FINITE)
    assert cell["dead"][DEAD] == 3
    np.testing.assert_allclose(cell["on_dead"][DEAD], np.sum(lone.objectives[DEAD, :3] ** 2), rtol=1e-5)
    magnitude = np.abs(lone.objectives).sum(-1) / np.linalg.norm(lone.objectives, axis=-1)
    np.testing.assert_allclose(cell["sparseness"], (10**0.5 - magnitude) / (10**0.5 - 1), atol=1e-5)


def test_flags(lone, lone_path):
    data = data_of(lone_path)
    (cell,) = data["cells"]
    marked = {name: {i for i in range(75) if cell["flags"][i] >> bit & 1} for bit, name in enumerate(data["flags"])}
    assert marked.pop("target off V") >= {OFF_V}
    assert marked == {
        "canonical": set(range(65, 75)),
        "not finite": set(NOT_FINITE),
        "on the cosine's floor": {8},
        "far from stationary": set(),
        "target on dead features": {DEAD} if cell["on_dead"][DEAD] > 0.9 else set(),
        "dead features": {DEAD},
    }
    assert [name for name in cell["canonical"] if name] == list(NAMES)


def test_bars_are_the_largest_entries_of_what_the_angles_compare(lone, lone_path):
    (cell,) = data_of(lone_path)["cells"]
    projection = lone.calibrated.basis @ lone.calibrated.basis.T
    vectors = {
        "target": lone.objectives @ projection,
        "prediction": lone.calibrated.prediction @ projection,
        "response": np.where(lone.realized.finite[:, None], lone.realized.response, 0) @ projection,
    }
    for i in set(range(75)) - {OFF_V, *NOT_FINITE}:
        unit = {name: rows[i] / np.linalg.norm(rows[i]) for name, rows in vectors.items()}
        weight = np.max(np.abs(list(unit.values())), axis=0)
        shown = np.sort(weight[cell["entries"][i]])[::-1]  # by their size: entries may be equal
        np.testing.assert_allclose(shown, np.sort(weight)[::-1][: page.ENTRIES], atol=1e-5)
        for name, vector in unit.items():
            np.testing.assert_allclose(cell[name][i], vector[cell["entries"][i]], atol=2e-3, err_msg=f"{name} of {i}")
        assert cell["target"][i] == sorted(cell["target"][i], reverse=True)
    assert np.linalg.norm(cell["target"][OFF_V]) < 1e-3  # rounding is not blown up to unit length
    assert cell["prediction"][NOT_FINITE[0]] == [None] * page.ENTRIES
    assert None in cell["response"][NOT_FINITE[1]]


def test_small_images_keep_every_pixel(lone, lone_path):
    (cell,) = data_of(lone_path)["cells"]
    assert cell["pixelated"]
    sources = (lone.realized.images, lone.reoptimized.images["prediction"], lone.reoptimized.images["response"])
    for encoded, images in zip(cell["images"][5], sources, strict=True):
        np.testing.assert_array_equal(pixels(encoded), np.round(images[5] * 255))
    assert cell["images"][NOT_FINITE[0]] == [None] * 3


@pytest.mark.parametrize("network", ["densenet", "srnet"])
def test_large_images_become_thumbnails(tmp_path, network):
    results = fake(Experiment("a", network, "block8", samples=2, features=8), side=120)
    (cell,) = data_of(written(tmp_path, [results]))["cells"]
    assert not cell["pixelated"]
    assert {pixels(each).shape for images in cell["images"] for each in images} == {(96, 96, 3)}


def test_many_samples_do_not_make_a_larger_file(tmp_path, monkeypatch, several):
    full = written(tmp_path, several).stat().st_size
    monkeypatch.setattr(page, "_FULL", 8)
    path = written(tmp_path, several)
    assert path.stat().st_size < 0.8 * full
    image = pixels(data_of(path)["cells"][0]["images"][0][0])
    assert image.shape == (12, 12, 3)
    np.testing.assert_allclose(image, several[0].realized.images[0] * 255, atol=19)  # three bits
    monkeypatch.setattr(page, "_FULL", 1)
    large = fake(Experiment("a", "densenet", "block8", samples=2, features=8), side=120)
    assert pixels(data_of(written(tmp_path, [large]))["cells"][0]["images"][0][0]).shape == (68, 68, 3)


def test_markup_in_names_is_data(lone_path):
    text = lone_path.read_text(encoding="utf-8")
    assert text.count("</script") == 2  # of the data and of the program
    assert "<!--" not in text
    data = data_of(lone_path)
    assert data["cells"][0]["features"] == list(NAMES)
    assert data["title"] == "dncl: <i>scores</i>"
    assert data["figures"] == [["Fig. <2>", FIGURE]]
    assert data["tables"] == [{"title": TABLE.title, "columns": list(TABLE.columns), "rows": [*map(list, TABLE.rows)]}]


def test_what_was_run(tmp_path, several, lone_path):
    data = data_of(written(tmp_path, several))
    assert data["tables"][0] == {
        "title": "what differs",
        "columns": ["experiment", "power k"],
        "rows": [["dnde-k0", "0"], ["dnde-k2", "2"]],
    }
    facts = dict(data["facts"])
    assert facts["network"] == "densenet"
    assert facts["features n"] == "12"
    assert facts["critical space V"] == "Rⁿ"
    assert (facts["Adam steps"], facts["L-BFGS steps"]) == ("800", "300")
    assert facts["commit"] == "01234567"
    assert facts["seed"] == "0"
    alone = dict(data_of(lone_path)["facts"])
    assert (alone["power k"], alone["critical space V"]) == ("2", "dimension 9")
    assert (alone["samples"], alone["canonical samples"], alone["input size"]) == ("75", "10", "16")


def test_errors(tmp_path, several):
    with pytest.raises(ValueError, match="cells must hold the results of at least one experiment, got none"):
        written(tmp_path, [])
    with pytest.raises(ValueError, match="tables must have 2 strings per row in 'short'"):
        written(tmp_path, several, tables=[page.Table("short", ("a", "b"), [("1", "2"), ("1",)])])
    assert not list(tmp_path.iterdir())
