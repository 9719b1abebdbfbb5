"""Pages in a real browser: the system's Chromium, through Playwright."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
# What is wider than the window and does not scroll inside a box of its own.
WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.wide, pre, code, svg, table'))
    .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(e => e.tagName + ': ' + e.textContent.slice(0, 40))"""
PICTURES = "() => [...document.images].filter(i => !i.naturalWidth).map(i => i.alt || i.src)"
ANCHORS = """() => [...document.querySelectorAll('a[href^="#"]')]
    .map(a => a.getAttribute('href')).filter(h => h.length > 1)
    .filter(h => !document.getElementById(decodeURIComponent(h.slice(1))))"""


@contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def faults(browser, path, scheme="light"):
    """What is wrong with a page: errors, missing pictures, dead anchors, text wider than it."""
    found = []
    for name, size in SIZES.items():
        found += [f"{name}: {fault}" for fault in _faults(browser, path, size, scheme)]
    return found


def _faults(browser, path, size, scheme):
    found = []
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.on("console", lambda message: message.type == "error" and found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("requestfailed", lambda request: found.append(request.url))
    page.goto(path.as_uri())
    for script in (WIDE, PICTURES, ANCHORS):
        found += page.evaluate(script)
    page.close()
    return found
