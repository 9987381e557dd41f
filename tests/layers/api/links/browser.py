"""Chromium without a window, as the tests of pages use it."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEAD_MAN_S = 30.0
DESKTOP, PHONE, NARROWEST = (1280, 800), (390, 844), (320, 640)
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)


def needed() -> tuple[str, str]:
    """Return where Chromium and its driver are; without them the test is skipped, except in CI."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        reason = "the pages are tested in a browser: install the packages chromium and chromium-driver"
        if "CI_WHEEL" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    return chromium, driver


@contextmanager
def browser(profile: Path, *, javascript: bool = True) -> Iterator[Chrome]:
    """Open a browser with a profile of its own."""
    chromium, driver = needed()
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (*QUIET, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not javascript:
        settings = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", settings)
    chrome = Chrome(options=options, service=ChromeService(driver))
    try:
        chrome.set_page_load_timeout(DEAD_MAN_S)
        yield chrome
    finally:
        chrome.quit()


def resize(chrome: Chrome, size: tuple[int, int], *, dark: bool = False) -> None:
    """Give the page so much room, on a device that prefers light or dark."""
    width, height = size
    mobile = width < 600
    metrics: dict[str, Any] = {
        "width": width,
        "height": height,
        "deviceScaleFactor": 2 if mobile else 1,
        "mobile": mobile,
    }
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def complaints(chrome: Chrome) -> list[str]:
    """Return what the console has said since it was last asked."""
    return [entry["message"] for entry in chrome.get_log("browser")]
