"""Weeks of a deployment, turn by turn, judged by the node's own record of what it offered.

`World` is a site (tests/harness.py) that judges each run: no row lost or doubled, each aggregate the rows of the dated
files in order, and true what `status --json` says. It knows the contract and the files, nothing of how the collector
does it. tests/test_simulation.py has what goes wrong in those weeks.
Times are naive and UTC.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from .forked import Fault
from .harness import ALARM, CONF, EVENT, NOW, PART, STREAM, Row, Site
from .management_node.calls import stamp
from .scripted_node import DAY, HOUR, MINUTE, Known

FILES = {"conference": CONF, "participant": PART, "stream": STREAM, "alarm": ALARM, "workervm_status_event": EVENT}
Spans = list[tuple[datetime, datetime]]


# Files


def is_ours(path: Path) -> bool:
    return path.exists() and b";" not in path.read_bytes().partition(b"\n")[0]


def rows_of(path: Path, *, torn: bool = False) -> list[Row]:
    """By name, without empty cells; none where the file is not one of ours. `torn`: its last row is unfinished."""
    if not is_ours(path):
        return []
    text = path.read_bytes().decode("utf-8-sig")
    text = text.rpartition("\r\n")[0] if torn else text
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise AssertionError(f"{path.name}: {error}: {text}") from None
    assert all(len(row) == len(header) for row in rows), f"{path.name} has part of a row: {rows}"
    return [{k: v for k, v in zip(header, row, strict=True) if v} for row in rows]


def key_of(row: Row) -> str:
    """What is there once: a record's id, a stream's with its participant's."""
    return row.get("participant_id", "") + " " * ("participant_id" in row) + row.get("id", "")


def id_of(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


# Spans


def spans_of(told: Iterable[Iterable[str]]) -> Spans:
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in told]


def within(moment: datetime | None, spans: Spans) -> bool:
    return moment is not None and any(start <= moment < end for start, end in spans)


def without(spans: Spans, others: Spans) -> Spans:
    """What of the spans is in none of the others."""
    for low, high in others:
        spans = [
            (start, end)
            for first, last in spans
            for start, end in ((first, min(last, low)), (max(first, high), last))
            if start < end
        ]
    return spans


# Runs


class World(Site):
    """A site whose every run is judged. What the user does to files between runs is told to it."""

    def __init__(self, *site: Any) -> None:
        super().__init__(*site)
        self.earliest: datetime | None = None  # that DATA_SINCE ever was
        self.begun: datetime | None = None  # the first good run since DATA_SINCE or the ledger changed
        self.windows: Spans = []  # asked for by hand
        self.first_good: dict[int, datetime] = {}  # by id(): the first good run that could see the record
        self.first_null: dict[int, datetime] = {}  # the same, when it had no end
        self.noted: dict[int, datetime] = {}  # the same, when a comparison had to note that
        self.owed: set[int] = set()
        self.amid: set[int] = set()  # they appeared while a run was reading, which may have read their time by then
        self.corrected: set[int] = set()  # their ends were changed: they may be in no window, and are only never twice
        self.seen: set[int] | None = None  # shown when the first run began since coverage was last read
        self.covered: Spans = []  # what was claimed, as far as the time had come
        self.claimed: Spans = []
        self.gaps: Spans = []
        self.ran: list[tuple[datetime, datetime]] = []  # when runs asked for their time, and the node's clock then
        self.brought: dict[int, datetime] = {}  # when a conference was collected first
        self.endless: dict[int, datetime] = {}  # by id(): the last run for which the record had no end
        self.compared: tuple[str | None, datetime] = (None, datetime.min)  # the last whole list: as told, and the run
        self.oldest: list[datetime] = []  # the oldest end at each run since gaps were judged; what came late tells none
        self.kept: dict[str, list[Row]] = {name: [] for name in FILES}  # rows of the aggregate as the user left it
        self.written: dict[str, list[Row]] = {name: [] for name in FILES}  # of dated files since, in order
        self.new: dict[str, list[list[Row]]] = {name: [] for name in FILES}  # of dated files not yet judged
        self.files: dict[str, set[str]] = {name: set() for name in FILES}  # dated files that were read here
        self.count: dict[str, Counter[str]] = {name: Counter() for name in FILES}  # keys in dated files, ever
        self.clocks_were_right = True
        self.unknown = False  # the ledger was changed, and no run has settled yet what it lacks
        self.memory_was_lost = False  # a ledger was, or another was put there
        self.torn: dict[str, Row] = {}  # aggregates whose last row is unfinished, and what it was
        self.ended: dict[str, Row] = {}  # the same, once a run has written to them
        self.settled = True  # all is published
        self.turns, self.broken = 0, False
        self.story: list[str] = []

    @property
    def limits(self) -> bool:
        return any(self.env.get(f"DEFAULT_{name}_LIMIT", "0") != "0" for name in ("CONF", "PART"))

    @property
    def records(self) -> list[Known]:
        """Of every resource that is collected; of events none is owed once a clock was wrong.

        No list of them all is read later.
        """
        events = self.env.get("DATA_EVENTS") == "true" and self.clocks_were_right
        names = list(self.node.known) if events else ["conference", "participant"]
        return [one for name in names for one in self.node.known[name].values()]

    def held(self, one: Known) -> list[Known]:
        """The conferences that list a participant; a conference itself."""
        conferences = self.node.known["conference"]
        return [conferences[id] for id in one.listed_by] if one.resource == "participant" else [one]

    # A turn

    def turn(self, *arguments: str, **named: Any) -> None:
        """One run, and what must be true after it. An AssertionError tells the story so far."""
        self.turns += 1
        try:
            self._turn(*arguments, **named)
            self.node.wait(timedelta(seconds=1))  # what is shown from now on, this run did not see
        except AssertionError as error:
            self.broken = True
            raise AssertionError("\n".join([str(error), *self.story[-40:]])) from None

    def _turn(
        self,
        *arguments: str,
        ahead: timedelta = NOW,
        fault: tuple[Fault, int | str] | None = None,
        spoilt: bool = False,
    ) -> None:
        """`spoilt`: the node fails in it."""
        if arguments:
            self._note_window(arguments)
        told = self.node.tells_time or not (ahead or self.node.ahead)  # what time it is, as the node has it
        self.clocks_were_right = self.clocks_were_right and not ahead and not self.node.ahead
        oldest = [one.end for one in self.node.has("conference") if one.end and self._in_time(one)]
        self.oldest.append(min(oldest, default=self.node.now))
        shown = {id(one) for one in self.records if one.shown <= self.node.now}
        self.seen = shown if self.seen is None else self.seen
        before = {path.name: path.read_bytes() for path in self.data.glob("*.csv")}
        struck, at = fault or (None, 0)
        outcome = self.run(None, *arguments, ahead=ahead, fault=struck, at=at, code=None)
        last = (outcome.output.strip().splitlines() or [""])[-1][20:150]
        self.tell(f"run {' '.join(arguments)} ahead {ahead} {fault or ''}{' spoilt' * spoilt}: {outcome.code} {last}")
        allowed = (0, 1, -9) if fault else (0, 1) if spoilt or ahead or self.node.ahead else (0,)
        assert outcome.code in allowed, outcome.output
        if outcome.code == 1 and self.settled and not fault:
            after = {path.name: path.read_bytes() for path in self.data.glob("*.csv")}
            assert before == after, f"a run that failed changed {before.keys() ^ after.keys() or 'a file'}"
        for file in [*self.torn]:
            if (self.data / file).read_bytes() != before[file]:
                self.ended[file] = self.torn.pop(file)
        self._read_dated()
        removed = before.keys() - {path.name for path in self.data.glob("*.csv")} - set(FILES.values())
        agree = not self.node.tells_time or abs(ahead - self.node.ahead) <= 15 * MINUTE
        assert not removed or (agree and self.env.get("DATA_KEEP_DAYS", "0") != "0"), f"removed: {removed}"
        try:
            status = self.status()
        except ValueError:
            if not fault:
                raise
            self.settled = False  # killed in mid-commit: the next run repairs it
            return
        self.settled = (self.settled and not fault) or self._nothing_waits(status)
        good = outcome.code == 0 and not (fault or spoilt)
        last, began = status["runs"][:1], stamp(self.node.now + ahead)
        committed = any(run["started"] == began and run["conferences"] is not None for run in last)
        if outcome.code == 0 or committed:  # a run may fail behind its commit
            self.ran += [(self.node.now, self.node.now + self._believed(ahead))]
        if status["reconciled"] != self.compared[0]:
            self.compared = status["reconciled"], self.node.now
        self.endless |= {id(one): self.node.now for one in self.records if not one.end}
        self._judge_spans(status, good and told)
        self._note_owed(status, good and not arguments and told, not told)
        self.begun = self.begun or (self.node.now if good and not arguments and told else None)
        if outcome.code == 0:
            assert status["staged"] == 0 or fault, status
            assert status["runs"][0]["by_hand"] == bool(arguments), status["runs"][0]
        if self.settled:
            self._judge_files(self.clocks_were_right)
            self._judge_owed()
            self._judge_counts(status, good and not arguments)

    def _believed(self, ahead: timedelta) -> timedelta:
        """How far ahead the clock is that a run goes by: the node's, bounded by ours where they are much the same."""
        if not self.node.tells_time:
            return ahead
        return min(ahead, self.node.ahead) if abs(ahead - self.node.ahead) <= 15 * MINUTE else self.node.ahead

    def _nothing_waits(self, status: dict[str, Any]) -> bool:
        return status["staged"] == 0 and not any((self.data / ".collector").glob("*.csv*"))

    def tell(self, text: str) -> None:
        self.story.append(f"{self.node.now:%m-%d %H:%M} {text}")

    def _note_window(self, arguments: tuple[str, ...]) -> None:
        asked = dict(zip(arguments[::2], arguments[1::2], strict=True))
        start, end = asked["--from"], asked.get("--to", stamp(self.node.now) or "")
        self.windows += spans_of([(start, end)])

    # What is owed

    def _note_owed(self, status: dict[str, Any], good: bool, blind: bool) -> None:
        """From now on this must be in the files.

        What was shown when its time came to be covered; what was shown late, a good run a day after another that could
        see it (a participant who was gone is asked for during a week); what has no end, good runs a day and then two
        days after: by the one it is noted, and taken when the list is next compared, a day later or more.
        """
        covered = spans_of(status["coverage"])
        by_hand = bool(status["runs"]) and bool(status["runs"][0]["by_hand"])
        new = without(covered, self.claimed if by_hand else self.covered)
        settled = good and not self.limits and not status["runs"][0]["waiting"]
        if self.unknown and not settled:
            return  # what a lost ledger took with it comes first
        self.unknown = False
        if settled and new:  # a query reaches back an hour
            new = [(start - HOUR, end) for start, end in new]
        unknown = status["gaps_unknown_before"]
        unknown = datetime.fromisoformat(unknown) if unknown else datetime.min
        now = self.node.now
        for one in self.records:
            seen, gone = self.seen is not None and id(one) in self.seen, one.forgotten is not None
            # Of an instant at which the node's oldest record ended, it may have forgotten another.
            tied = any(one.end == start for start, _ in covered)
            # What ended ahead of the true time, by a clock that was wrong, is forgotten in no order.
            in_order = not one.forgotten or (one.end or now) <= one.forgotten
            known = not gone or ((one.end or now) >= unknown and in_order and not tied and not self._outlived(one))
            covers = one.resource in ("conference", "participant") and within(one.end, new)
            if id(one) in self.corrected:
                continue
            if self._in_time(one) and seen and covers and known and within(one.end, covered) and not blind:
                self.owed.add(id(one))
            if not good or not self.node.shows(one) or (one.end or now) > now or one.stands:
                continue
            if not all(held.shown <= now and (held.end or now) <= now for held in self.held(one)):
                continue
            ended = one.end and any(within(held.end, covered) and self.node.shows(held) for held in self.held(one))
            first = (self.first_good if ended else self.first_null).setdefault(id(one), now)
            late = now - first > DAY + HOUR
            if late and not ended:
                late = settled and now - self.noted.setdefault(id(one), now) > 2 * DAY + HOUR
            asked = first - min(self.brought.get(id(held), first) for held in self.held(one)) < 6 * DAY
            if late and asked and settled and self._in_scope(one, covered):
                self.owed.add(id(one))
        self.seen = None
        right = now + min(self.node.ahead, NOW)
        if by_hand:  # which corrects nothing
            self.covered = [*self.covered, *new]
        else:
            self.covered = [(start, min(end, right)) for start, end in covered if start < right]
        self.claimed = covered

    def _in_time(self, one: Known) -> bool:
        """Whether it was shown, with its end, before the first run that could ask for its time."""
        before = [moment for moment, told in self.ran if (one.end or told) < told]
        seen = all(one.shown < moment or (one.shown == moment and id(one) not in self.amid) for moment in before)
        return seen and self.endless.get(id(one), datetime.min) < min(before, default=datetime.max)

    def _outlived(self, one: Known) -> bool:
        """Whether it ended after its conference: the node forgets it with that one, before its own time's turn.

        It is judged as one who is missing: status counts it.
        """
        held = self.held(one)[0].end
        return held is not None and held < (one.end or held)

    def _in_scope(self, one: Known, covered: Spans) -> bool:
        """Whether it ended in covered time, or the node would not say; a participant comes with its conference."""
        if one.resource not in ("conference", "participant"):
            return self.since is None or one.end is None or one.end >= self.since
        return any(self._begun_since(held) if not held.end else within(held.end, covered) for held in self.held(one))

    def _begun_since(self, one: Known) -> bool:
        """Of one without an end: DATA_SINCE is held against its start."""
        return self.since is None or one.record["start_time"] >= (stamp(self.since) or "")

    def _may_come(self, one: Known) -> bool:
        """Whether it was asked for: since DATA_SINCE or by hand; a participant also with its conference."""
        for each in (one, *self.held(one)):
            end = each.end
            if end is None or self.earliest is None or end >= self.earliest or within(end, self.windows):
                return True
        return False

    # What must be true

    def _judge_files(self, in_order: bool) -> None:
        for name, file in FILES.items():
            found, groups = rows_of(self.data / file, torn=file in self.torn), self.new[name]
            if not in_order:  # names tell no order where clocks were wrong
                places = {key_of(row): place for place, row in enumerate(found)}
                groups.sort(key=lambda rows: places.get(key_of(rows[0]), 0))
            self.new[name] = []
            self.written[name] += [row for rows in groups for row in rows]
            self.count[name].update(key_of(row) for rows in groups for row in rows)
            twice = sorted(key for key, count in self.count[name].items() if count > 1)
            assert not twice, f"{file}: twice in dated files: {twice}"
            twice = sorted(key for key, count in Counter(map(key_of, found)).items() if count > 1)
            assert not twice, f"{file}: twice: {twice}"
            place, row = len(self.kept[name]), self.ended.pop(file, None)
            if row and found[place : place + 1] == [row] and len(found) > place + len(self.written[name]):
                self.kept[name].append(row)  # it was completed; else it went to a file of its own
            assert found == self.kept[name] + self.written[name], f"{file} is not the dated files in order"
            known = self.node.known.get(name, {})
            told = {key for key, one in known.items() if id(one) not in self.corrected}
            strange = [key for key in self.count[name] if key in told and not self._may_come(known[key])]
            assert not strange, f"{file}: not asked for: {strange}"

    def _read_dated(self) -> None:
        """Those that are new, before DATA_KEEP_DAYS removes them."""
        for name in FILES:
            for path in self.dated(FILES[name]):
                if path.name not in self.files[name]:
                    self.files[name].add(path.name)
                    rows = rows_of(path)
                    self.new[name] += [rows] if rows else []
                    if rows and name != "stream":
                        self.tell(f"    {path.name}: {' '.join(map(key_of, rows))}")

    def _judge_owed(self) -> None:
        lost = [one for one in self.records if id(one) in self.owed and not self.count[one.resource][one.id]]
        assert not lost, "lost: " + ", ".join(
            f"{one.id} (ended {one.end}, shown {one.shown}, forgotten {one.forgotten})" for one in lost
        )

    def _judge_spans(self, status: dict[str, Any], good: bool) -> None:
        covered, gaps = spans_of(status["coverage"]), spans_of(status["gaps"])
        forgotten = spans_of(status["forgotten"])
        for what, spans in (("coverage", covered), ("gaps", gaps)):
            assert all(start < end for start, end in spans), f"{what}: {spans}"
            assert all(a[1] < b[0] for a, b in pairwise(spans)), f"{what} is not merged: {spans}"
        assert without(gaps, covered) == gaps, f"a gap is covered: {gaps}, {covered}"
        assert not without(forgotten, gaps), f"forgotten, and no gap: {forgotten}, {gaps}"
        between = [(a[1], b[0]) for a, b in pairwise(covered)]
        assert not without(between, gaps), f"neither covered nor a gap: {without(between, gaps)}"
        assert not without(gaps, [*between, *forgotten]), f"a gap for no reason: {gaps}"
        if not good:
            return
        now = self.node.now + self.node.ahead
        start, end = self.windows[-1] if status["runs"][0]["by_hand"] else (datetime.min, now)
        end = min(end, now - MINUTE, self.node.now)  # what the node's clock has not come to covers nothing
        begun = start < end and any(one.end < end for one in self.node.has("conference") if one.end)
        assert covered or gaps or self.limits or not begun, "a good run covered nothing"
        if not covered:
            return
        assert status["runs"][0]["by_hand"] or not covered or covered[-1][1] <= now + MINUTE, (
            f"covered ahead of now: {covered}"
        )
        if not self.limits and not status["runs"][0]["waiting"] and not self.memory_was_lost and self.clocks_were_right:
            self._judge_gaps(status, covered, forgotten)

    def _judge_gaps(self, status: dict[str, Any], covered: Spans, gaps: Spans) -> None:
        """A gap is what the node had forgotten; what is called complete has none."""
        for start, end in without(gaps, self.gaps):
            before = self.since is not None and start < self.since
            assert end <= max(self.oldest) or before, f"no gap: {start} to {end}, the node lists {self.oldest}"
        self.gaps, self.oldest = gaps, []
        if not status["runs"][0]["by_hand"] and (not gaps or gaps[-1] < covered[-1]):
            since = status["complete_since"]
            assert since, "a good run, and complete since never"
            start = datetime.fromisoformat(since)
            assert all(end <= start for _, end in gaps), f"complete since {start}, with gaps {gaps}"
            assert covered[-1][0] <= start <= covered[-1][1], f"complete since {start}, covered {covered}"

    def _judge_counts(self, status: dict[str, Any], good: bool) -> None:
        """Who is missing and who is lost: of those whom collected conferences list, and never more."""
        conferences = self.node.known["conference"].values()
        collected = [one for one in conferences if self.count["conference"][one.id]]
        listed = {id_of(uri) for one in collected for uri in one.record["participants"]}
        for one in collected:
            self.brought.setdefault(id(one), self.node.now)
        missing = {id for id in listed if not self.count["participant"][id]}
        told = status["lost"] + status["expected"]
        assert told <= len(missing), f"{status['lost']} lost, {status['expected']} expected, missing: {sorted(missing)}"
        ended = [one for one in collected if within(one.end, self.covered)]
        uris = {
            one.record["resource_uri"] for one in ended if not one.forgotten or one.forgotten > self.node.now - 29 * DAY
        }
        people = self.node.known["participant"].values()
        due = {one.id for one in people if one.record["conference"] in uris} & missing
        if good and not self.memory_was_lost and not self.limits and not status["runs"][0]["waiting"]:
            assert told >= len(due), f"{status['lost']} lost, {status['expected']} expected, missing: {sorted(due)}"
        null = [one for one in conferences if self.endless.get(id(one), datetime.min) >= self.compared[1]]
        null = [one for one in null if not self.count["conference"][one.id]]
        assert status["without_end"] <= len(null), f"{status['without_end']} without an end, not {len(null)}"

    # What the user did

    def set_since(self, since: datetime | None) -> None:
        first = not self.turns
        self.earliest = since if first else self.earliest and since and min(self.earliest, since)
        self.since, self.begun = since, None
        self.env["DATA_SINCE"] = stamp(since) or ""

    def correct(self, one: Known, end: datetime) -> None:
        """The node changes an end."""
        one.record["end_time"] = stamp(end)
        self.corrected |= {id(one), *(id(other) for other in self.records if one.id in other.listed_by)}

    def files_changed(self) -> None:
        """The aggregates are as the user left them: what is appended from now on comes behind that."""
        for name, file in FILES.items():
            self.kept[name], self.written[name] = rows_of(self.data / file, torn=file in self.torn), []

    def ledger_changed(self) -> None:
        """It was lost, or an older one was put there: what no file tells may come once more."""
        self.memory_was_lost, self.unknown, self.seen, self.begun = True, True, None, None
        self.covered, self.claimed = [], []
        self.first_good, self.first_null, self.noted = {}, {}, {}
        for name, file in FILES.items():
            files = (*self.dated(file), self.data / file)
            there = {key_of(row) for path in files for row in rows_of(path, torn=path.name in self.torn)}
            for key in self.count[name].keys() - there:
                del self.count[name][key]
                if (one := self.node.known.get(name, {}).get(key)) and one.forgotten:
                    self.corrected.add(id(one))  # it was collected, and removed since: it cannot come again
        self.owed = {id(one) for one in self.records if self.count[one.resource][one.id]}

    HELD = "torn", "kept", "written", "files", "count", "covered", "claimed", "gaps"

    def back_up(self, folder: Path) -> None:
        """The whole data folder."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.data, folder)
        self.backup = deepcopy({name: getattr(self, name) for name in self.HELD})

    def restore(self, folder: Path) -> None:
        """The whole data folder is as it was."""
        shutil.rmtree(self.data)
        shutil.copytree(folder, self.data)
        for name, value in deepcopy(self.backup).items():
            setattr(self, name, value)
        self.seen, self.first_good, self.first_null, self.noted, self.begun = None, {}, {}, {}, None
        self.owed = {id(one) for one in self.records if self.count[one.resource][one.id]}

    # The end

    def settle(self) -> None:
        """All is well for some days: what the node still shows is there, and nothing waits or is missing."""
        self.node.ahead, self.node.tells_time, self.node.twice = NOW, True, set()
        self.env |= {"DEFAULT_CONF_LIMIT": "0", "DEFAULT_PART_LIMIT": "0"}
        for _ in range(5):
            self.node.wait(13 * HOUR)
            self.turn()
        status = self.status()
        assert status["runs"][0]["waiting"] == 0, status["runs"][0]
        collected = [one for one in self.node.known["conference"].values() if self.count["conference"][one.id]]
        ahead = [one for one in collected if one.end and one.end > self.node.now]
        listed = {id_of(uri) for one in ahead for uri in one.record["participants"]}  # they are asked for in their time
        yet = [id for id in listed if not self.count["participant"][id]]
        assert status["expected"] <= len(yet), f"{status['expected']} expected, yet to come: {yet}"
        covered = spans_of(status["coverage"])
        asked = [*covered, *spans_of(status["forgotten"])]
        if any(one.end < self.node.now for one in self.node.has("conference") if one.end):
            assert max(end for _, end in asked) > self.node.now - 2 * MINUTE, asked
        begins = (covered or [(datetime.max, datetime.max)])[0][0]
        for one in self.records:
            first = begins if not self.begun or one.shown > self.begun else self.since or datetime.min
            ends = [one.end]
            if self.memory_was_lost and not one.end:  # whom it awaited, only what is asked for since then tells
                ends = [held.end for held in self.held(one)]
            ended = any(end is None or first <= end < self.node.now - MINUTE for end in ends)
            if ended and self._due(one, spans_of(status["forgotten"])):
                self.owed.add(id(one))
        self._judge_owed()

    def _due(self, one: Known, gaps: Spans) -> bool:
        """Whether days of good runs could see it, and had to ask for it."""
        first = self.first_good.get(id(one)) or self.first_null.get(id(one))
        if not first or self.node.now - first < 2 * DAY or id(one) in self.corrected or not self.node.shows(one):
            return False
        held = [self.brought[id(held)] for held in self.held(one) if id(held) in self.brought]
        if one.resource == "participant" and (not held or first - min(held) > 6 * DAY):
            return False
        begun = any(each.end or self._begun_since(each) for each in self.held(one))
        return begun and self._may_come(one) and not within(one.end, gaps)
