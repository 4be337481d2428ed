"""`jifv app` in a real browser, on a toy network: an example without a click, then pictures that are opened."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from PIL import Image
from support.browser import launched
from support.toy import network, scores
from typer.testing import CliRunner

from jifv.cli import app
from jifv.experiments.pictures import Setting, invert_pictures

TOY = """
import sys
from support.toy import network, scores
import jifv.models
from jifv.cli import app
from jifv.experiments.pictures import desk
one = network(scores)
jifv.models.available = lambda: ("toy",)
desk.network_of = lambda setting: one
app(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(browser):
    """The command in a process of its own, which Ctrl-C ends."""
    pytest.importorskip("marimo", reason="the extra `app` brings it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", TOY, "app", "--headless", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}").close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def tab(browser, address):
    """The page; at the end there must have been no error, and no request to another computer."""
    troubles = []
    tab = browser.new_page(viewport={"width": 1200, "height": 1000})
    tab.set_default_timeout(120_000)
    tab.on("pageerror", lambda error: troubles.append(str(error)))
    tab.on("request", lambda sent: sent.url.startswith((address, "data:", "blob:")) or troubles.append(sent.url))
    tab.goto(address)
    yield tab
    assert troubles == []


@pytest.mark.slow
def test_an_example_is_there_without_a_click(tab):
    said = tab.get_by_text("It was made for").inner_text()
    assert re.search(r"made for feature \d \(\d\.\d\d\)", said)
    assert float(re.search(r"is ([\d.]+)° off", said)[1]) < 10  # the response is some dozens of degrees off
    assert tab.get_by_role("heading", name="This picture is optimal for feature").count() == 1
    tab.get_by_text("for random: SSIM").wait_for()
    similar = [float(re.search(r"SSIM ([\d.]+)", text)[1]) for text in tab.get_by_text("SSIM 0").all_inner_texts()]
    assert len(similar) == 3
    assert min(similar) == similar[2]  # another objective changes most
    tab.get_by_text("With 90 % the objective is within").wait_for()
    assert tab.evaluate("[...document.images].filter((image) => image.complete && !image.naturalWidth).length") == 0
    assert tab.locator("figure img").count() == 5
    tab.set_viewport_size({"width": 400, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    tab.set_viewport_size({"width": 1200, "height": 1000})


@pytest.mark.slow
def test_a_picture_is_judged_in_the_words_of_invert(tab, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    tab.locator("input[type=file]").set_input_files(tmp_path / "noise.png")
    tab.get_by_role("button", name="Invert", exact=True).click()
    heading = tab.get_by_role("heading", name="optimal for nothing here")
    wanted = invert_pictures(
        [tmp_path / "noise.png"], Setting("toy"), network=network(scores), reoptimize_steps=0
    ).verdict(0)
    assert wanted.kind == "nothing"
    assert heading.inner_text() == f"This picture is {wanted.text()}"
    tab.get_by_text("for random: SSIM").wait_for()
    assert tab.get_by_text("It was made for").count() == tab.get_by_text("How sure is that?").count() == 0


@pytest.mark.slow
def test_what_is_no_picture_is_refused(tab, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    tab.locator("input[type=file]").set_input_files(tmp_path / "text.png")
    tab.get_by_role("button", name="Invert", exact=True).click()
    tab.get_by_text("text.png must be a picture").wait_for()


def test_without_marimo_the_command_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "marimo" else find(name))
    result = CliRunner().invoke(app, ["app"])
    assert result.exit_code == 1
    assert 'pip install "jifv[app]"' in result.output
