"""What the page looks like: words, pictures, and two whole pages as they are kept in tests/cases."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from markupsafe import Markup

from pexip_history.report import Facts, blocks, charts
from pexip_history.report.material import Material
from pexip_history.report.queries import named
from tests.conftest import ROOT
from tests.management_node.calls import calls
from tests.report_reader import OSLO, report, write_archive, write_csv


def test_numbers_names_and_times_in_words() -> None:
    monday = date(2026, 11, 2)
    said = {
        "59 s": blocks.lasting(59.4),
        "1 min": blocks.lasting(60),
        "119 min": blocks.lasting(119 * 60),
        "2 h 00 min": blocks.lasting(120 * 60),
        "not": blocks.share(0),
        "0.1 %": blocks.share(0.0004),
        "1 %": blocks.share(0.01),
        "99 %": blocks.share(0.99),
        "99.9 %": blocks.share(0.99999),
        "wholly": blocks.share(1),
        "–": blocks.percent(0, 0),
        "19 of 19": blocks.rate(19, 19, 20),
        "5.0 %": blocks.rate(1, 20, 20),
        "": blocks.change(0, 0),
        "none in the previous period": blocks.change(1, 0),
        "as in the previous period": blocks.change(2, 2),
        "+50.0 % against the previous period": blocks.change(3, 2),
        "2026-11-02 Mon": blocks.span_cell(monday, "day"),
        "2026-11-02 (week 45), 50 % covered": blocks.span_cell(monday, "week", 0.5),
        "2 Nov": blocks.span_text(monday, "day"),
        "x" * 120: blocks.shown("x" * 120),
        "y" * 119 + "…": blocks.shown("y" * 121),
        "z" * 119 + "\u2026": blocks.shown("z" * 1000),
        "Z\u0334\u0335, e\u0301 a b\\u202e": blocks.shown("Z\u0334\u0335\u0336\u0337, e\u0301 a\r\nb\u202e"),
        "1\u20dd\u0334": blocks.shown("1\u20dd\u0334\u20de"),
    }
    assert [(wanted, found) for wanted, found in said.items() if found != wanted] == []


@pytest.mark.parametrize(
    ("name", "digits", "wide"),
    [("a room of many words", 17, False), ("a room of many words", 18, True), ("R", 30, False), ("R", 31, True)],
)
def test_a_table_is_wide_where_a_telephone_has_no_room_for_it(name: str, digits: int, wide: bool) -> None:
    """A name has more lines; each other column is as wide as its longest word or cell, and two letters between."""
    table = blocks.Table("", ("room", "of seconds", "in all"), [(name, "1" * digits, 3)])
    assert table.wide is wide
    assert not blocks.Table("", ("room", "seconds"), []).wide


AGENTS = {
    "Pexip app": ("Pexip Infinity Connect/1.12", "Pexip RealPresence"),
    "Microsoft Teams": ("SkypeSpaces Teams/1.4 Chrome/98",),
    "Skype for Business": ("Skype for Business/16.0", "UCCAPI/16.0 OC/16.0", "RTCC/7.0 CAA"),
    "Cisco room system": ("Cisco/RoomOS 11.20", "TANDBERG/520 (TC7.3)"),
    "Cisco Webex": ("Cisco-Webex/43",),
    "Cisco Jabber": ("Cisco-Jabber/14",),
    "Cisco, other": ("Cisco-CUCM12.5",),
    "Poly room system": ("PolycomRealPresenceGroup/6.2", "Poly/G7500", "RealPresence Desktop"),
    "other browser": ("Mozilla/5.0 Trident",),
    "Edge": ("Mozilla/5.0 Chrome/120 Safari/537 Edg/120",),
    "Opera": ("Mozilla/5.0 Chrome/120 Safari/537 OPR/106",),
    "Firefox": ("Mozilla/5.0 Gecko Firefox/121.0",),
    "Chrome": ("Mozilla/5.0 Chrome/120 Safari/537", "Mozilla/5.0 CriOS/120 Safari/604"),
    "Safari": ("Mozilla/5.0 Version/17 Safari/605",),
    **{name: (f"{name.upper()} 1",) for name in ("Lifesize", "Yealink", "Huawei", "Logitech", "Avaya", "Zoom", "Sony")},
    **{name: (f"{name.lower()} 1",) for name in ("StarLeaf", "Asterisk", "Linphone")},
    "other": ("x",),
    "not told": ("", None),
}


def test_a_user_agent_is_shown_as_people_call_it() -> None:
    with duckdb.connect() as db:
        for name, agents in AGENTS.items():
            db.execute("CREATE OR REPLACE TABLE people AS SELECT unnest(?::VARCHAR[]) AS vendor", [agents])
            assert {row[0] for row in db.execute(f"FROM {named('vendor', 'count(*) AS n')}").fetchall()} == {name}


def test_the_nodes_own_words_stay_where_names_are_hidden_and_no_others() -> None:
    hides = SimpleNamespace(hide_names=True, _numbered=lambda kind, text: kind)
    own = [
        *("Call disconnected", "Call failed", "Call rejected", "Conference terminated", "Locked conference"),
        *("Conference host ended the conference with a DTMF command", "none given", "Participant disconnected"),
        *("User initiated disconnect", "Timer expired awaiting token refresh", "Browser closed", "Remote disconnect"),
        *("Media process disconnected", "No direct route between edge and transcoding", "Invalid license"),
        *("Insufficient licenses", "Insufficient capacity", "1 other reason", "1,000 other reasons"),
    ]
    assert [Material.reason(hides, reason) for reason in (*own, "Kari hung up")] == [*own, "Reason"]
    own = ["SIP", "H323", "WebRTC", "MSSIP", "RTMP", "API", "TEAMS", "GMS", "BACKPLANE", "not told", "1 other"]
    assert [Material.place(hides, "protocol", name) for name in (*own, "KARI")] == [*own, "Protocol"]


def pictures() -> Iterator[Markup]:
    words = charts.Words("id", "A <title>", "What it says.")
    labels = [f"{n} Nov" for n in range(25)]
    for best in (0, 2, 11, 23, 24):
        values = [(7 if place == best else place % 5) * (best + 1) for place in range(25)]
        yield charts.columns(words, labels, [("s1", values)], "at once", gaps=[place in (3, 24) for place in range(25)])
    shares = [("good", [50.0, 0.0]), ("terrible", [12.5, 100.0])]
    yield charts.columns(words, labels[:2], shares, "of calls", share=True, pale=[False, True])
    yield charts.columns(words, labels[:2], [("s1", [0, 0])], "calls")
    yield charts.columns(words, [], [("s1", [])], "calls")
    yield charts.bars(words, [("n" * 34, 0.5, "50 %"), ("n" * 35, 1.5, "all"), ("none", 0, "0")], "bad")
    yield charts.bars(words, [])


def test_pictures_change_only_where_that_is_meant() -> None:
    as_known("pictures.svg", "\n".join(pictures()))


def as_known(name: str, found: str) -> None:
    """Where a change is meant, DRAW=1 writes the file again: its diff is what changed; look at it in a browser too."""
    known = ROOT / "tests" / "cases" / name
    if os.environ.get("DRAW"):
        known.write_text(f"{found}\n", encoding="utf-8", newline="")
    assert f"{found}\n" == known.read_bytes().decode()


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "partial"])
def test_a_page_changes_only_where_that_is_meant(whole: bool, tmp_path: Path) -> None:
    """Of six days' calls of all kinds: three days, wholly covered and compared, or partly, under hidden names."""
    data = tmp_path / "a"
    first, last = date(2026, 10, 24), date(2026, 10, 26)  # the clocks go back on the 25th
    made = [call for n in range(6) for call in calls(seed=7, day=date(2026, 10, 21 + n), conferences=25)]
    write_archive(data, made)
    bad = [one for _, there in made for one in there if one["call_quality"] in ("3_bad", "4_terrible")]
    ratings = [f'{one["id"]},,"{[place % 5 for place in range(9)]}"' for one in bad]
    (data / "pexHistoryQuality.csv").write_text(
        "\r\n".join(["participant_id,start_time,historic_call_quality", *ratings])
    )
    alarms = [
        {"id": n, "name": name, "level": "warning", "node": f"N{n}", "time_raised": f"2026-10-25T0{n}:00:00",
         "time_lowered": "2026-10-25T09:00:00"}
        for n, name in enumerate(("cpu", "licenses", "licenses"))
    ]  # fmt: skip
    write_csv(data / "pexHistoryAlarm.csv", alarms)
    since, until = (
        datetime(2026, 10, 21 if whole else 25, tzinfo=OSLO),
        datetime(2026, 10, 28 if whole else 26, tzinfo=OSLO),
    )
    facts = Facts("1.2.0", coverage=[(since, until)], missing=0 if whole else 3, waiting=0 if whole else 1200)
    more = (
        {"licenses": {"port": 60, "audio": 9, "none of these": 5}, "rooms": ["Old", "0047"]}
        if whole
        else {"hide_names": True}
    )
    report(data, first=first, last=last, facts=facts, **more)
    page = (tmp_path / "a.html").read_bytes().decode()
    as_known(f"page-{'whole' if whole else 'partial'}.html", page.partition("<main")[2].partition("</main>")[0])
