"""The report in a browser: nothing leaves it, everybody can read it, and hostile names do nothing."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pexip_history.report import write_report
from tests.management_node.calls import calls
from tests.report_reader import FACTS, NOW, OSLO, Reader, one, write_archive
from tests.test_report import HOSTILE

from .conftest import Opened, Opener

WIDTHS = [360, 768, 1600]


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    """Names that break pages: those of the node's own calls, and those of test_report.py, everywhere."""
    named = [
        one(text, *[("09:00:00", "10:00:00")] * 21, call_quality="3_bad", **dict.fromkeys(
            ("vendor", "disconnect_reason", "protocol", "system_location", "media_node", "license_type"), text
        ))
        for text in HOSTILE
    ]  # fmt: skip
    write_archive(folder / "hostile", [*named, *calls(seed=3, day=date(2026, 10, 20), conferences=200)])
    write_report(folder / "hostile", folder / "hostile.html", zone=OSLO, facts=FACTS, now=NOW)
    return folder / "hostile.html"


@pytest.fixture(params=["usual", "hostile"])
def file(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(str(request.param))


def unfold(opened: Opened) -> None:
    opened.page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")


def test_no_request_leaves_the_page_and_nothing_runs(open_page: Opener, file: Path) -> None:
    opened = open_page(file)
    unfold(opened)
    opened.page.wait_for_timeout(300)
    assert [url for url in opened.requests if url not in (file.as_uri(), "data:,")] == []
    assert opened.said == []
    assert opened.page.title().startswith("Call history, ")
    assert opened.page.locator("script").count() == 0


def test_the_policy_stops_what_would_run_or_load(open_page: Opener, usual: Path, folder: Path) -> None:
    """As if something had got past the escaping: the browser itself refuses it."""
    broken = folder / "broken.html"
    added = '<script>document.title = "run"</script><img src="http://192.0.2.1/x"><style>h1 { display: none }</style>'
    broken.write_text(usual.read_text().replace("<header>", f"{added}<header>"))
    opened = open_page(broken)
    assert opened.page.title().startswith("Call history, ")
    assert opened.page.locator("h1").is_visible()
    assert any("Content Security Policy" in text for text in opened.said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Opener, file: Path, scheme: str) -> None:
    opened = open_page(file, scheme=scheme)
    unfold(opened)
    found: dict[str, Any] = Axe().run(opened.page).response
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways(open_page: Opener, file: Path, width: int) -> None:
    opened = open_page(file, width=width)
    unfold(opened)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "all => all.filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML)"
    )
    assert opened.page.eval_on_selector_all("main p, figure, svg, svg text, .cards > div, .scroll, h2", outside) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_labels_of_a_picture_do_not_run_into_each_other(open_page: Opener, usual: Path, width: int) -> None:
    opened = open_page(usual, width=width)
    touching = """pictures => pictures.flatMap(picture => {
        const texts = [...picture.querySelectorAll('text')];
        const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
        return boxes.flatMap(([one, a], place) => boxes.slice(place + 1)
            .filter(([, b]) => a.left < b.right + 8 && b.left < a.right + 8)
            .filter(([, b]) => a.top + 3 < b.bottom && b.top + 3 < a.bottom)
            .map(([other]) => `${one} and ${other}`));
    })"""
    assert opened.page.eval_on_selector_all("svg", touching) == []


def test_the_keyboard_reaches_every_part_and_opens_the_numbers(open_page: Opener, usual: Path) -> None:
    opened = open_page(usual)
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "To the numbers"
    links = opened.page.locator("nav a")
    assert [link.get_attribute("href") for link in links.all()] == [
        f"#{section.get_attribute('id')}" for section in opened.page.locator("section").all()
    ]
    summary = opened.page.locator("summary").first
    summary.focus()
    opened.page.keyboard.press("Enter")
    assert opened.page.locator("details").first.get_attribute("open") is not None


def test_dark_is_dark_and_light_is_light(open_page: Opener, usual: Path) -> None:
    for scheme, darker in (("light", False), ("dark", True)):
        opened = open_page(usual, scheme=scheme)
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) < 300) is darker


def test_print_shows_the_folded_numbers_in_black_on_white(open_page: Opener, usual: Path) -> None:
    opened = open_page(usual, scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="light")
    assert opened.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert opened.page.locator("details table").first.bounding_box()
    assert (opened.page.locator(".pair details caption").first.bounding_box() or {})["height"] > 10
    assert not opened.page.locator("nav").is_visible()
    assert not opened.page.locator("summary").first.is_visible()


def test_the_tables_are_shown_as_they_were_written(open_page: Opener, usual: Path) -> None:
    """What test_report_oracle.py holds against a computation of its own is what a reader sees and copies."""
    opened = open_page(usual)
    unfold(opened)
    cells = "all => all.map(table => [...table.rows].map(row => [...row.cells].map(cell => cell.innerText)))"
    assert opened.page.eval_on_selector_all("table", cells) == list(Reader(usual.read_text()).tables.values())


def test_every_picture_has_its_name_where_it_is_read_out(open_page: Opener, usual: Path) -> None:
    opened = open_page(usual)
    pictures = opened.page.get_by_role("img").all()
    assert len(pictures) > 10
    for picture in pictures:
        assert picture.locator("title").first.text_content()
        assert picture.locator("desc").first.text_content()


def test_a_full_bar_is_all_of_it_and_terrible_is_told_without_its_colour(open_page: Opener, usual: Path) -> None:
    opened = open_page(usual)
    said = opened.page.eval_on_selector_all(
        "#reasons svg",
        "all => all.flatMap(svg => [...svg.querySelectorAll('rect:not(.rail)')].map(bar => bar.getAttribute('width')))",
    )
    shares = [row[2].replace(" ", "") for row in Reader(usual.read_text()).table("Disconnect reasons")]
    assert [float(width.rstrip("%")) for width in said] == pytest.approx(
        [float(share.rstrip("%")) for share in shares], abs=0.06
    )
    assert opened.page.locator("#quality rect[fill*='-stripes']").count() > 0


def test_a_months_tables_stay_whole_on_numbered_pages(open_page: Opener, usual: Path) -> None:
    opened = open_page(usual)
    opened.page.emulate_media(media="print")
    rules = "all => all.map(each => getComputedStyle(each).breakInside)"
    assert set(opened.page.eval_on_selector_all("table.short", rules)) == {"avoid"}
    assert set(opened.page.eval_on_selector_all("thead", "all => all.map(e => getComputedStyle(e).display)")) == {
        "table-header-group"
    }
    assert set(opened.page.eval_on_selector_all("p.lead, p.note", rules)) == {"avoid"}
    assert "counter(page)" in usual.read_text()
