"""The browser that is installed."""

import shutil
from contextlib import contextmanager

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@contextmanager
def launched():
    """Launch it; skip the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the tests in a browser need playwright")
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"the tests in a browser need one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found[0], args=QUIET.split())
        yield browser
        browser.close()
