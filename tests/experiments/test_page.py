"""The page as a file, and then in a real browser, which must find no error and ask for nothing."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_results import CLASSES, fake

from jifv.experiments.experiment import Experiment
from jifv.experiments.report import page

EVIL = "</script><b onclick='hacked = 1'>&amp;<!--"
NAMES = (EVIL, "<img src=x onerror='hacked = 1'>", *CLASSES[2:])
FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40"><circle cx="20" cy="20" r="9"/></svg>'
TABLE = page.Table(
    "median, degrees", ("of the", "angle", "n"), [("prediction", "3.10", "10"), ("response", "–", "7 %")]
)
LONE = Experiment("dncl", "densenet", "classifier", samples=75, canonical=10, jacobians=8, aggregation="identity")
NOT_FINITE = (4, 66)
SILENT, OFF_V = 6, 9


def with_flags(results):
    """One sample of every flag, and names of features that a page must not take for markup."""
    flags = {name: getattr(results, name).copy() for name in ("silent", "on_floor", "off_v", "objectives", "response")}
    flags["silent"][SILENT, :3] = True
    flags["on_floor"][8] = True
    flags["off_v"][OFF_V] = 0.999
    flags["objectives"][OFF_V] = 10**-0.5
    flags["response"][NOT_FINITE[1]] = (np.inf, -np.inf, *[1] * 8)
    return results._replace(**flags, feature_names=NAMES)


@pytest.fixture(scope="module")
def lone():
    return with_flags(fake(LONE, side=16, not_finite=NOT_FINITE))


@pytest.fixture(scope="module")
def several():
    base = Experiment("dnde", "densenet", "dense3", samples=9, features=12)
    cells = [replace(base, name=f"dnde-k{k}", settings=replace(base.settings, power=k)) for k in (0, 2)]
    return [fake(cell, seed=seed, side=12) for seed, cell in enumerate(cells)]


def written(folder, cells, *, title="dncl: <i>scores</i>", tables=(TABLE,), figures=None):
    path = folder / "report.html"
    page.write(path, title=title, cells=cells, tables=tables, figures=figures or {"Fig. <2>": FIGURE})
    return path


def data_of(path):
    """The embedded data, as a browser that knows nothing of JSON finds it: up to the next end of a script."""
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script', text, re.S)[1])


def pixels(encoded):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))


@pytest.fixture(scope="module")
def lone_path(lone, tmp_path_factory):
    return written(tmp_path_factory.mktemp("lone"), [lone])


# The file.


def test_one_file_that_asks_for_nothing(lone_path):
    assert [path.name for path in lone_path.parent.iterdir()] == ["report.html"]
    text = lone_path.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"'\\<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|iframe|object|embed)\b|\bsrc=\"|@import|url\(|\bimport\(|fetch\(", text)


def test_numbers_come_back_and_what_is_not_finite_is_null(lone, lone_path):
    (cell,) = data_of(lone_path)["cells"]
    columns = {
        "angle": lone.angles["prediction_on_v"],
        "angle_in_rn": lone.angles["prediction"],
        "angle_response": lone.angles["response_on_v"],
        "angle_random": lone.angles["random_on_v"],
        "ssim": lone.ssim["prediction"],
        "ssim_response": lone.ssim["response"],
        "ssim_random": lone.ssim["random"],
        "gap": lone.gap_on_v,
        "off_v": lone.off_v,
    }
    for name, values in columns.items():
        read = np.array([np.nan if value is None else value for value in cell[name]])
        np.testing.assert_allclose(read, values, rtol=1e-5, err_msg=name)
    assert [i for i, angle in enumerate(cell["angle"]) if angle is None] == list(NOT_FINITE)
    assert cell["silent"][SILENT] == 3
    np.testing.assert_allclose(cell["on_silent"][SILENT], np.sum(lone.objectives[SILENT, :3] ** 2), rtol=1e-5)
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
        "on the floor": {8},
        "target on silent features": {SILENT} if cell["on_silent"][SILENT] > 0.9 else set(),
        "silent features": {SILENT},
    }
    assert [name for name in cell["canonical"] if name] == list(NAMES)


def test_bars_are_the_largest_entries_of_what_the_angles_compare(lone, lone_path):
    (cell,) = data_of(lone_path)["cells"]
    projection = lone.basis @ lone.basis.T
    vectors = {
        "target": lone.objectives @ projection,
        "prediction": lone.prediction_on_v @ projection,
        "response": np.where(lone.finite[:, None], lone.response, 0) @ projection,
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
    sources = (lone.images, lone.reoptimized["prediction"], lone.reoptimized["response"])
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
    np.testing.assert_allclose(image, several[0].images[0] * 255, atol=19)  # three bits
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
        "title": "What was run",
        "columns": ["experiment", "power k"],
        "rows": [["dnde-k0", "0"], ["dnde-k2", "2"]],
    }
    facts = dict(data["facts"])
    assert facts["network"] == "densenet"
    assert facts["features n"] == "12"
    assert facts["critical space V"] == "Rⁿ"
    assert facts["steps"] == "800 Adam, 300 L-BFGS"
    assert facts["seed"] == "0"
    alone = dict(data_of(lone_path)["facts"])
    assert (alone["power k"], alone["critical space V"], alone["samples"]) == ("2", "dimension 9", "75, 10 canonical")


def test_errors(tmp_path, several):
    with pytest.raises(ValueError, match="cells must hold the results of at least one experiment, got none"):
        written(tmp_path, [])
    with pytest.raises(ValueError, match="tables must have 2 strings a row in 'short'"):
        written(tmp_path, several, tables=[page.Table("short", ("a", "b"), [("1", "2"), ("1",)])])
    assert not list(tmp_path.iterdir())


# In a browser.

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the tests in a browser need playwright")
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"the tests in a browser need one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found[0], args=QUIET.split())
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens a file; at the end there must have been no error and no request."""
    troubles, contexts = [], []

    def open_(path: Path, width=1440, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.set_default_timeout(20_000)
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("console", lambda message: troubles.append(message.text))
        tab.on("request", lambda sent: sent.url.startswith(("data:", path.as_uri())) or troubles.append(sent.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector(".card")
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


def order(tab):
    """The samples in the gallery, as numbers; those of further pages included."""
    shown = tab.evaluate("[...document.querySelectorAll('#gallery .card')].map((card) => card.dataset.sample)")
    assert shown == tab.evaluate("view.slice(0, 60).map((row) => `${row.c}/${row.i}`)")
    return tab.evaluate("view.map((row) => row.order)")


def value(tab, name, what):
    tab.locator(f"[name={name}]").fill(str(what))


def choose(tab, name, what):
    tab.locator(f"[name={name}]").select_option(what)


def point(tab, sample, series="prediction"):
    return tab.locator(f".point[data-sample='{sample}'][data-series={series}]")


def hover(tab, sample):
    """Move to a point; returns the sample whose card is in the tooltip."""
    box = point(tab, sample).bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    return tab.locator("#tooltip .card").get_attribute("data-sample")


def far_from_others(results):
    """Samples that no other one is near to in the scatter."""
    places = np.stack([results.angles["prediction_on_v"], results.ssim["prediction"]], -1)
    places = (places - np.nanmin(places, 0)) / np.ptp(places[np.isfinite(places).all(-1)], axis=0)
    distance = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(len(places)) * 9
    return np.argsort(-np.nan_to_num(np.nanmin(np.where(np.isnan(distance), 9, distance), -1) * results.finite))[:4]


def test_everything_is_drawn(visit, lone_path):
    tab = visit(lone_path)
    assert tab.title() == tab.locator("h1").inner_text() == "dncl: <i>scores</i>"
    assert "densenet" in tab.locator("#facts").inner_text()
    assert tab.locator("#tables td").all_inner_texts() == [cell for row in TABLE.rows for cell in row]
    assert tab.locator("#tables td.number").count() == 4
    assert tab.locator("#pictures figcaption").all_inner_texts() == ["Fig. <2>"]
    assert tab.evaluate("document.querySelector('#pictures img').decode().then(() => true)")
    assert tab.locator("#count").inner_text() == "75 of 75 samples, 1–60 on this page"
    assert tab.locator(".card").count() == 60
    assert tab.locator(".point").count() == 75 - len(NOT_FINITE)
    assert tab.locator("#undrawn").inner_text().startswith("2 without an angle or SSIM")
    assert tab.evaluate("[...document.images].filter((image) => image.complete && !image.naturalWidth).length") == 0
    assert tab.evaluate("getComputedStyle(document.querySelector('.card img')).imageRendering") == "pixelated"
    lost = tab.locator(f"[data-sample='0/{NOT_FINITE[0]}']")
    assert lost.locator("dd").all_inner_texts()[2:] == ["–"] * 4
    assert lost.locator(".missing").count() == 3
    assert "not finite" in lost.locator(".notes").inner_text()
    assert "3 silent features" in tab.locator(f"[data-sample='0/{SILENT}'] .notes").inner_text()


def test_names_of_features_are_text(visit, lone_path):
    tab = visit(lone_path)
    choose(tab, "flag_0", "1")
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.locator("b[onclick], img[onerror]").count() == 0
    assert tab.locator(".card h3 span").first.inner_text() == f"canonical: {EVIL}"
    titles = tab.locator(".card .bars title").all_text_contents()
    assert sum(title.startswith(f"{EVIL}: target 0.9") for title in titles) == 1


def test_sort_is_that_of_numpy(visit, lone_path):
    tab = visit(lone_path)
    (cell,) = data_of(lone_path)["cells"]
    for sign, keys in ((1, ("angle", "sparseness", "ssim_response")), (-1, ("index", "gap", "ssim", "angle"))):
        choose(tab, "order", str(sign))
        for key in keys:
            choose(tab, "sort", key)
            values = np.array([np.nan if value is None else value for value in cell[key]])
            assert order(tab) == np.argsort(sign * values, kind="stable").tolist(), (key, sign)
    assert set(order(tab)[-2:]) == set(NOT_FINITE)  # NumPy has NaN last as well
    tab.get_by_text("Next").first.click()
    assert tab.locator(".card").count() == 15
    assert tab.locator(".card").last.get_attribute("data-sample") == f"0/{NOT_FINITE[1]}"
    assert tab.locator("#count").inner_text().endswith("61–75 on this page")


def test_filters_keep_what_they_say(visit, lone, lone_path):
    tab = visit(lone_path)
    (cell,) = data_of(lone_path)["cells"]
    angle, ssim, sparse = (
        np.array([np.nan if value is None else value for value in cell[key]]) for key in ("angle", "ssim", "sparseness")
    )
    limit, least, densest = np.nanmedian(angle), np.nanquantile(ssim, 0.3), np.quantile(sparse, 0.2)
    kept = angle <= limit
    value(tab, "angle_max", limit)
    assert order(tab) == np.flatnonzero(kept).tolist()
    kept &= ssim >= least
    value(tab, "ssim_min", least)
    assert order(tab) == np.flatnonzero(kept).tolist()
    kept &= sparse >= densest
    value(tab, "sparseness_min", densest)
    assert order(tab) == np.flatnonzero(kept).tolist()
    assert tab.locator("#count").inner_text() == f"{kept.sum()} of 75 samples"
    assert tab.locator(".point").count() == kept.sum()
    choose(tab, "flag_0", "1")
    assert order(tab) == np.flatnonzero(kept & lone.canonical).tolist()
    value(tab, "angle_min", 179)
    assert tab.locator("#count").inner_text() == "0 of 75 samples: none fits the filter"
    assert tab.locator(".card").count() == 0
    tab.get_by_role("button", name="Reset").click()
    tab.wait_for_function("view.length === 75")
    choose(tab, "flag_1", "0")
    assert len(order(tab)) == 73
    choose(tab, "flag_1", "1")
    assert order(tab) == list(NOT_FINITE)


def test_hover_shows_the_sample_and_click_goes_to_it(visit, lone, lone_path):
    tab = visit(lone_path)
    tooltip = tab.locator("#tooltip")
    assert tooltip.is_hidden()
    tab.locator("#plot").scroll_into_view_if_needed()
    for sample in far_from_others(lone):
        # A scroll that comes to rest late takes the tooltip away, until the mouse moves again.
        for _ in range(5):
            assert hover(tab, f"0/{sample}") == f"0/{sample}"
            if box := tooltip.bounding_box():
                break
            tab.mouse.move(2, 2)
        assert f"{lone.ssim['prediction'][sample]:.3f}" in tooltip.inner_text()
        assert min(box["x"], box["y"]) >= 0
        assert box["x"] + box["width"] <= 1440
        assert box["y"] + box["height"] <= 900
    tab.mouse.move(2, 2)
    tooltip.wait_for(state="hidden")
    # The sample may be on another page, and far below.
    choose(tab, "order", "-1")
    for sample in far_from_others(lone)[:2]:
        tab.locator("#plot").scroll_into_view_if_needed()
        point(tab, f"0/{sample}").click()
        card = tab.locator("#gallery .current")
        assert card.get_attribute("data-sample") == f"0/{sample}"
        box = card.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900
        assert tooltip.is_hidden()


def test_keyboard(visit, lone, lone_path):
    tab = visit(lone_path)
    by_angle = np.argsort(lone.angles["prediction_on_v"])
    tab.locator("nav a").last.focus()
    tab.keyboard.press("Tab")
    tooltip = tab.locator("#tooltip .card")
    for sample in by_angle[:3]:
        assert tooltip.get_attribute("data-sample") == f"0/{sample}"
        assert f"sample {sample}, prediction: " in tab.evaluate("document.activeElement.getAttribute('aria-label')")
        tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Escape")
    tab.locator("#tooltip").wait_for(state="hidden")
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.dataset.sample") == f"0/{by_angle[2]}"


def test_other_series_and_a_logarithmic_axis(visit, lone, lone_path):
    tab = visit(lone_path)
    sample = int(np.nanargmax(lone.angles["prediction_on_v"]))
    for name in ("response", "random"):
        tab.locator(f"#series [name={name}]").check()
        assert point(tab, f"0/{sample}", name).count() == 1
    assert tab.locator(".point").count() == 3 * 73
    degrees = lone.angles["response_on_v"][sample]
    assert f"response: {degrees:.1f}°" in point(tab, f"0/{sample}", "response").get_attribute("aria-label")
    tab.locator("#series [name=log]").check()
    names = ("prediction", "response", "random")
    places = np.array([point(tab, f"0/{sample}", name).bounding_box()["x"] for name in names])
    logarithms = np.log([lone.angles[f"{name}_on_v"][sample] for name in names])
    ratios = [(of[1] - of[0]) / (of[2] - of[0]) for of in (places, logarithms)]
    assert ratios[0] == pytest.approx(ratios[1], abs=0.02)


def test_several_experiments(visit, several, tmp_path):
    tab = visit(written(tmp_path, several))
    assert tab.locator("#tables caption").all_inner_texts()[0].lower() == "what was run"
    colours = dict(
        tab.evaluate(
            "[...document.querySelectorAll('.point')].map((it) => [it.dataset.sample[0], getComputedStyle(it).fill])"
        )
    )
    assert sorted(colours) == ["0", "1"]
    assert colours["0"] != colours["1"]
    choose(tab, "sort", "angle")
    angles = np.concatenate([results.angles["prediction_on_v"] for results in several])
    assert order(tab) == np.argsort(angles, kind="stable").tolist()
    choose(tab, "cell", "1")
    assert sorted(order(tab)) == list(range(9, 18))
    assert tab.locator(".card h3").first.inner_text().startswith("dnde-k2 · sample ")
    tab.get_by_role("button", name="dnde-k0", exact=True).click()
    assert sorted(order(tab)) == list(range(9))
    tab.get_by_role("button", name="dnde-k0", exact=True).click()
    assert len(order(tab)) == 18


def test_dark_and_narrow(visit, lone_path):
    tab = visit(lone_path, width=400, color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    drawn = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("L"))
    assert np.median(drawn) < 40
    assert drawn.max() > 200
    assert hover(tab, tab.locator(".point").first.get_attribute("data-sample"))
    box = tab.locator("#tooltip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 400


def test_two_thousand_samples(visit, tmp_path):
    cells = [fake(Experiment("a", "densenet", "block8", samples=2000, features=8), side=8)]
    tab = visit(written(tmp_path, cells))
    assert tab.locator(".card").count() == 60
    choose(tab, "sort", "angle")
    choose(tab, "order", "-1")
    angles = [value if value is not None else np.nan for value in cells[0].angles["prediction_on_v"]]
    assert order(tab)[:100] == np.argsort(-np.array(angles), kind="stable")[:100].tolist()
    assert tab.locator(".point").count() == 2000
