"""Tiled's web page in Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from tiled.client.context import Context

PATIENCE = 60.0
"""s: for a page on a busy machine."""


@contextmanager
def chromium() -> Iterator[Chrome]:
    """Run Chromium without a window."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium and chromedriver are missing, and CI must not skip these tests")
        pytest.skip("Chromium and chromedriver are not installed")
    options = ChromeOptions()
    options.binary_location = browser
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")  # small in containers
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root cannot have
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


class WebPage:
    """Tiled's web page.

    Parameters
    ----------
    chrome : Chrome
        The browser.
    context : Context
        The server, and the key to it.
    """

    def __init__(self, chrome: Chrome, context: Context) -> None:
        self._chrome = chrome
        self._root = str(context.api_uri).removesuffix("/").removesuffix("/api/v1")
        chrome.get(f"{self._root}?api_key={context.api_key}")  # kept in a cookie from here on

    def open(self, *path: str) -> None:
        """Open the page of a node."""
        self._chrome.get(f"{self._root}/ui/browse/{'/'.join(map(quote, path))}/")

    def open_api(self, endpoint: str, *path: str) -> None:
        """Open an address of the API, such as one that gives HTML."""
        node, _, query = "/".join(path).partition("?")
        self._chrome.get(f"{self._root}/api/v1/{endpoint}/{quote(node)}?{query}")

    def click(self, text: str) -> None:
        """Click what has this text, when it is there."""
        found = self._wait(lambda: self._chrome.find_elements(By.XPATH, f"//*[text()='{text}']"))
        found[-1].click()

    def wait_for(self, *texts: str) -> str:
        """Wait until the page has one of these texts; return all of its text."""

        def text() -> str:
            shown = self._chrome.find_element(By.TAG_NAME, "body").text
            return shown if any(text in shown for text in texts) else ""

        return str(self._wait(text))

    def gray_levels(self) -> list[list[int]]:
        """Return the image that is shown, when there is one that is not all of one color."""
        script = """
            const canvas = document.querySelector("canvas");
            if (!canvas || !canvas.width || !canvas.height) return null;
            const size = [canvas.width, canvas.height];
            return [size, Array.from(canvas.getContext("2d").getImageData(0, 0, ...size).data)];
        """

        def image() -> list[list[int]]:
            (width, height), data = self._chrome.execute_script(script) or ((0, 0), [])
            red = data[::4]
            rows = [red[row * width : (row + 1) * width] for row in range(height)]
            return rows if len(set(red)) > 1 else []

        found: list[list[int]] = self._wait(image)
        return found

    def _wait(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self._chrome, PATIENCE, 0.1).until(lambda chrome: condition())
