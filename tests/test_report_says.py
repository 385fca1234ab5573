"""The page says only what is so: inputs that an earlier version told something wrong of."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pexip_history.errors import CollectorError
from pexip_history.report import Facts, write_report
from tests.management_node.calls import Call
from tests.report_reader import FACTS, NOW, OSLO, Reader, report, write_archive, write_csv
from tests.test_report import one

CASES = Path(__file__).parent / "cases"
NOVEMBER = {"first": date(2026, 11, 1), "last": date(2026, 11, 30)}
UTC_ZONE = ZoneInfo("UTC")


def local(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=OSLO)


def covered(*days: tuple[date, date], **more: object) -> Facts:
    """A ledger that covers these local days, the last included."""
    spans = [(local(first), local(last + timedelta(days=1))) for first, last in days]
    return Facts("1.2.0", coverage=spans, **more)  # type: ignore[arg-type]


def of_case(tmp_path: Path, name: str, zone: ZoneInfo = OSLO, **more: object) -> Reader:
    data = tmp_path / "a"
    data.mkdir()
    shutil.copy(CASES / name, data / "pexHistoryPart.csv")
    return report(data, zone=zone, **more)  # type: ignore[arg-type]


def card(found: Reader, name: str) -> list[str]:
    """What a card says: its value, and what is below it."""
    texts = [text for text in found.texts if text.strip()]
    place = texts.index(name)
    return texts[place + 1 : place + 3]


def totals(found: Reader) -> dict[str, list[str]]:
    (caption,) = [caption for caption in found.tables if caption.startswith("Totals")]
    return {row[0]: row[1:] for row in found.table(caption)}


# --- Coverage -------------------------------------------------------------------------------------------------------


def test_averages_are_over_covered_time_and_what_was_never_asked_for_is_hatched(tmp_path: Path) -> None:
    """A Tuesday of four has been collected, from 9 to 10 UTC ten were there."""
    write_archive(tmp_path / "a", [one("R", *[("09:00:00", "10:00:00")] * 10)])
    facts = covered((date(2026, 11, 10), date(2026, 11, 10)))
    found = report(tmp_path / "a", first=date(2026, 11, 1), last=date(2026, 11, 24), facts=facts)
    (row,) = [row for row in found.table("Participants at the same time, on the average") if row[0] == "10–11"]
    assert row[1:] == ["–", "10.0", "–", "–", "–", "–", "–"]
    assert card(found, "Covered") == ["1 of 24 days", "totals are too low"]
    assert "Not covered: 2026-11-01 to 2026-11-09; 2026-11-11 to 2026-11-24." in found.text
    hatched = [each for tag, each in found.elements if tag == "rect" and "-gap)" in (each.get("fill") or "")]
    days = [row[0] for row in found.table("Participants: peak by day")]
    assert sum("not covered" in day for day in days) == 23
    assert len(hatched) >= 23


def test_a_gap_that_the_ledger_knows_is_named_and_without_one_nothing_is_claimed(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    gap = (local(date(2026, 11, 3)), local(date(2026, 11, 5)))
    facts = covered((date(2026, 10, 1), date(2026, 11, 2)), (date(2026, 11, 5), date(2026, 11, 24)), gaps=[gap])
    assert report(tmp_path / "a", facts=facts).about("Gaps") == "2026-11-03 00:00 to 2026-11-05 00:00"
    assert report(tmp_path / "a", facts=covered((date(2026, 10, 1), date(2026, 11, 24)))).about("Gaps") == "none known"
    assert report(tmp_path / "a").about("Gaps").startswith("unknown")
    lost = covered((date(2026, 10, 1), date(2026, 11, 24)), gaps_unknown_before=local(date(2026, 11, 9)))
    assert "before 2026-11-09 00:00 unknown" in report(tmp_path / "a", facts=lost).about("Gaps")


def test_where_no_ledger_tells_the_files_reach_over_the_period_and_no_more_is_claimed(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", (f"2026-11-{n:02}T09:00:00", f"2026-11-{n:02}T10:00:00")) for n in (9, 11)])
    found = report(tmp_path / "a", first=date(2026, 11, 10), last=date(2026, 11, 10))
    assert card(found, "Covered")[0] == "unknown"


def test_one_stray_old_row_makes_no_comparison(tmp_path: Path) -> None:
    old = one("R", ("2026-09-01T09:00:00", "2026-09-01T10:00:00"))
    write_archive(tmp_path / "a", [old, one("R", *[("09:00:00", "10:00:00")] * 60)])
    found = report(tmp_path / "a", facts=covered((date(2026, 11, 1), date(2026, 11, 24))), **NOVEMBER)
    assert "against the previous period" not in found.text
    assert "This period is not wholly covered, so there is no comparison." in found.text


def test_changes_are_of_exact_values(tmp_path: Path) -> None:
    """Mean stays of 16 and 18.7 minutes: the rounded ones would give another change."""
    write_archive(
        tmp_path / "a",
        [
            one("R", ("2026-10-20T09:00:00", "2026-10-20T09:18:42")),
            one("R", ("2026-11-10T09:00:00", "2026-11-10T09:16:00")),
        ],
    )
    found = report(
        tmp_path / "a",
        first=date(2026, 11, 1),
        last=date(2026, 11, 24),
        facts=covered((date(2026, 1, 1), date(2026, 11, 24))),
    )
    assert card(found, "Mean stay in minutes") == ["16.0", "-14.4 % against the previous period"]
    assert card(found, "Hours of all participants") == ["0", "-14.4 % against the previous period"]


def test_months_are_compared_with_months(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("2026-03-10T09:00:00", "2026-03-10T10:00:00"))])
    facts = covered((date(2026, 1, 1), date(2026, 11, 24)))
    found = report(tmp_path / "a", first=date(2026, 3, 1), last=date(2026, 3, 31), facts=facts)
    assert "Totals, against Sun 1 Feb 2026 to Sat 28 Feb 2026" in found.tables
    found = report(tmp_path / "a", month=(2026, 3), facts=facts)
    assert "Totals, against Sun 1 Feb 2026 to Sat 28 Feb 2026" in found.tables
    assert "March 2026" in found.text
    found = report(tmp_path / "a", first=date(2026, 3, 9), last=date(2026, 3, 15), facts=facts)
    assert "Totals, against Mon 2 Mar 2026 to Sun 8 Mar 2026" in found.tables
    found = report(tmp_path / "a", first=date(2026, 1, 1), last=date(2026, 3, 31), facts=facts)
    assert "This period" not in found.text.partition("Enough?")[0]
    assert "The previous period is not wholly covered" in found.text


def test_the_period_ends_with_the_newest_record_and_not_with_the_newest_start(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("2026-11-10T09:00:00", "2026-11-12T09:00:00"))])
    assert report(tmp_path / "a").about("Period").startswith("2026-10-14 to 2026-11-12")
    quiet = covered((date(2026, 10, 1), date(2026, 11, 22)))
    assert report(tmp_path / "a", facts=quiet).about("Period").startswith("2026-10-24 to 2026-11-22"), (
        "asked, and quiet"
    )


def test_a_week_of_which_the_period_has_a_part_says_so(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("2026-07-10T09:00:00", "2026-07-10T10:00:00"))])
    found = report(
        tmp_path / "a",
        first=date(2026, 7, 3),
        last=date(2026, 11, 24),
        facts=covered((date(2026, 1, 1), date(2026, 11, 24))),
    )
    weeks = [row[0] for row in found.table("Conferences and participants by week")]
    assert weeks[0] == "2026-06-29 (week 27), 3 of 7 days"
    assert weeks[1] == "2026-07-06 (week 28)"
    assert weeks[-1] == "2026-11-23 (week 48), 2 of 7 days"


# --- Files ----------------------------------------------------------------------------------------------------------


def test_a_short_aggregate_is_told_and_the_dated_files_are_read(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    calls = [one(f"Room {n}", ("09:00:00", "10:00:00")) for n in range(4)]
    for place, (held, present) in enumerate(calls):
        write_csv(data / f"2026-11-1{place}_00-05-00_pexHistoryConf.csv", [held])
        write_csv(data / f"2026-11-1{place}_00-05-00_pexHistoryPart.csv", present)
    facts = covered((date(2026, 11, 1), date(2026, 11, 24)), rows={"conference": 4, "participant": 4})
    shutil.copy(CASES / "semicolons.csv", data / "pexHistoryPart.csv")
    write_csv(data / "pexHistoryConf.csv", [calls[3][0]])  # begun again after it was moved away
    found = report(data, facts=facts)
    assert totals(found)["Participants"] == ["4"]
    assert totals(found)["Conferences"] == ["4"]
    glance = found.text.partition("What is bad")[0].partition("No location")[0]
    assert (
        "pexHistoryConf.csv is short: 4 rows were written to it; read from pexHistoryConf.csv and 4 dated files"
        in glance
    )
    assert "saved with semicolons" in found.text
    assert (
        "There is no pexHistoryPart.csv to read, of 4 rows that were written to it; read from 4 dated files"
        in found.text
    )
    for path in data.glob("2026*"):
        path.unlink()
    assert "7 rows of the history are in no file." in report(data, facts=facts).text


def test_rows_that_are_there_twice_count_once_and_are_told(tmp_path: Path) -> None:
    found = of_case(tmp_path, "doubled.csv")
    assert {row[0]: row[1] for row in found.table("The highest of the period")}["Licenses"] == "5"
    assert totals(found)["Participants"] == ["5"]
    assert "pexHistoryPart.csv: 5 rows there twice" in found.text


def test_rows_whose_end_cannot_be_read_are_named_and_an_offset_is_taken_into_account(tmp_path: Path) -> None:
    found = of_case(tmp_path, "times.csv", zone=UTC_ZONE)
    assert "pexHistoryPart.csv: 3 rows whose end cannot be read: not counted" in found.text
    assert totals(found)["Participants"] == ["2"]
    (most,) = [row for row in found.table("The highest of the period") if row[0] == "Participants"]
    assert most[1:4] == ["2", "2026-11-23 08:00", "1:00:00"]


def test_a_file_of_which_no_row_can_be_read_gives_a_page_that_says_so(tmp_path: Path) -> None:
    found = of_case(tmp_path, "old-release.csv")
    assert "holds no record yet" in found.text
    assert "pexHistoryPart.csv: 1 row whose end cannot be read" in found.text


def test_extreme_numbers_of_strangers_end_nothing(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    rows = [
        {"id": f"p{n}", "start_time": "2026-11-10T09:00:00", "end_time": "2026-11-10T10:00:00", "duration": 2**62,
         "license_count": 2**62, "license_type": "port", "protocol": "SIP", "service_type": "conference",
         "conference_name": "R", "rx_bandwidth": 2**62}
        for n in range(1000)
    ]  # fmt: skip
    write_csv(data / "pexHistoryPart.csv", rows)
    write_csv(data / "pexHistoryStream.csv", [{"participant_id": "p1", "stream_type": "audio", "id": 1,
                                               "end_time": "2026-11-10T10:00:00", "rx_packet_loss": 1e308,
                                               "tx_packet_loss": 5}])  # fmt: skip
    found = report(data)
    assert totals(found)["Hours of all participants"] == ["1000"]
    assert "1,000 rows whose duration cannot be: taken by its times" in found.text


@pytest.mark.parametrize("name", ["with * star", 'it\'s [a] {b} "c"', "?", "ünï '\\ x"])
def test_no_name_of_a_folder_is_a_pattern_and_no_other_folders_rows_count(tmp_path: Path, name: str) -> None:
    write_archive(tmp_path / name, [one("R", ("09:00:00", "10:00:00"))])
    write_archive(tmp_path / "with a star", [one("Other", ("09:00:00", "10:00:00"))])
    write_archive(tmp_path / "x", [one("Other", ("09:00:00", "10:00:00"))])
    assert report(tmp_path / name).table("Rooms by minutes") == [["R", "60", "1", "1"]]


def test_a_fifo_that_is_called_like_a_file_of_ours_holds_up_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    (tmp_path / "a" / "pexHistoryStream.csv").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "a" / "pexHistoryStream.csv")
    os.mkfifo(tmp_path / "a" / "2026-11-10_00-05-00_pexHistoryPart.csv")
    found = report(tmp_path / "a")
    assert "pexHistoryStream.csv: not read" in found.text
    assert "it is a named pipe (FIFO)" in found.text


def test_lines_in_latin_1_are_read_right_and_told(tmp_path: Path) -> None:
    found = of_case(tmp_path, "latin1.csv")
    assert [row[0] for row in found.table("Rooms by minutes")] == ["Møterom"]
    assert "1 line(s) that are not UTF-8" in found.text


# --- Who counts -----------------------------------------------------------------------------------------------------


def test_where_nobody_called_the_page_says_so(tmp_path: Path) -> None:
    found = of_case(tmp_path, "api-only.csv")
    assert "Nobody called in this period" in found.text
    assert totals(found)["Participants"] == ["0"]
    assert totals(found)["Mean stay in minutes"] == ["–"]
    assert card(found, "Mean stay in minutes")[0] == "–"
    assert "leaves out 1 connection and 0 stays" in found.text


def test_protocols_in_lower_case_are_the_same(tmp_path: Path) -> None:
    calls = [one("R", ("09:00:00", "10:00:00"), protocol=name) for name in ("api", "sip", "SIP", "webrtc", "API video")]
    write_archive(tmp_path / "a", calls)
    found = report(tmp_path / "a")
    assert {row[0]: row[1] for row in found.table("Participants by protocol")} == {"SIP": "2", "WebRTC": "1"}
    (licenses,) = [row[1] for row in found.table("The highest of the period") if row[0] == "Licenses"]
    assert licenses == "3", "API connections hold none"


def test_a_room_that_somebody_was_in_all_month_was_used_and_its_hours_are_the_periods(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    shutil.copy(CASES / "over-the-border.csv", data / "pexHistoryPart.csv")
    write_csv(data / "pexHistoryConf.csv", [one("Always on", ("2026-10-31T08:00:00", "2026-11-30T17:00:00"))[0]])
    facts = covered((date(2026, 9, 1), date(2026, 12, 1)))
    found = report(data, facts=facts, now=datetime(2026, 12, 2, tzinfo=UTC), **NOVEMBER)
    assert "Every room of the previous period was used in this one too." in found.text
    hours = (datetime(2026, 11, 30, 17) - datetime(2026, 10, 31, 23)).total_seconds() / 3600
    assert totals(found)["Hours of all participants"][0] == f"{round(hours)}"
    assert found.table("Rooms by minutes") == [["Always on", f"{round(hours * 60)}", "0", "0"]]
    assert [row[0] for row in found.table("By month")] == ["2026-10", "2026-11"]


def test_a_month_in_which_nothing_began_is_not_left_out(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "a", [one("R", (f"2026-{month}-10T09:00:00", f"2026-{month}-10T10:00:00")) for month in ("07", "10")]
    )
    found = report(tmp_path / "a")
    assert [row[0] for row in found.table("By month")] == ["2026-07", "2026-08", "2026-09", "2026-10"]


def test_the_mean_is_of_stays_that_have_a_length(tmp_path: Path) -> None:
    calls = [one("R", ("09:00:00", "10:00:00")), one("R", ("10:00:00", "09:00:00"))]
    write_archive(tmp_path / "a", calls)
    found = report(tmp_path / "a")
    assert totals(found)["Participants"] == ["2"]
    assert totals(found)["Mean stay in minutes"] == ["60.0"]
    assert "1 row whose end lies before the start" in found.text


def test_blanks_around_a_room_and_the_case_of_a_reason_make_no_other(tmp_path: Path) -> None:
    rooms = ("Fjord", "Fjord ", " Fjord", "\u00a0Fjord\u2003", "fjord")
    reasons = ("Call disconnected", "call disconnected", "Call disconnected", "Timeout", "timeout ")
    write_archive(
        tmp_path / "a",
        [one(r, ("09:00:00", "10:00:00"), disconnect_reason=w) for r, w in zip(rooms, reasons, strict=True)],
    )
    found = report(tmp_path / "a")
    assert {row[0]: row[1] for row in found.table("Rooms by minutes")} == {"Fjord": "240", "fjord": "60"}
    assert {row[0]: row[1] for row in found.table("Disconnect reasons")} == {"Call disconnected": "3", "Timeout": "2"}


def test_who_stays_past_midnight_is_in_the_next_days_peak(tmp_path: Path) -> None:
    found = of_case(tmp_path, "midnight.csv", zone=UTC_ZONE)
    peaks = {row[0][:10]: row[1] for row in found.table("Participants: peak by day")}
    assert (peaks["2026-11-23"], peaks["2026-11-24"]) == ("1", "2")


@pytest.mark.parametrize(("zone", "acme"), [(UTC_ZONE, ["4", "180", "180"]), (OSLO, ["3", "120", "120"])])
def test_a_tag_is_one_customer_with_blanks_around_it_and_another_in_another_case(
    tmp_path: Path, zone: ZoneInfo, acme: list[str]
) -> None:
    found = of_case(tmp_path, "tags.csv", zone=zone, **NOVEMBER)
    rows = {row[0]: row[2:5] for row in found.table("By service tag")}
    assert rows == {"acme": acme, "Acme": ["1", "60", "60"], "no tag": ["1", "60", "60"]}


def test_places_without_a_name_are_ranked_too_and_small_counts_are_no_shares(tmp_path: Path) -> None:
    many = one("R", *[("09:00:00", "10:00:00")] * 20, system_location=None, call_quality="4_terrible")
    few = one("R", ("09:00:00", "10:00:00"), system_location="Few", call_quality="4_terrible", protocol="SIP")
    write_archive(tmp_path / "a", [many, few])
    found = report(tmp_path / "a")
    assert found.table("Locations by share of bad or terrible calls") == [["not told", "20", "20", "100.0 %"]]
    by_both = {row[0]: row[1:] for row in found.table("Bad or terrible calls by location and protocol")}
    assert by_both == {"not told": ["100.0 %", "–"], "Few": ["–", "1 of 1"]}


# --- Enough, rooms, names, alarms -----------------------------------------------------------------------------------


def test_whether_licenses_are_enough_is_answered_with_how_long_and_by_whom(tmp_path: Path) -> None:
    calls = [
        one("Big", *[("09:00:00", "10:00:00")] * 8),
        one("Small", *[("09:30:00", "09:45:00")] * 4),
        one("Later", ("11:00:00", "12:00:00")),
    ]
    write_archive(tmp_path / "a", calls)
    found = report(tmp_path / "a", licenses={"port": 10, "audio": 5})
    assert found.table("Above what is owned") == [
        ["port", "owned", "10", "0:15:00", "1", "2"],
        ["port", "a tenth more", "11", "0:15:00", "1", "2"],
        ["port", "a tenth fewer", "9", "0:15:00", "1", "2"],
        ["audio", "owned", "5", "0:00:00", "0", "0"],
        ["audio", "a tenth more", "6", "0:00:00", "0", "0"],
        ["audio", "a tenth fewer", "4", "0:00:00", "0", "0"],
    ]
    said, why = card(found, "Enough? Licenses, port")
    assert (said.split(",")[0], why.split(";")[0]) == ("no", "at most 12 of 10, 2026-11-10 10:30")
    assert card(found, "Enough? Licenses, audio")[1] == "none of 5 was held"
    there = [row for row in found.table("Which rooms made each peak") if row[0] == "Licenses, port"]
    assert there == [
        ["Licenses, port", "2026-11-10 10:30", "Big", "8"],
        ["Licenses, port", "2026-11-10 10:30", "Small", "4"],
    ]
    assert "DATA_LICENSES" in report(tmp_path / "a").text


def test_configured_rooms_that_nobody_used_are_named(tmp_path: Path) -> None:
    calls = [one("Used", ("09:00:00", "10:00:00")), one("Earlier", ("2026-05-01T09:00:00", "2026-05-01T10:00:00"))]
    write_archive(tmp_path / "a", calls)
    found = report(tmp_path / "a", rooms=["Used", "Earlier", "Never"])
    assert found.table("2 of 3 configured rooms that nobody used in the period") == [
        ["Earlier", "earlier"],
        ["Never", "never"],
    ]


def test_hidden_names_hide_what_a_stranger_can_write(tmp_path: Path) -> None:
    secret: list[Call] = []
    for number in range(25):
        held, present = one(f"SECRET {number}", ("09:00:00", "10:00:00"), disconnect_reason=f"SECRET {number % 3}",
                            service_tag="SECRET tag", protocol="SECRET", vendor="SECRET client")  # fmt: skip
        secret.append((held | {"tag": "SECRET tag"}, present))
    plain = one("R", ("09:00:00", "10:00:00"), disconnect_reason="Call failed")
    bypass = one("R", ("09:00:00", "10:00:00"), disconnect_reason="SECRET other reasons")
    write_archive(tmp_path / "a", [*secret, plain, bypass])
    found = report(tmp_path / "a", hide_names=True, rooms=["SECRET 99"])
    assert "SECRET" not in (tmp_path / "a.html").read_text()
    assert {row[0] for row in found.table("By service tag")} == {"Tag 1", "no tag"}
    assert "Call failed" in {row[0] for row in found.table("Disconnect reasons")}


def test_when_bad_calls_were_bad_is_shown_by_hour_and_by_call(tmp_path: Path) -> None:
    """Ratings of every 20 seconds; against the same counted by hand, in Oslo's time, past midnight too."""
    data = tmp_path / "a"
    calls = [one("R", ("09:00:00", "10:00:00")), one("R", ("2026-11-10T22:59:30", "2026-11-11T00:00:00"))]
    write_archive(data, calls)
    people = [str(people[0]["id"]) for _, people in calls]
    ratings = [[0, 1, 3, *[4] * 180, 2], [3, 1, 4, 4]]
    rows = [*zip(people, ratings, strict=True), ("nobody's", [4] * 9), (people[0] + "x", "[4,")]
    lines = ["participant_id,start_time,historic_call_quality", *(f'{i},,"{each}"' for i, each in rows)]
    (data / "pexHistoryQuality.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    found = report(data)
    by_hour: dict[int, list[float]] = {}
    for (_, [person]), each in zip(calls, ratings, strict=True):
        start = datetime.fromisoformat(str(person["start_time"])).replace(tzinfo=UTC)
        for place, rating in enumerate(each):
            moment = (start + timedelta(seconds=20 * place)).astimezone(OSLO)
            if rating:
                known = by_hour.setdefault(moment.hour, [0, 0])
                known[0] += 1 / 3 if rating > 2 else 0
                known[1] += 1 / 3
    assert [
        (int(row[0][:2]), float(row[1]), float(row[2]))
        for row in found.table("Bad minutes of bad calls by hour of the day")
    ] == [(hour, round(bad, 1), round(rated, 1)) for hour, (bad, rated) in sorted(by_hour.items())]
    assert found.table("Calls with the most bad minutes") == [
        ["2026-11-10 10:00", "R", "Oslo", "1:00:20", "1:01:00", "0:00:40"],
        ["2026-11-10 23:59", "R", "Oslo", "0:01:00", "0:01:20", "0:00:00"],
    ]
    assert "61 of their 62 minutes" in found.text


def test_a_month_is_compared_with_the_month_before_and_a_partial_one_by_covered_day(tmp_path: Path) -> None:
    times = [
        f"2026-{month}-1{day}T10:00:00"
        for month, days in (("08", 3), ("09", 3), ("10", 4), ("11", 1))
        for day in range(days)
    ]
    write_archive(tmp_path / "a", [one("R", (time, time.replace("T10", "T11"))) for time in times])
    found = report(tmp_path / "a", facts=covered((date(2026, 8, 10), date(2026, 11, 5))))
    assert {row[0]: row[-3] for row in found.table("By month")} == {
        "2026-08": "–",
        "2026-09": "-26.7 % a day (partial)",  # 3 in 30 days after 3 in 22
        "2026-10": "+33.3 %",
        "2026-11": "+55.0 % a day (partial)",  # 1 in 5 days after 4 in 31
    }


def test_what_was_not_read_is_not_none_on_the_first_screen_nor_in_a_message(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    people = tmp_path / "a" / "pexHistoryPart.csv"
    people.write_text(people.read_text().replace(",", ";"))
    found = report(tmp_path / "a")
    assert card(found, "Participants") == ["unknown", "no pexHistoryPart.csv was read"]
    assert card(found, "Conferences")[0] == "1"
    made = write_report(tmp_path / "a", tmp_path / "a.html", zone=OSLO, facts=FACTS, now=NOW)
    assert "Participants: unknown (no pexHistoryPart.csv was read)" in made.figures
    assert any("semicolons" in line for line in made.figures)


def test_an_hour_without_calls_has_its_place_in_the_picture(tmp_path: Path) -> None:
    calls = [
        one("R", (f"{hour}:00:00", f"{hour}:30:00"), call_quality="3_bad") for hour in ("08", "17")
    ]  # 9 and 18 here
    write_archive(tmp_path / "a", calls)
    found = report(tmp_path / "a")
    boxes = [each["x"] for tag, each in found.elements if tag == "rect" and each.get("class") == "bad few"]
    hours = [round((float((x or "").rstrip("%")) - 100 / 240) / (100 / 24)) for x in boxes]
    assert hours[-2:] == [9, 18]


def test_alarms_about_licenses_come_first(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])

    def alarm(number: int, name: str, start: str, end: str) -> dict[str, object]:
        return {"details": "", "id": number, "identifier": 1, "instance": "", "level": "Error", "name": name,
                "node": "192.0.2.1", "time_lowered": end, "time_raised": start}  # fmt: skip

    write_csv(
        data / "pexHistoryAlarm.csv",
        [
            alarm(1, "cpu_load", "2026-11-09T00:00:00", "2026-11-10T00:00:00"),
            alarm(2, "licenses_exceeded", "2026-11-10T09:00:00", "2026-11-10T09:30:00"),
            alarm(3, "licenses_exceeded", "2026-11-10T10:00:00", "2026-11-10T11:00:00"),
            alarm(4, "old", "2025-11-10T10:00:00", "2025-11-10T11:00:00"),
        ],
    )
    found = report(data)
    assert found.table("2 kinds of alarms") == [
        ["licenses_exceeded", "error", "192.0.2.1", "2", "1.5", "2026-11-10 11:00"],
        ["cpu_load", "error", "192.0.2.1", "1", "24.0", "2026-11-09 01:00"],
    ]


def test_the_first_screens_figures_are_there_for_a_message(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("Private room", ("09:00:00", "10:00:00"))])
    page = write_report(tmp_path / "a", tmp_path / "a.html", zone=OSLO, facts=Facts("1"), now=NOW, month=(2026, 11))
    assert page.figures[0] == "November 2026"
    assert any(line.startswith("Participants: 1") for line in page.figures)
    assert "Private" not in " ".join(page.figures)


# --- Where it goes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pexHistoryConf.csv", "2026-11-10_00-05-00_pexHistoryPart.csv", "data_collector.log", ".collector/x.html",
             "notes.txt", "manifest.jsonl", "parquet/x.html", "folder"]
)  # fmt: skip
def test_the_page_takes_no_other_files_place(tmp_path: Path, name: str) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])
    (data / ".collector").mkdir()
    (data / "parquet").mkdir()
    (data / "folder").mkdir()
    for other in ("data_collector.log", "notes.txt", "2026-11-10_00-05-00_pexHistoryPart.csv"):
        (data / other).write_text("not ours to replace")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(CollectorError, match="--output"):
        write_report(data, data / name, zone=OSLO, facts=Facts("1"))
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_page_of_ours_of_any_version_and_an_empty_file_are_replaced(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    for content in ("", "<!doctype html>\n<title>Call history, Mon 1 Jun 2026</title>"):
        (tmp_path / "x.html").write_text(content)
        write_report(tmp_path / "a", tmp_path / "x.html", zone=OSLO, facts=Facts("1"))
        assert "Pexip Infinity call history" in (tmp_path / "x.html").read_text()
    write_report(tmp_path / "a", tmp_path / "x.html", zone=OSLO, facts=Facts("1"))


def test_a_relative_output_says_from_where_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    monkeypatch.chdir(tmp_path)
    write_report(tmp_path / "a", Path("x.html"), zone=OSLO, facts=Facts("1"))
    assert (tmp_path / "x.html").exists()
    with pytest.raises(CollectorError, match=rf"nowhere/x.html \(from {tmp_path}, the folder in which the command was"):
        write_report(tmp_path / "a", Path("nowhere/x.html"), zone=OSLO, facts=Facts("1"))
