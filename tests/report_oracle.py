"""What the page must say, worked out in plain Python from the rows themselves: no SQL, no frames of data."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

Row = dict[str, str]
Span = tuple[datetime, datetime]
A_DAY = timedelta(days=1)


def moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@dataclass
class Stay:
    """A row whose times can be read."""

    row: Row
    start: datetime
    end: datetime

    @property
    def kind(self) -> str:
        return self.row.get("license_type", "")

    @property
    def media(self) -> bool:
        return self.row["protocol"].upper().split()[0] not in ("API", "BACKPLANE")

    @property
    def person(self) -> bool:
        return self.media and self.meeting

    @property
    def meeting(self) -> bool:
        return self.row["service_type"] != "two_stage_dialing"

    @property
    def in_room(self) -> bool:
        return self.row["service_type"] in ("conference", "lecture")

    @property
    def licenses(self) -> int:
        return int(self.row["license_count"] or 0) if self.media else 0

    @property
    def seconds(self) -> float | None:
        return int(self.row["duration"]) if self.row["duration"] and self.end >= self.start else None


@dataclass
class Oracle:
    """Over all rows of the two files, for the days from first to last in a zone."""

    held_rows: list[Row]
    there_rows: list[Row]
    first: date
    last: date
    zone: ZoneInfo
    covered: Sequence[Span]

    def __post_init__(self) -> None:
        self.held, self.there = stays(self.held_rows), stays(self.there_rows)

    @property
    def days(self) -> list[date]:
        return [*_days(self.first, self.last)]

    def day(self, at: datetime) -> date:
        return at.astimezone(self.zone).date()

    def began(self, stays: list[Stay]) -> list[Stay]:
        return [stay for stay in stays if self.first <= self.day(stay.start) <= self.last]

    @property
    def people(self) -> list[Stay]:
        return [stay for stay in self.began(self.there) if stay.person]

    @property
    def calls(self) -> list[Stay]:
        return [stay for stay in self.began(self.held) if stay.meeting]

    def span(self, first: date, last: date) -> Span:
        start, after = (datetime.combine(day, time(), self.zone).astimezone(UTC) for day in (first, last + A_DAY))
        return start, after

    def inside(self, stay: Stay) -> float:
        """Seconds of the stay within the period."""
        start, end = self.span(self.first, self.last)
        return max((min(stay.end, end) - max(stay.start, start)).total_seconds(), 0) if stay.end > stay.start else 0

    def remarks(self) -> Iterator[str]:
        """What is said of rows whose times are none, or are reversed."""
        for file, rows in (("pexHistoryConf.csv", self.held_rows), ("pexHistoryPart.csv", self.there_rows)):
            each = {row["id"]: (moment(row["start_time"]), moment(row["end_time"])) for row in reversed(rows)}.values()
            for count, what in (
                (sum(not start for start, _ in each), "whose start cannot be read: not counted."),
                (sum(bool(start and not end) for start, end in each), "whose end cannot be read: not counted."),
                (sum(bool(start and end and end < start) for start, end in each), "whose end lies before the start:"),
            ):
                if count:
                    yield f"{file}: {count} row{'' if count == 1 else 's'} {what}"

    def totals(self) -> list[str]:
        hours = sum(self.inside(stay) for stay in self.there if stay.person) / 3600
        lengths = [stay.seconds for stay in self.people if stay.seconds is not None]
        mean = f"{sum(lengths) / len(lengths) / 60:.1f}" if lengths else "–"
        tried = sum(stay.row["service_type"] in ("test_call", "media_playback") for stay in self.people)
        return [f"{len(self.calls)}", f"{len(self.people)}", f"{round(hours)}", mean, f"{tried}"]

    def weigh(self, measure: str) -> list[tuple[Stay, int]]:
        """Whom a measure counts, and as how many."""
        if measure == "Participants":
            return [(stay, 1) for stay in self.there if stay.person]
        if measure == "Conferences":
            return [(stay, 1) for stay in self.held if stay.meeting]
        kind = measure.partition(", ")[2]
        return [(stay, stay.licenses) for stay in self.there if kind in ("", stay.kind)]

    def levels(self, counted: list[tuple[Stay, int]]) -> Iterator[tuple[datetime, datetime, int]]:
        """Stretches of the period that lie in one quarter of an hour each, and how many were there in them."""
        start, end = self.span(self.first, self.last)
        present = [(stay, many) for stay, many in counted if stay.end > stay.start]
        edges = {start, end, *(at for stay, _ in present for at in (stay.start, stay.end) if start < at < end)}
        edges |= {at for span in self.covered for at in span if start < at < end}
        edges |= {start + timedelta(minutes=15 * n) for n in range(math.ceil((end - start) / timedelta(minutes=15)))}
        order = sorted(edges)
        change: Counter[datetime] = Counter()
        for stay, many in present:
            change[min(max(stay.start, start), end)] += many
            change[min(max(stay.end, start), end)] -= many
        level = 0
        for one, other in pairwise(order):
            level += change[one]
            yield one, other, level

    def peaks(self, measure: str, by: Callable[[datetime], object]) -> dict[object, tuple[int, str, float]]:
        """Of each group of moments that has somebody: peak, first reached, how long (seconds) at 90 % or more."""
        groups: dict[object, list[tuple[datetime, datetime, int]]] = defaultdict(list)
        for start, end, level in self.levels(self.weigh(measure)):
            groups[by(start)].append((start, end, level))
        found = {}
        for group, levels in groups.items():
            if most := max(level for _, _, level in levels):
                at = next(start for start, _, level in levels if level == most).astimezone(self.zone)
                near = sum((end - start).total_seconds() for start, end, level in levels if level * 10 >= most * 9)
                found[group] = most, f"{at:%Y-%m-%d %H:%M}", near
        return found

    def above(self, kind: str, number: int) -> tuple[float, int, int]:
        """Seconds, days and conferences with more licenses of that type than the number."""
        mine = self.weigh(f"Licenses, {kind}")
        stretches = [(start, end) for start, end, level in self.levels(mine) if level > number]
        conferences = {
            stay.row["conference"]
            for stay, many in mine
            if many and stay.end > stay.start and any(stay.start < end and stay.end > start for start, end in stretches)
        }
        seconds = sum((end - start).total_seconds() for start, end in stretches)
        return seconds, len({self.day(start) for start, _ in stretches}), len(conferences)

    def means(self) -> dict[tuple[int, int], float]:
        """By weekday and hour the participants at once, over what is covered."""
        lasted: dict[tuple[int, int], float] = defaultdict(float)
        summed: dict[tuple[int, int], float] = defaultdict(float)
        for start, end, level in self.levels(self.weigh("Participants")):
            if any(a <= start and end <= b for a, b in self.covered):
                local = start.astimezone(self.zone)
                key = local.isoweekday(), local.hour
                lasted[key] += (end - start).total_seconds()
                summed[key] += (end - start).total_seconds() * level
        return {key: summed[key] / lasted[key] for key in lasted}

    def tags(self) -> dict[str, list[int]]:
        """By tag: conferences, participants, minutes, license-minutes of audio and of port, peak of licenses."""
        found: dict[str, list[int]] = {}
        names = {stay.row["service_tag"].strip() for stay in self.people}
        names |= {stay.row["tag"].strip() for stay in self.calls}
        for name in names:
            mine = [stay for stay in self.people if stay.row["service_tag"].strip() == name]
            both = [
                int(sum((stay.seconds or 0) * stay.licenses for stay in mine if stay.kind == kind) // 60)
                for kind in ("audio", "port")
            ]
            counted = [
                (stay, stay.licenses)
                for stay in self.there
                if stay.person and stay.row["service_tag"].strip() == name and self.inside(stay)
            ]
            peak = max((level for _, _, level in self.levels(counted)), default=0) if counted else 0
            minutes = int(sum(stay.seconds or 0 for stay in mine) // 60)
            calls = sum(stay.row["tag"].strip() == name for stay in self.calls)
            found[name or "no tag"] = [calls, len(mine), minutes, *both, peak]
        return found

    def rooms(self) -> dict[str, list[int]]:
        """By room: minutes in the period, conferences, participants that began."""
        minutes = Counter[str]()
        for stay in self.there:
            if stay.person and stay.in_room and (name := stay.row["conference_name"].strip()):
                minutes[name] += 0
                minutes[name] += self.inside(stay)  # type: ignore[assignment]
        calls = Counter(stay.row["name"].strip() for stay in self.calls if stay.in_room)
        people = Counter(stay.row["conference_name"].strip() for stay in self.people if stay.in_room)
        used = {name for name in {*minutes, *calls, *people} if name and (minutes[name] or calls[name] or people[name])}
        return {name: [int(minutes[name] // 60), calls[name], people[name]] for name in used}

    def count(self, key: Callable[[Stay], str]) -> dict[str, int]:
        return dict(Counter(key(stay) for stay in self.people))

    def used(self, column: str) -> dict[str, list[int]]:
        """By the column's value: participants, minutes."""
        groups: dict[str, list[float]] = defaultdict(list)
        for stay in self.people:
            groups[stay.row[column].lower() or "not told"].append(stay.seconds or 0)
        return {name: [len(each), int(sum(each) // 60)] for name, each in groups.items()}

    def bad_places(self) -> dict[str, list[int]]:
        """By location that has 20 rated calls or more: how many were bad or terrible, and how many were rated."""
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for stay in self.people:
            if stay.row["call_quality"] in ("1_good", "2_ok", "3_bad", "4_terrible"):
                both = found[stay.row["system_location"] or "not told"]
                both[0] += stay.row["call_quality"] in ("3_bad", "4_terrible")
                both[1] += 1
        return {name: both for name, both in found.items() if both[1] >= 20}

    def loss(self, streams: Sequence[Row]) -> dict[tuple[str, str], list[str]]:
        """By location and media: streams, the mean of the worse direction, how many lost more than 1 %."""
        places = {stay.row["id"]: stay.row["system_location"] or "not told" for stay in self.people}
        groups: dict[tuple[str, str], list[float]] = defaultdict(list)
        for row in streams:
            lost = [float(row[name]) for name in ("rx_packet_loss", "tx_packet_loss") if row[name]]
            if row["participant_id"] in places and lost and max(lost) <= 100:
                groups[places[row["participant_id"]], row["stream_type"]].append(max(lost))
        found = {}
        for key, each in groups.items():
            over = sum(lost > 1 for lost in each)
            share = f"{over / len(each) * 100:.1f} %" if len(each) >= 20 else f"{over} of {len(each)}"
            found[key] = [f"{len(each)}", f"{sum(each) / len(each):.2f} %", share]
        return found

    def months(self) -> dict[str, list[int]]:
        """By month, also those between in which nothing began: conferences, participants, hours."""
        calls = Counter(f"{self.day(stay.start):%Y-%m}" for stay in self.held if stay.meeting)
        people = Counter(f"{self.day(stay.start):%Y-%m}" for stay in self.there if stay.person)
        hours: dict[str, float] = defaultdict(float)
        for stay in self.there:
            if stay.person and stay.end > stay.start:
                for day in _days(self.day(stay.start), self.day(stay.end)):
                    start, end = self.span(day, day)
                    inside = (min(stay.end, end) - max(stay.start, start)).total_seconds()
                    hours[f"{day:%Y-%m}"] += max(inside, 0) / 3600
        names = sorted({*calls, *people, *(name for name, each in hours.items() if each)})
        return {name: [calls[name], people[name], hours[name]] for name in names}

    def covered_days(self, month: str) -> tuple[float, int]:
        """Of a month: how many days are covered, and how many it has."""
        first = date.fromisoformat(f"{month}-01")
        after = (first + timedelta(days=32)).replace(day=1)
        start, end = self.span(first, after - A_DAY)
        seconds = sum(max((min(b, end) - max(a, start)).total_seconds(), 0) for a, b in self.covered)
        return seconds / (end - start).total_seconds() * (after - first).days, (after - first).days

    def changes(self) -> dict[str, list[str]]:
        """By month: participants and hours against the month before, where one is partial by covered day."""
        months, found = self.months(), {}
        for month in months:
            before = f"{date.fromisoformat(f'{month}-01') - A_DAY:%Y-%m}"
            (covered, days), (covered_before, days_before) = self.covered_days(month), self.covered_days(before)
            if before not in months or not covered or not covered_before:
                found[month] = ["–", "–"]
                continue
            partial = covered < days or covered_before < days_before
            found[month] = []
            for place in (1, 2):
                now, then = months[month][place], months[before][place]
                if partial:
                    now, then = now / covered, then / covered_before
                said = f"{(now - then) / then * 100:+,.1f} %" if then else "none before" if now else "none"
                found[month].append(said + " a day (partial)" * partial)
        return found

    def bad_moments(
        self, ratings: dict[str, list[str]]
    ) -> tuple[dict[int, list[int]], dict[tuple[str, int, int, int], int]]:
        """By hour of the day how many ratings, and how many bad; the bad calls: began, bad, rated, first (seconds)."""
        hours: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        calls: Counter[tuple[str, int, int, int]] = Counter()
        for stay in self.people:
            marks = ratings.get(stay.row["id"], [])
            known = [
                (20 * place, mark in ("3", "4")) for place, mark in enumerate(marks) if mark in ("1", "2", "3", "4")
            ]
            for after, bad in known:
                both = hours[(stay.start + timedelta(seconds=after)).astimezone(self.zone).hour]
                both[0] += 1
                both[1] += bad
            if bads := [after for after, bad in known if bad]:
                began = f"{stay.start.astimezone(self.zone):%Y-%m-%d %H:%M}"
                calls[began, 20 * len(bads), 20 * len(known), bads[0]] += 1
        return hours, calls


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


def stays(rows: list[Row]) -> list[Stay]:
    """Each id once, the first; those whose times can be read."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row["id"], row)
    both = [(row, moment(row["start_time"]), moment(row["end_time"])) for row in found.values()]
    return [Stay(row, start, end) for row, start, end in both if start and end]
