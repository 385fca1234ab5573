"""Debian's Chromium, driven by Playwright; it reaches nothing but the page's own file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from pexip_history.report import write_report
from tests.management_node.weeks import weeks
from tests.report_reader import FACTS, NOW, OSLO, write_archive

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.fail("Chromium is missing; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="session")
def usual(folder: Path) -> Path:
    """The report of a company's two months."""
    write_archive(folder / "usual", weeks(1, date(2026, 11, 24)))
    write_report(folder / "usual", folder / "usual.html", zone=OSLO, facts=FACTS, now=NOW)
    return folder / "usual.html"


@dataclass
class Opened:
    """A page, and what it did besides showing itself."""

    page: Page
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def request(self, request: Request) -> None:
        self.requests.append(request.url)

    def say(self, message: ConsoleMessage) -> None:
        self.said.append(message.text)


@dataclass
class Opener:
    browser: Browser

    def __call__(self, file: Path, width: int = 1100, scheme: str = "light") -> Opened:
        context = self.browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light", offline=True
        )
        opened = Opened(context.new_page())
        opened.page.on("request", opened.request)
        opened.page.on("console", opened.say)
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("dialog", lambda dialog: (opened.said.append(dialog.message), dialog.dismiss()))
        opened.page.goto(file.as_uri())
        return opened


@pytest.fixture(scope="session")
def open_page(browser: Browser) -> Opener:
    return Opener(browser)
