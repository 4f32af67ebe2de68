"""One `dagster dev` for all browser tests of a worker, and a page for each."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from lab.dagster_ui import DagsterUi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterUi]:
    sets = {"apple": ["a red apple", "a green apple"], "fig": ["a fig", "two figs", "a fig tree"], "pear": ["a pear"]}
    with DagsterUi(tmp_path_factory.mktemp("dagster_ui"), sets) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("Tests marked `browser` need Chromium: install it (apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page of its own; how it looked in the end is in the test's folder."""
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.set_default_timeout(60_000)
    yield page
    page.screenshot(path=tmp_path / "at_the_end.png")
    page.close()
