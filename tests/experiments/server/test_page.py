"""The page in a browser: a click becomes an event, and the list moves."""

import contextlib
import re
import shutil
import socket
import threading

import pytest
import uvicorn

from experiments.server.app import make_app
from experiments.server.engine import Engine
from experiments.server.sqlite_store import SqliteStore
from experiments.server.worker import Worker
from tests.experiments.server.conftest import Clock

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def served(export, store_file, token=None):
    """The address of a server."""
    app = make_app(Worker(Engine(export, SqliteStore(store_file), Clock())), token)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


class Watched:
    """A page, with what went wrong there and what it asked for."""

    def __init__(self, browser, url, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.errors, self.asked = [], []
        self.page.on("console", lambda one: self.errors.append(one.text))
        self.page.on("pageerror", lambda one: self.errors.append(str(one)))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(url)

    def list(self):
        return self.page.locator("#list .pick").all_text_contents()

    def said(self, pattern):
        self.page.locator("#said", has_text=re.compile(pattern)).wait_for()


def test_a_click_moves_the_list(browser, export, store_file):
    """With the mouse and with the keyboard; the focus stays, and nobody else is asked anything."""
    with served(export, store_file) as url:
        seen = Watched(browser, url)
        page = seen.page
        seen.said("User a.")
        assert page.get_by_label("User", exact=True).input_value() == "a"
        assert page.locator("#past > li").count() == 2
        assert page.locator("#past .picks li").all_text_contents()[:2] == [
            "unknown item",
            "title of i4",
        ]
        before = seen.list()
        assert len(before) == 10
        assert page.locator("#list > li").first.locator("dt").all_text_contents()[0] == "hierarchy"
        page.locator("#list .pick").nth(2).click()
        seen.said(f"{before[2]} is now an event")
        after = seen.list()
        assert after != before
        assert before[2] in page.locator("#past .picks").first.text_content()
        focused = "[...document.querySelectorAll('.pick')].indexOf(document.activeElement)"
        assert page.evaluate(focused) == 2
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        seen.said(f"{after[1]} is now an event")
        assert page.evaluate(focused) == 1
        page.get_by_role("button", name="Invent a user").click()
        seen.said("User guest-.* is new")
        assert page.locator("#past > li").count() == 0
        first = seen.list()[0]
        page.locator("#list .pick").first.click()
        seen.said("is now an event")
        page.get_by_label("Only items that").check()
        page.locator("#list .pick").nth(9).wait_for(state="detached")
        assert first not in seen.list()
        assert all(one.startswith(url) for one in seen.asked)
        assert not seen.errors
        seen.context.close()


def test_the_page_needs_the_token_too_and_fits_a_phone(browser, export, store_file):
    """The token is nowhere but in the field."""
    with served(export, store_file, "secret") as url:
        seen = Watched(browser, url, viewport={"width": 360, "height": 740}, color_scheme="dark")
        page = seen.page
        page.get_by_role("alert").filter(has_text="needs a token").wait_for()
        page.get_by_label("Token of the server").fill("secret")
        page.get_by_label("User", exact=True).fill("b/ü?")
        page.keyboard.press("Enter")
        seen.said("User b/ü\\? is new")
        assert page.locator("#wrong").text_content() == ""
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert not seen.context.cookies()
        page.goto(f"{url}docs")
        assert page.locator(".route h2", has_text="POST /v1/events").count() == 1
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
        assert all(one.startswith(url) for one in seen.asked)
        assert {one.partition(" (")[0] for one in seen.errors} <= {
            "Failed to load resource: the server responded with a status of 401"
        }
        seen.context.close()
