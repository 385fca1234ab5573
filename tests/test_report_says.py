"""The page says only what is so: inputs that an earlier version told something wrong of."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pexip_history.report import Facts, write_report
from pexip_history.report.period import Period
from tests.management_node.calls import Call, media_stream
from tests.report_reader import FACTS, NOW, OSLO, Reader, one, report, report_of, write_archive, write_csv


def local(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=OSLO)


def covered(*days: tuple[date, date], **more: object) -> Facts:
    """A ledger that covers these local days, the last included."""
    spans = [(local(first), local(last + timedelta(days=1))) for first, last in days]
    return Facts("1.2.0", coverage=spans, **more)  # type: ignore[arg-type]


PERIOD = {"first": date(2026, 11, 1), "last": date(2026, 11, 24)}
WHOLE = covered((date(2026, 1, 1), date(2026, 11, 24)))


def card(found: Reader, name: str) -> list[str]:
    """What a card says: its value, and what is below it."""
    texts = [text for text in found.texts if text.strip()]
    place = texts.index(name)
    return texts[place + 1 : place + 3]


def totals(found: Reader) -> dict[str, list[str]]:
    (caption,) = [caption for caption in found.tables if caption.startswith("Totals")]
    return {row[0]: row[1:] for row in found.table(caption)}


# --- Coverage -------------------------------------------------------------------------------------------------------


def test_what_the_ledger_knows_is_told_in_local_time_and_without_one_nothing_is_claimed(tmp_path: Path) -> None:
    moment = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    facts = Facts("1.1.0", moment, moment, 12, [(moment, 3), (None, 1)], [(moment, moment + timedelta(hours=1))])
    found = report_of(tmp_path, one(), facts=facts)
    assert found.about("Complete since") == "2026-07-02 00:30"
    assert found.about("Gaps") == "2026-07-02 00:30 to 2026-07-02 01:30"
    assert found.about("Waiting for the next run").startswith("12 rows")
    assert "3 participants (2026-07-02 00:30)" in found.about("Lost for good")
    assert "1.1.0" in found.text
    assert report(tmp_path / "a", facts=WHOLE).about("Gaps") == "none known"
    assert report(tmp_path / "a").about("Gaps").startswith("unknown")
    lost = covered((date(2026, 10, 1), date(2026, 11, 24)), gaps_unknown_before=local(date(2026, 11, 9)))
    assert "before 2026-11-09 00:00 unknown" in report(tmp_path / "a", facts=lost).about("Gaps")


def test_where_no_ledger_tells_the_files_reach_over_the_period_and_no_more_is_claimed(tmp_path: Path) -> None:
    calls = [one("R", (f"2026-11-{n:02}T09:00:00", f"2026-11-{n:02}T10:00:00")) for n in (9, 11)]
    found = report_of(tmp_path, *calls, first=date(2026, 11, 10), last=date(2026, 11, 10))
    assert card(found, "Covered")[0] == "unknown"


def test_of_an_hour_that_is_covered_of_a_month_it_is_not_said_that_it_is_none(tmp_path: Path) -> None:
    start = local(date(2026, 11, 10))
    found = report_of(tmp_path, one(), facts=Facts("1", coverage=[(start, start + timedelta(hours=1))]), **PERIOD)
    assert card(found, "Covered") == ["under 0.1 of 24 days", "totals are too low"]
    later = covered((date(2026, 12, 1), date(2026, 12, 1)))
    assert "Not covered: 2026-11-01 to 2026-11-24. " in report(tmp_path / "a", facts=later, **PERIOD).text


def test_changes_are_of_exact_values(tmp_path: Path) -> None:
    """Mean stays of 16 and 18.7 minutes: the rounded ones would give another change."""
    calls = [one("R", ("2026-10-20T09:00:00", "2026-10-20T09:18:42")), one("R", ("09:00:00", "09:16:00"))]
    found = report_of(tmp_path, *calls, facts=WHOLE, **PERIOD)
    assert card(found, "Mean stay in minutes") == ["16.0", "-14.4 % against the previous period"]
    assert card(found, "Hours of all participants") == ["0", "-14.4 % against the previous period"]
    assert totals(found)["Mean stay in minutes"] == ["16.0", "18.7"]
    few = "Bad or terrible in the period: 0 of 1 of 1; in the previous period 0 of 1 of 1."
    assert few in found.text, "no trend of so few"


def test_a_period_of_whole_months_has_their_number_across_the_years() -> None:
    found = Period(date(2025, 12, 1), date(2026, 2, 28))
    assert (found.months, found.before()) == (3, Period(date(2025, 9, 1), date(2025, 11, 30)))
    assert Period(date(2025, 12, 1), date(2026, 2, 27)).months == 0


def test_months_are_compared_with_months_and_days_with_days(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("2026-03-10T09:00:00", "2026-03-10T10:00:00"))])
    for against, days in (
        ("Sun 1 Feb 2026 to Sat 28 Feb 2026", {"first": date(2026, 3, 1), "last": date(2026, 3, 31)}),
        ("Sun 1 Feb 2026 to Sat 28 Feb 2026", {"month": (2026, 3)}),
        ("Mon 2 Mar 2026 to Sun 8 Mar 2026", {"first": date(2026, 3, 9), "last": date(2026, 3, 15)}),
    ):
        found = report(tmp_path / "a", facts=WHOLE, **days)
        assert f"Totals, against {against}" in found.tables
        assert "month" not in days or "March 2026" in found.text
    found = report(tmp_path / "a", first=date(2026, 1, 1), last=date(2026, 3, 31), facts=WHOLE)
    assert "This period" not in found.text.partition("Enough?")[0]
    assert "The previous period is not wholly covered" in found.text


def test_the_period_ends_with_the_newest_record_or_what_was_asked_and_not_with_a_start_or_a_time_far_ahead(
    tmp_path: Path,
) -> None:
    calls = [
        one("R", ("2026-11-10T09:00:00", "2026-11-12T09:00:00")),
        *(one("R", (f"{day}T09:00", f"{day}T10:00")) for day in ("2000-01-01", "2100-12-31")),
    ]
    found = report_of(tmp_path, *calls)
    assert found.about("Period").startswith("2026-10-14 to 2026-11-12")
    assert "cannot be read: not counted" not in found.text
    quiet = covered((date(2026, 10, 1), date(2026, 11, 22)))
    assert report(tmp_path / "a", facts=quiet).about("Period").startswith("2026-10-24 to 2026-11-22")


def test_a_week_of_which_the_period_has_a_part_says_so(tmp_path: Path) -> None:
    period = {"first": date(2026, 7, 3), "last": date(2026, 11, 24)}
    calls = [one("R", (f"2026-07-{day:02}T09:00:00", f"2026-07-{day:02}T10:00:00")) for day in (9, 10)]
    found = report_of(tmp_path, *calls, facts=WHOLE, **period)
    assert found.table("Peaks of the days")[0] == ["Participants", "1", "1", "0", "0"], "of days, not of weeks"
    weeks = [row[0] for row in found.table("Conferences and participants by week")]
    assert weeks[0] == "2026-06-29 (week 27), 3 of 7 days"
    assert weeks[1] == "2026-07-06 (week 28)"
    assert weeks[-1] == "2026-11-23 (week 48), 2 of 7 days"


# --- Files ----------------------------------------------------------------------------------------------------------


def test_a_short_aggregate_is_told_and_the_dated_files_are_read(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    calls = [one(f"Room {n}") for n in range(4)]
    for place, (held, present) in enumerate(calls):
        write_csv(data / f"2026-11-1{place}_00-05-00_pexHistoryConf.csv", [held])
        write_csv(data / f"2026-11-1{place}_00-05-00_pexHistoryPart.csv", present)
    facts = covered((date(2026, 11, 1), date(2026, 11, 24)), rows={"conference": 4, "participant": 4})
    (data / "pexHistoryPart.csv").write_text("id;start_time;end_time\r\n")
    write_csv(data / "pexHistoryConf.csv", [calls[3][0]])  # begun again after it was moved away
    found = report(data, facts=facts)
    assert totals(found)["Participants"] == ["4"]
    assert totals(found)["Conferences"] == ["4"]
    short = "pexHistoryConf.csv is short: 4 rows were written to it; read from pexHistoryConf.csv and 4 dated files"
    assert short in found.text.partition("What is bad")[0].partition("No location")[0]
    assert "saved with semicolons" in found.text
    none = "There is no pexHistoryPart.csv to read, of 4 rows that were written to it; read from 4 dated files"
    assert none in found.text
    for path in data.glob("2026*"):
        path.unlink()
    screen = report(data, facts=facts).text
    assert "In no file: 7 rows of the history. pexHistoryConf.csv is short: 4 rows were written to it" in screen
    assert "1 row in all. And 2 more, under What this rests on." in screen


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
    found = report(data)
    assert totals(found)["Hours of all participants"] == ["1000"]
    assert "1,000 rows whose duration cannot be: taken by its times" in found.text


@pytest.mark.parametrize("name", ["with * star", 'it\'s [a] {b} "c"', "?", "ünï '\\ x"])
def test_no_name_of_a_folder_is_a_pattern_and_no_other_folders_rows_count(tmp_path: Path, name: str) -> None:
    write_archive(tmp_path / name, [one()])
    for other in ("with a star", "x"):
        write_archive(tmp_path / other, [one("Other")])
    assert report(tmp_path / name).table("Rooms by minutes") == [["R", "60", "1", "1"]]


def test_a_fifo_that_is_called_like_a_file_of_ours_holds_up_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one()])
    os.mkfifo(tmp_path / "a" / "pexHistoryStream.csv")
    os.mkfifo(tmp_path / "a" / "2026-11-10_00-05-00_pexHistoryPart.csv")
    found = report(tmp_path / "a")
    assert "pexHistoryStream.csv: not read" in found.text
    assert "it is a named pipe (FIFO)" in found.text


def test_what_was_not_read_is_not_none_on_the_first_screen_nor_in_a_message(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one()])
    people = tmp_path / "a" / "pexHistoryPart.csv"
    people.write_text(people.read_text().replace(",", ";"))
    found = report(tmp_path / "a")
    assert card(found, "Participants") == ["unknown", "no pexHistoryPart.csv was read"]
    assert card(found, "Conferences")[0] == "1"
    remark = next(text for text in found.texts if text.startswith("pexHistoryPart.csv: not read: "))
    assert "saved with semicolons" in remark
    assert "move it away" in remark
    assert found.text.index("not read") < found.text.index("Which rooms made each peak")
    made = write_report(tmp_path / "a", tmp_path / "a.html", zone=OSLO, facts=FACTS, now=NOW)
    assert "Participants: unknown (no pexHistoryPart.csv was read)" in made.figures
    assert any("semicolons" in line for line in made.figures)


# --- Who counts -----------------------------------------------------------------------------------------------------


def test_where_nobody_called_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    _, present = one(protocol="API")
    write_csv(tmp_path / "a" / "pexHistoryPart.csv", present)
    quality = f'participant_id,start_time,historic_call_quality\n{present[0]["id"]},,"[4, 4]"\n'
    (tmp_path / "a" / "pexHistoryQuality.csv").write_text(quality)
    found = report(tmp_path / "a")
    assert "Nobody called in this period" in found.text
    assert "When bad calls were bad" not in found.text
    assert totals(found)["Participants"] == ["0"]
    assert totals(found)["Mean stay in minutes"] == ["–"]
    assert card(found, "Mean stay in minutes")[0] == "–"
    assert "leaves out 1 connection and 0 stays" in found.text


def test_a_room_that_somebody_was_in_all_month_was_used_and_its_hours_are_the_periods(tmp_path: Path) -> None:
    before = one("Always on", ("2026-10-01T08:00:00", "2026-10-02T08:00:00"))
    always = one("Always on", ("2026-10-31T08:00:00", "2026-11-30T17:00:00"))
    facts = covered((date(2026, 9, 1), date(2026, 12, 1)))
    found = report_of(tmp_path, before, always, facts=facts, now=datetime(2026, 12, 2, tzinfo=UTC), month=(2026, 11))
    assert "Every room of the previous period was used in this one too." in found.text
    hours = (datetime(2026, 11, 30, 17) - datetime(2026, 10, 31, 23)).total_seconds() / 3600
    assert totals(found)["Hours of all participants"][0] == f"{round(hours)}"
    assert card(found, "Busiest hour of the week")[0] == "Mondays 00–01", "of many the first"
    assert found.table("Rooms by minutes") == [["Always on", f"{round(hours * 60)}", "0", "0"]]
    assert [row[0] for row in found.table("By month")] == ["2026-10", "2026-11"]


def test_a_month_in_which_nothing_began_is_not_left_out_and_one_is_compared_with_the_one_before(tmp_path: Path) -> None:
    times = ["2026-07-10", *(f"2026-{month}-1{day}" for month, days in (("09", 3), ("10", 4)) for day in range(days))]
    calls = [one("R", (f"{day}T09:00:00", f"{day}T10:00:00")) for day in times]
    found = report_of(tmp_path, *calls, facts=covered((date(2026, 7, 1), date(2026, 10, 31))))
    assert [row[1:6] for row in found.table("By month")] == [[*"11111"], [*"00000"], [*"33311"], [*"44411"]]
    assert "url(#months-0-gap)" not in [attributes.get("fill") for _, attributes in found.elements]
    assert {row[0]: row[-3] for row in found.table("By month")} == {
        "2026-07": "–",
        "2026-08": "-100.0 %",
        "2026-09": "none before",
        "2026-10": "+33.3 %",
    }


def test_the_guard_and_the_case_of_a_reason_make_no_other(tmp_path: Path) -> None:
    reasons = ("Call disconnected", "call disconnected", "Call disconnected", "Timeout", "timeout ")
    calls = [one(("=Room", "'=Room")[n % 2], disconnect_reason=reason) for n, reason in enumerate(reasons)]
    write_archive(tmp_path / "a", calls, guard=False)
    found = report(tmp_path / "a")
    assert found.table("Rooms by minutes") == [["=Room", "300", "5", "5"]]
    assert {row[0]: row[1] for row in found.table("Disconnect reasons")} == {"Call disconnected": "3", "Timeout": "2"}


def test_places_without_a_name_are_ranked_too_and_small_counts_are_no_shares(tmp_path: Path) -> None:
    many = one("R", *[("09:00:00", "10:00:00")] * 20, system_location=None, media_node="", call_quality="4_terrible")
    few = one("R", system_location="Few", call_quality="4_terrible", protocol="SIP", license_type="None")
    found = report_of(tmp_path, many, few, one("R", system_location="Unrated", call_quality="0_unknown"))
    assert found.table("Locations by share of bad or terrible calls") == [["not told", "20", "20", "100.0 %"]]
    assert found.table("Nodes by share of bad or terrible calls") == [["not told", "20", "20", "100.0 %"]]
    assert "Licenses, no type" in {row[0] for row in found.table("The highest of the period")}
    by_both = {row[0]: row[1:] for row in found.table("Bad or terrible calls by location and protocol")}
    assert by_both == {"not told": ["100.0 %", "–"], "Few": ["–", "1 of 1"]}


@pytest.mark.parametrize(
    ("bad", "others", "named"),
    [(15, 5, ["75.0 %", "15", "20"]), (14, 6, []), (3, 0, ["15.0 %", "3", "20"]), (2, 0, [])],
)
def test_a_place_stands_out_by_three_bad_calls_and_half_as_much_again_as_the_whole(
    tmp_path: Path, bad: int, others: int, named: list[str]
) -> None:
    rated = [("A", "3_bad", bad), ("A", "1_good", 20 - bad), ("B", "3_bad", others), ("B", "1_good", 20 - others)]
    calls = [
        one("R", *[("09:00:00", "10:00:00")] * many, system_location=place, call_quality=quality)
        for place, quality, many in rated
        if many
    ]
    found = report_of(tmp_path, *calls).tables.get("What is bad", [])
    assert found[1:] == ([["Location A", *named]] if named else [])


# --- Enough, rooms, names, alarms -----------------------------------------------------------------------------------


def test_whether_licenses_are_enough_is_answered_with_how_long_and_by_whom(tmp_path: Path) -> None:
    calls = [
        one("Big", *[("09:00:00", "10:00:00")] * 8),
        one("Small", *[("09:30:00", "09:45:00")] * 4),
        one("Later", ("11:00:00", "12:00:00")),
    ]
    found = report_of(tmp_path, *calls, licenses={"port": 10, "audio": 5})
    said, why = card(found, "Enough? Licenses, port")
    assert (said, why.split(";")[0]) == ("no", "at most 12 of 10, 2026-11-10 10:30")
    assert card(found, "Enough? Licenses, audio") == ["yes, as far as covered", "none of 5 was held"]
    there = [row for row in found.table("Which rooms made each peak") if row[0] == "Licenses, port"]
    assert there == [
        ["Licenses, port", "2026-11-10 10:30", "Big", "8"],
        ["Licenses, port", "2026-11-10 10:30", "Small", "4"],
    ]
    assert f"Licenses, port: not enough; {why}. The period is not wholly covered: there may have been" in found.text
    assert "DATA_LICENSES" in report(tmp_path / "a").text


def test_rooms_that_nobody_used_are_named_those_of_the_previous_period_and_those_that_are_configured(
    tmp_path: Path,
) -> None:
    earlier = [one(name, ("2026-10-20T09:00:00", "2026-10-20T10:00:00")) for name in ("Earlier", "Used")]
    rooms = ["Used", "Earlier", "Never"]
    found = report_of(tmp_path, *earlier, one("Used"), facts=WHOLE, rooms=rooms, **PERIOD)
    assert found.table("1 room of the previous period that nobody used in this one") == [["Earlier", "1"]]
    configured = found.table("2 of 3 configured rooms that nobody used in the period")
    assert configured == [["Earlier", "earlier"], ["Never", "never"]]


def test_hidden_names_are_numbers_everywhere_also_what_a_stranger_can_write(tmp_path: Path) -> None:
    secret: list[Call] = [one("SECRET old", ("2026-10-01T09:00:00", "2026-10-01T10:00:00"))]
    for number in range(25):
        stays = [("09:00:00", f"{10 + number % 10}:00:00")] * (25 if number < 3 else 1)
        held, present = one(f"SECRET {number}", *stays, disconnect_reason=f"SECRET {number % 3}", call_quality="3_bad",
                            service_tag="SECRET tag", protocol="SECRET", vendor="SECRET client")  # fmt: skip
        secret.append((held | {"tag": "SECRET tag"}, present))
    plain = one("R", disconnect_reason="Call failed")
    bypass = one("R", disconnect_reason="SECRET other reasons")
    found = report_of(tmp_path, *secret, plain, bypass, facts=WHOLE, hide_names=True, rooms=["SECRET 99"], **PERIOD)
    assert "SECRET" not in (tmp_path / "a.html").read_text()
    assert {row[0] for row in found.table("By service tag")} == {"Tag 1", "no tag"}
    assert "Call failed" in {row[0] for row in found.table("Disconnect reasons")}
    rooms = found.table("The 15 of 26 rooms with the most minutes")
    assert [row[0] for row in rooms] == [f"Room {number}" for number in range(1, 16)]
    assert {row[0] for row in found.table("Rooms by share of bad or terrible calls")} == {"Room 1", "Room 2", "Room 3"}


def test_alarms_about_licenses_and_capacity_come_first_then_those_that_stood_longest(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one()])
    columns = ("name", "time_raised", "time_lowered")
    alarms = [
        ("cpu_load", "2026-11-09T00:00:00", "2026-11-10T00:00:00"),
        ("licenses_exceeded", "2026-11-10T09:00:00", "2026-11-10T09:30:00"),
        ("licenses_exceeded", "2026-11-10T10:00:00", "2026-11-10T11:00:00"),
        ("old", "2025-11-10T10:00:00", "2025-11-10T11:00:00"),
        ("Licence limit", "2026-11-10T09:00:00", "2026-11-10T09:12:00"),
        ("media_capacity", "2026-11-10T09:00:00", "2026-11-10T09:06:00"),
        ("it_stands", "2026-11-10T22:00:00", ""),  # to the end of the day, in Oslo
    ]
    usual = {"details": "", "identifier": 1, "instance": "", "level": "Error", "node": "192.0.2.1"}
    rows = [{"id": n, **usual, **dict(zip(columns, alarm, strict=True))} for n, alarm in enumerate(alarms)]
    write_csv(tmp_path / "a" / "pexHistoryAlarm.csv", rows)
    assert report(tmp_path / "a").table("5 kinds of alarms") == [
        ["licenses_exceeded", "error", "192.0.2.1", "2", "1.5", "2026-11-10 11:00"],
        ["Licence limit", "error", "192.0.2.1", "1", "0.2", "2026-11-10 10:00"],
        ["media_capacity", "error", "192.0.2.1", "1", "0.1", "2026-11-10 10:00"],
        ["cpu_load", "error", "192.0.2.1", "1", "24.0", "2026-11-09 01:00"],
        ["it_stands", "error", "192.0.2.1", "1", "1.0", "2026-11-10 23:00"],
    ]


def test_the_first_screens_figures_are_there_for_a_message(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("Private room")])
    page = write_report(tmp_path / "a", tmp_path / "a.html", zone=OSLO, facts=Facts("1"), now=NOW, month=(2026, 11))
    assert page.figures[0] == "November 2026"
    assert any(line.startswith("Participants: 1") for line in page.figures)
    assert "Private" not in " ".join(page.figures)


# --- Long lists -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Seventy rooms, and of everything more than a list has lines."""
    folder = tmp_path_factory.mktemp("crowd")
    calls = [one(f"Idle {n}", ("2026-10-20T09:00:00", "2026-10-20T09:01:00")) for n in range(31)]
    for n in range(70):
        place, stays = n % 35, [("09:00:00", f"09:{10 + n % 50}:00")] * (10 + n // 69)
        fields = {"system_location": f"L{place:02}", "media_node": f"N{place:02}", "service_tag": f"T{n:02}"}
        fields |= {"license_type": f"type {n % 7}", "protocol": f"P{n % 20:02}"}
        fields |= {"disconnect_reason": f"Reason {n % 20:02}"}
        held, present = one(f"Room {n:02}", *stays, **fields)
        for seat, person in enumerate(present):
            person["call_quality"] = "3_bad" if seat * 5 < place else "1_good"
            media_stream(person)
        calls.append((held | {"tag": f"T{n:02}"}, present))
    calls += [one("Long ago", (f"{day}T09:00:00", f"{day}T09:30:00")) for day in ("2024-09-10", "2024-11-10")]
    write_archive(folder / "a", calls)
    alarms = [
        {"id": n, "name": f"alarm {n:02}", "time_raised": "2026-11-10T09:00:00", "time_lowered": "2026-11-10T10:00:00"}
        for n in range(16)
    ]
    write_csv(folder / "a" / "pexHistoryAlarm.csv", alarms)
    rated = ["participant_id,start_time,historic_call_quality", *(f'{here[0]["id"]},,"[4, 1]"' for _, here in calls)]
    (folder / "a" / "pexHistoryQuality.csv").write_text("".join(f"{line}\r\n" for line in rated), newline="")
    gaps = [(local(date(2026, 1, n)), local(date(2026, 1, n + 1))) for n in range(2, 20, 2)]
    facts = covered((date(2024, 9, 1), date(2026, 11, 24)), gaps=gaps)
    return report(folder / "a", facts=facts, rooms=[f"Never {n:03}" for n in range(101)], **PERIOD)


LONG = {
    "The peaks of each location, the 30 highest of 35": 30,
    "The 15 of 70 rooms with the most minutes": 15,
    "31 rooms of the previous period that nobody used in this one; the 30 with the most participants then": 30,
    "101 of 101 configured rooms that nobody used in the period; 100 of them": 100,
    "By service tag": 61,
    "Participants by protocol": 16,
    "Disconnect reasons": 13,
    "Locations by share of bad or terrible calls": 8,
    "Bad or terrible calls by location and protocol": 14,
    "What is bad": 5,
    "Mean packet loss by location and media": 30,
    "15 kinds of alarms": 15,
    "Calls with the most bad minutes": 15,
    "By month": 24,
    "Which rooms made each peak": 48,
}


def test_of_what_is_much_the_most_is_shown_and_the_rest_is_counted(crowd: Reader) -> None:
    assert {caption: len(crowd.table(caption)) for caption in LONG} == LONG
    assert crowd.table("By service tag")[-1][:3] == ["10 others", "10", "100"]
    assert crowd.table("Participants by protocol")[-1][:2] == ["5 others", "150"]
    assert crowd.table("Disconnect reasons")[-1][:2] == ["8 other reasons", "240"]
    assert crowd.table("By month")[-1][:3] == ["2026-11", "70", "701"]


def test_of_many_types_of_licenses_protocols_reasons_and_gaps_some_are_told_apart(crowd: Reader) -> None:
    tags = crowd.table("By service tag")
    assert crowd.tables["By service tag"][0][8] == "other license-minutes"
    assert all(sum(map(int, row[4:9])) == int(row[3]) for row in tags), "a license each"
    assert len(crowd.tables["Bad or terrible calls by location and protocol"][0]) == 8
    assert len(crowd.tables["Disconnect reasons by day"][0]) == 6
    peaks = {row[0]: row[1] for row in crowd.table("The highest of the period") if row[0].startswith("Licenses")}
    alone = {"Licenses, type 6": "101", **{f"Licenses, type {n}": "100" for n in range(3)}}
    assert peaks == {"Licenses": "701", **alone, "Licenses, other types": "300"}
    rooms = [row[2:] for row in crowd.table("Which rooms made each peak") if row[0] == "Participants"]
    assert rooms == [["Room 69", "11"], *([f"Room {n:02}", "10"] for n in range(4)), ["65 other rooms", "650"]]
    assert crowd.about("Gaps").startswith("2 earlier ones; 2026-01-06")
