"""The report: what it makes of odd archives, what is on it and never is, and the file that it is."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pexip_history.errors import CollectorError
from pexip_history.report import Facts, choose_period, concurrency, write_report
from tests.conftest import ROOT
from tests.management_node.calls import conference, media_stream
from tests.report_reader import NOW, OSLO, Reader, one, report, report_of, write_archive, write_csv

# --- Small archives -------------------------------------------------------------------------------------------


def test_who_leaves_as_another_joins_is_not_counted_together_and_no_length_is_never_there(tmp_path: Path) -> None:
    stays = [("09:00:00", "10:00:00"), ("10:00:00", "11:00:00"), ("09:30:00", "09:30:00")]
    found = report_of(tmp_path, *(one("R", stays[n % 3]) for n in range(300)))
    rows = {row[0]: row[1:4] for row in found.table("The highest of the period")}
    assert rows["Participants"] == rows["Conferences"] == ["100", "2026-11-10 10:00", "2:00:00"]
    assert found.table("Peaks of the days")[0] == ["Participants", "100", "0", "0", "100"]
    days = found.table("Conferences and participants by day")
    assert [row[1:] for row in days if row[0].startswith("2026-11-10")] == [["300", "300"]]


def sort_by(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what comes and goes be summed in that order."""

    class Sorting:
        def __init__(self, db: Any) -> None:
            self.db = db

        def execute(self, sql: str) -> None:
            self.db.execute(sql.replace("ORDER BY t)", f"ORDER BY {order})"))

    hold = concurrency._hold  # private: DuckDB changes the order now and then alone, or has never been seen to
    monkeypatch.setattr(concurrency, "_hold", lambda db, *rest: hold(Sorting(db), *rest))


def test_a_sum_that_is_not_in_the_order_of_time_makes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sort_by("t DESC", monkeypatch)
    with pytest.raises(CollectorError, match="not in the order of time"):
        report_of(tmp_path, one())


@pytest.mark.parametrize("order", ["t, pair0", "t, pair0 DESC"])
def test_what_comes_and_goes_at_one_moment_is_summed_in_any_order(
    order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sort_by(order, monkeypatch)
    days = [datetime(2026, month, 1, tzinfo=OSLO) for month in (9, 12)]
    call = one("R", *[("2026-10-31T22:00:00", "2026-10-31T23:30:00")] * 3)  # over the midnight between two periods
    found = report_of(tmp_path, call, facts=Facts("1", coverage=[(days[0], days[1])]), month=(2026, 11))
    (row,) = [row for row in found.table("The highest of the period") if row[0] == "Participants"]
    assert row[1:4] == ["3", "2026-11-01 00:00", "0:30:00"]


def test_a_conference_nobody_was_in_counts_as_one_and_one_that_ends_before_it_starts_is_none_at_any_time(
    tmp_path: Path,
) -> None:
    held = conference(name="Empty", start_time="2026-11-10T09:00:00", end_time="2026-11-10T09:10:00")
    reversed = conference(start_time="2026-11-12T09:00:00", end_time="2026-11-11T09:00:00")
    found = report_of(tmp_path, (held, []), (reversed, []))
    assert found.about("Last record") == "2026-11-12 10:00"
    assert {row[0]: row[1] for row in found.table("The highest of the period")} == {"Conferences": "1"}
    assert "there is no pexHistoryPart.csv" in found.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no files"),
        ("", "no files"),
        ("id,start_time,end_time\r\n", "Read from pexHistoryConf.csv"),
        ("id,start_time,end_time\r\na,2026-11-23T08:00:00,not a time\r\n", "1 row whose end cannot be read"),
    ],
)
def test_an_archive_without_a_record_that_can_be_read_gives_a_page_that_says_so(
    tmp_path: Path, content: str | None, said: str
) -> None:
    data = tmp_path / "a"
    data.mkdir()
    if content is not None:
        (data / "pexHistoryConf.csv").write_text(content)
    found = report(data)
    assert "holds no record yet" in found.text
    assert found.about("Last record") == "none"
    assert said in found.text


def test_a_missing_column_leaves_its_part_out_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    held, present = one()
    write_csv(data / "pexHistoryConf.csv", [{name: held[name] for name in ("id", "start_time", "end_time")}])
    write_csv(
        data / "pexHistoryPart.csv", [{name: present[0][name] for name in ("id", "start_time", "end_time", "protocol")}]
    )
    found = report(data)
    for column in ("call_quality", "disconnect_reason", "system_location", "vendor", "license_count", "service_type"):
        assert re.search(rf"Left out: pexHistoryPart.csv has no column [\w, ]*{column}", found.text), column
    assert found.table("Participants by protocol") == [["WebRTC", "1", "100.0 %", "60"]]


# --- What is on the page, and what never is -----------------------------------------------------------------------

PRIVATE = ("display_name", "remote_alias", "local_alias", "remote_address", "call_tag")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(2)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u2066",
    "\x1b[31mred\x07\x9b",
    "Z" + "\u0334\u0335\u0336" * 60,
    "x" * 1000,
    "line one\r\nline two",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("hostile") / "data"
    rng = random.Random(5)
    made = []
    for number in range(400):
        text = rng.choice(HOSTILE)
        fields = {name: rng.choice(HOSTILE) for name in ("vendor", "disconnect_reason", "protocol", "service_type")}
        fields |= {"license_type": f"{text[:900]}{number % 40}", "system_location": f"{text[:900]}{number % 30}"}
        fields |= {"media_node": text, "call_quality": rng.choice(["3_bad", "1_good", text])}
        private = dict.fromkeys(PRIVATE, "PRIVATE")
        day = f"2026-11-{1 + number % 24:02}"
        call = one(f"{text}{number % 50}", *[(f"{day}T09:00:00", f"{day}T10:00:00")] * 4, **(fields | private))
        for each in call[1]:
            each["service_type"] = "lecture" if number % 2 else fields["service_type"]
        call[0]["service_type"] = call[1][0]["service_type"]
        media_stream(call[1][0], stream_type=text)
        made.append(call)
    write_archive(data, made)
    return data


@pytest.fixture(scope="module")
def hostile_page(hostile: Path) -> tuple[Reader, str]:
    found = report(hostile)
    return found, (hostile.parent / "data.html").read_bytes().decode()


def test_what_strangers_typed_is_text_and_no_names_aliases_or_addresses_are_there(
    hostile_page: tuple[Reader, str],
) -> None:
    found, source = hostile_page
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base", "foreignobject", "animate", "use"}
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), tag
    assert "PRIVATE" not in found.text
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}{% raw %}" in found.text
    acting = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
    assert not acting.search(source)
    assert max(len(cell) for rows in found.tables.values() for row in rows for cell in row) <= 120


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else(hostile_page: tuple[Reader, str]) -> None:
    found, source = hostile_page
    (policy,) = [a["content"] or "" for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert not set(rules) & {"script-src", "connect-src", "frame-src", "font-src"}


def test_each_picture_has_a_title_and_a_description_and_each_part_is_explained_in_the_docs(
    hostile_page: tuple[Reader, str],
) -> None:
    found, _ = hostile_page
    ids = [attributes["id"] for _, attributes in found.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in found.elements if tag == "svg"]
    assert len(pictures) > 8
    for picture in pictures:
        assert picture["role"] == "img"
        assert set((picture["aria-labelledby"] or "").split()) <= set(ids)
    text = (ROOT / "docs" / "reading-the-report.md").read_text(encoding="utf-8")
    assert "Packet loss" in found.headings
    assert [title for title in found.headings if title not in text] == []


def test_the_period_is_thirty_whole_days_up_to_the_newest_record() -> None:
    def of(newest: datetime, oldest: datetime = datetime(2026, 1, 1, tzinfo=OSLO), **days: date) -> tuple[date, date]:
        period, before = choose_period(days.get("first"), days.get("last"), oldest, newest, NOW.astimezone(OSLO))
        assert before.last == period.first - timedelta(days=1)
        assert before.days == period.days
        return period.first, period.last

    today = NOW.astimezone(OSLO)
    assert of(datetime(2026, 11, 20, 9, tzinfo=OSLO)) == (date(2026, 10, 22), date(2026, 11, 20))
    assert of(today) == (date(2026, 10, 26), date(2026, 11, 24)), "today is not whole yet"
    assert of(today, today)[1] == today.date(), "but it is all there is"
    assert of(today, last=date(2026, 3, 31)) == (date(2026, 3, 2), date(2026, 3, 31))
    assert of(today, first=date(2026, 3, 1), last=date(2026, 3, 1)) == (date(2026, 3, 1), date(2026, 3, 1))
    for asked, wanted in (
        ((None, date(2000, 1, 5)), (date(2000, 1, 1), date(2000, 1, 5))),
        ((date(1990, 1, 1), date(1995, 1, 1)), (date(2000, 1, 1), date(2000, 1, 1))),
        ((date(2100, 12, 1), date(2200, 1, 1)), (date(2100, 12, 1), date(2100, 12, 31))),
    ):
        period, before = choose_period(*asked, None, None, today)
        assert (period.first, period.last) == wanted
        assert before.first >= date(2000, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("years", "by"), [(1, "week"), (8, "month"), (60, "year")])
def test_the_page_stays_small_whatever_the_period(
    hostile: Path, hostile_page: tuple[Reader, str], years: int, by: str
) -> None:
    found = report(hostile, first=date(2027 - years, 1, 1), last=date(2026, 12, 31))
    assert (hostile.parent / "data.html").stat().st_size < 500_000
    most = [
        max(int(row[1]) for row in each.table(f"Participants: peak by {span}"))
        for each, span in ((found, by), (hostile_page[0], "day"))
    ]
    assert most[0] == most[1] > 0


# --- The file ---------------------------------------------------------------------------------------------------


def test_the_page_is_written_whole_with_the_umask_and_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, synced = tmp_path / "a", list[str]()
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))
    write_archive(data, [one()])
    other = tmp_path / "other"
    other.write_text("not to be touched")
    (data / "report.html").symlink_to(other)
    (data / ".report.html.1.new").touch()  # of one that was killed long ago
    os.utime(data / ".report.html.1.new", (0, 0))
    old = os.umask(0o027)
    try:
        write_report(data, data / "report.html", zone=OSLO, facts=Facts("1"))
    finally:
        os.umask(old)
    assert [name for name in synced if name.startswith(".report.html.")], "no power cut leaves half of it"
    assert other.read_text() == "not to be touched"
    assert not (data / "report.html").is_symlink()
    assert (data / "report.html").stat().st_mode & 0o777 == 0o640
    files = {".collector", "pexHistoryConf.csv", "pexHistoryPart.csv", "report.html"}
    assert {path.name for path in data.iterdir()} == files
    assert not list((data / ".collector").iterdir())


def test_a_report_that_fails_leaves_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one()])
    write_report(data, data / "report.html", zone=OSLO, facts=Facts("1"))
    last = (data / "report.html").read_bytes()
    with pytest.raises(CollectorError, match="--output"):
        write_report(tmp_path / "nowhere", data / "report.html", zone=OSLO, facts=Facts("1"))
    assert (data / "report.html").read_bytes() == last
    assert not list((data / ".collector").iterdir())


@pytest.mark.parametrize(
    "name", ["pexHistoryConf.csv", "2026-11-10_00-05-00_pexHistoryPart.csv", "data_collector.log", ".collector/x.html",
             "notes.txt", "manifest.jsonl", "parquet/x.html", "folder"]
)  # fmt: skip
def test_the_page_takes_no_other_files_place(tmp_path: Path, name: str) -> None:
    data = tmp_path / "a"
    write_archive(data, [one()])
    for folder in (".collector", "parquet", "folder"):
        (data / folder).mkdir()
    for other in ("data_collector.log", "notes.txt", "2026-11-10_00-05-00_pexHistoryPart.csv"):
        (data / other).write_text("not ours to replace")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(CollectorError, match="--output"):
        write_report(data, data / name, zone=OSLO, facts=Facts("1"))
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_page_of_ours_of_any_version_and_an_empty_file_are_replaced(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one()])
    for content in ("", "<!doctype html>\n<title>Call history, Mon 1 Jun 2026</title>", None):
        if content is not None:
            (tmp_path / "x.html").write_text(content)
        write_report(tmp_path / "a", tmp_path / "x.html", zone=OSLO, facts=Facts("1"))
        assert "Pexip Infinity call history" in (tmp_path / "x.html").read_text()


def test_a_relative_output_says_from_where_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "a", [one()])
    monkeypatch.chdir(tmp_path)
    write_report(tmp_path / "a", Path("x.html"), zone=OSLO, facts=Facts("1"))
    assert (tmp_path / "x.html").exists()
    with pytest.raises(CollectorError, match=rf"nowhere/x.html \(from {tmp_path}, the folder in which the command was"):
        write_report(tmp_path / "a", Path("nowhere/x.html"), zone=OSLO, facts=Facts("1"))


def test_nothing_heavy_is_imported_before_a_report_is_made() -> None:
    script = "import sys, pexip_history.report; sys.exit(bool({'duckdb', 'jinja2', 'markupsafe'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
