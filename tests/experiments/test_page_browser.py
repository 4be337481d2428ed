"""Both pages in a real browser, which must find no error and ask for nothing."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import launched
from support.fake_results import fake
from support.pages import DEAD, EVIL, NOT_FINITE, TABLE, data_of, written

from jifv.experiments.experiment import Experiment
from jifv.experiments.report import embed


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


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


def choose(tab, name, what=None, **options):
    tab.locator(f"[name={name}]").select_option(what, **options)


def point(tab, sample, series="prediction"):
    return tab.locator(f".point[data-sample='{sample}'][data-series={series}]")


def hover(tab, sample):
    """Move to a point; returns the sample whose card is in the tooltip."""
    point(tab, sample).scroll_into_view_if_needed()
    box = point(tab, sample).bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    return tab.locator("#tooltip .card").get_attribute("data-sample")


def far_from_others(results):
    """Samples that no other one is near to in the scatter."""
    places = np.stack([results.evaluation.angles["prediction_on_v"], results.evaluation.ssim["prediction"]], -1)
    places = (places - np.nanmin(places, 0)) / np.ptp(places[np.isfinite(places).all(-1)], axis=0)
    distance = np.linalg.norm(places[:, None] - places, axis=-1) + np.eye(len(places)) * 9
    return np.argsort(
        -np.nan_to_num(np.nanmin(np.where(np.isnan(distance), 9, distance), -1) * results.realized.finite)
    )[:4]


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
    assert "3 dead features" in tab.locator(f"[data-sample='0/{DEAD}'] .notes").inner_text()


def test_names_of_features_are_text(visit, lone_path):
    tab = visit(lone_path)
    choose(tab, "flag_0", "1")
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.locator("b[onclick], img[onerror]").count() == 0
    assert tab.locator(".card h3 span").first.inner_text() == f"canonical: {EVIL}"
    titles = tab.locator(".card .bars title").all_text_contents()
    assert sum(title.startswith(f"{EVIL}: target 0.9") for title in titles) == 1


@pytest.mark.slow  # the order of several experiments is NumPy's below
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


@pytest.mark.slow  # the names of features above are those of a filter
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
        assert f"{lone.evaluation.ssim['prediction'][sample]:.3f}" in tooltip.inner_text()
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
    by_angle = np.argsort(lone.evaluation.angles["prediction_on_v"])
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


@pytest.mark.slow  # the first series is drawn above
def test_other_series_and_a_logarithmic_axis(visit, lone, lone_path):
    tab = visit(lone_path)
    sample = int(np.nanargmax(lone.evaluation.angles["prediction_on_v"]))
    for name in ("response", "random"):
        tab.locator(f"#series [name={name}]").check()
        assert point(tab, f"0/{sample}", name).count() == 1
    assert tab.locator(".point").count() == 3 * 73
    degrees = lone.evaluation.angles["response_on_v"][sample]
    assert f"response: {degrees:.1f}°" in point(tab, f"0/{sample}", "response").get_attribute("aria-label")
    tab.locator("#series [name=log]").check()
    names = ("prediction", "response", "random")
    places = np.array([point(tab, f"0/{sample}", name).bounding_box()["x"] for name in names])
    logarithms = np.log([lone.evaluation.angles[f"{name}_on_v"][sample] for name in names])
    ratios = [(of[1] - of[0]) / (of[2] - of[0]) for of in (places, logarithms)]
    assert ratios[0] == pytest.approx(ratios[1], abs=0.02)


def test_several_experiments(visit, several, tmp_path):
    tab = visit(written(tmp_path, several))
    assert tab.locator("#tables caption").all_inner_texts()[0].lower() == "what differs"
    colours = dict(
        tab.evaluate(
            "[...document.querySelectorAll('.point')].map((it) => [it.dataset.sample[0], getComputedStyle(it).fill])"
        )
    )
    assert sorted(colours) == ["0", "1"]
    assert colours["0"] != colours["1"]
    choose(tab, "sort", "angle")
    angles = np.concatenate([results.evaluation.angles["prediction_on_v"] for results in several])
    assert order(tab) == np.argsort(angles, kind="stable").tolist()
    choose(tab, "cell", "1")
    assert sorted(order(tab)) == list(range(9, 18))
    assert tab.locator(".card h3").first.inner_text().startswith("dnde-k2 · sample ")
    tab.get_by_role("button", name="dnde-k0", exact=True).click()
    assert sorted(order(tab)) == list(range(9))
    tab.get_by_role("button", name="dnde-k0", exact=True).click()
    assert len(order(tab)) == 18


@pytest.mark.slow  # looks
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


@pytest.mark.parametrize("samples", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_samples(visit, tmp_path, samples):
    cells = [fake(Experiment("a", "densenet", "block8", samples=samples, features=8), side=8)]
    tab = visit(written(tmp_path, cells))
    assert tab.locator(".card").count() == 60
    choose(tab, "sort", "angle")
    choose(tab, "order", "-1")
    angles = [value if value is not None else np.nan for value in cells[0].evaluation.angles["prediction_on_v"]]
    assert order(tab)[:100] == np.argsort(-np.array(angles), kind="stable")[:100].tolist()
    assert tab.locator(".point").count() == samples


# The page of people's own pictures.


@pytest.fixture(scope="module")
def values():
    """What 70 pictures are sorted by, one of them without a value and two with the same."""
    found = np.random.default_rng(0).normal(size=70).astype(np.float32)
    found[[3, 40]] = np.nan, found[8]
    return found


@pytest.fixture(scope="module")
def pictures_path(values, tmp_path_factory):
    encoded = embed.encoded(np.random.default_rng(1).uniform(size=(12, 12, 3)))
    cards = [
        {
            "title": f"picture {index}",
            "kind": "optimal" if index % 3 else "nothing",
            "verdict": f"it is {EVIL}",
            "speaks": bool(index % 3),
            "notes": ["2 dead features"] if index == 5 else [],
            "size": (12, 12),
            "images": [["picture", None if index == 3 else encoded]],
            "numbers": [["gap", f"{values[index]:.3g}"]],
            "sort": embed.numbers(values[[index]]),
            "entries": [0, 2],
            "vectors": {"prediction": [0.9, -0.4], "response": [0.5, 0.1]},
            "scale": [-0.4, 0.9],
        }
        for index in range(70)
    ]
    data = {"title": "70 <i>pictures</i>", "facts": [["network", "toy"]], "tables": [], "figures": [], "entries": 2}
    data |= {"features": [EVIL, "b", "c"], "series": ["prediction", "response"], "keys": ["gap"], "cards": cards}
    data |= {"terms": [["gap", f"how sure, {EVIL}"], ["negative", "what nobody wants"]]}
    path = tmp_path_factory.mktemp("pictures") / "report.html"
    embed.write(path, "pictures.html", data)
    return path


def numbers(tab):
    """The pictures in the gallery, of this page."""
    return [int(card.get_attribute("data-sample")) for card in tab.locator("#gallery .card").all()]


def test_pictures_are_drawn(visit, pictures_path):
    tab = visit(pictures_path)
    assert tab.title() == tab.locator("h1").inner_text() == "70 <i>pictures</i>"
    assert numbers(tab) == list(range(60))
    assert tab.locator("#count").inner_text() == "70 of 70, 1–60 on this page"
    assert tab.locator("#legend").inner_text().split("\n")[:2] == ["prediction", "response"]
    assert "The 2 features with the largest entries; numbers are those of the prediction." in (
        tab.locator("#legend").inner_text()
    )
    assert tab.locator("#terms div").all_inner_texts() == [f"gap: how sure, {EVIL}", "negative: what nobody wants"]
    card = tab.locator("[data-sample='5']")
    assert card.locator(".verdict").inner_text() == f"it is {EVIL}"
    assert card.locator(".notes").inner_text() == "2 dead features"
    assert card.locator(".bars title").all_text_contents()[0] == f"{EVIL}: prediction 0.900, response 0.500"
    assert tab.locator("[data-sample='3'] .missing").count() == 1
    assert tab.evaluate("typeof hacked") == "undefined"


def test_pictures_are_sorted_filtered_and_paged(visit, pictures_path, values):
    tab = visit(pictures_path)
    choose(tab, "sort", label="gap")
    for sign in (1, -1):
        choose(tab, "order", str(sign))
        wanted = np.argsort(sign * values, kind="stable").tolist()  # NumPy has NaN last as well
        assert numbers(tab) == wanted[:60]
    assert tab.get_by_text("Previous").first.is_disabled()
    tab.get_by_text("Next").first.click()
    assert numbers(tab) == wanted[60:]
    assert tab.locator("#gallery").get_attribute("start") == "61"
    assert tab.locator("#count").inner_text() == "70 of 70, 61–70 on this page"
    assert tab.get_by_text("Next").last.is_disabled()
    tab.get_by_text("Previous").last.click()
    assert numbers(tab) == wanted[:60]
    tab.get_by_text("Next").last.click()
    choose(tab, "kind", "nothing")
    assert numbers(tab) == [index for index in wanted if index % 3 == 0]
    assert tab.locator("#count").inner_text() == "24 of 70"
    assert tab.locator(".pager button").count() == 0
