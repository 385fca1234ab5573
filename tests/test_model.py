"""Whatever happens, in whatever order: each record once, and the aggregate is the dated files.

Hypothesis makes up histories of a node, its platform, the collector and its user. The examples are
the same each time; MODEL_EXAMPLES=2000 makes that many longer ones, others each time (make test-model).
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .conftest import environment_for
from .forked_collector import MEMORY, Fault, ForkedCollector
from .management_node import conference, participant
from .management_node.calls import stamp
from .management_node.server import Reply, Request
from .year import DAY, HOUR, MINUTE, ON_TIME, Known, Node

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
CONF, PART, STREAM = "pexHistoryConf.csv", "pexHistoryPart.csv", "pexHistoryStream.csv"
KINDS = {CONF: "conference", PART: "participant"}

Row = dict[str, str]

MOMENTS = st.one_of(st.integers(1, 90), st.integers(1, 3 * 24 * 60))
"""Minutes until the next thing happens."""
LATE = st.sampled_from([0, 0, 0, 0, 10, 90, 6 * 60, 30 * 60, 80 * 60])
"""Minutes after which a record is shown."""
ORDERS = st.sampled_from(["obeyed", "obeyed", "ignored", "refused"])
PAGES = st.sampled_from([2, 3, 7, 1000])
LIMITS = st.sampled_from([(0, 0), (0, 0), (1, 0), (3, 5), (0, 2), (4, 0)])


def rows_of(path: Path) -> list[Row]:
    """By name, without empty cells; none where the file is not one of ours."""
    if not is_ours(path):
        return []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = csv.reader(lines, strict=True)
    return [{k: v for k, v in zip(header, row, strict=True) if v} for row in rows]


def is_ours(path: Path) -> bool:
    return path.exists() and b";" not in path.read_bytes().partition(b"\n")[0]


def by_the_user(row: Row) -> bool:
    return row["id"].startswith("user-")


def id_of(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


def twice(ids: list[str]) -> list[str]:
    """The ids that are there more than once."""
    return sorted(id for id, count in Counter(ids).items() if count > 1)


@dataclass
class Platform(Node):
    """With media streams, and the fields of a newer release once it was upgraded."""

    upgraded: bool = False

    def _shown(self, one: Known) -> dict[str, Any]:
        newer = {"zone": "DMZ"} if self.upgraded else {}
        more = {"media_streams": one.record["media_streams"]} if one.resource == "participant" else {}
        return super()._shown(one) | more | newer


class History(RuleBasedStateMachine):
    node: Platform
    collect: ForkedCollector

    def __init__(self) -> None:
        super().__init__()
        for name, value in vars(Platform()).items():
            setattr(self.node, name, value)
        self.node.server.forget_requests()
        self.folder = Path(tempfile.mkdtemp(prefix="model-", dir=MEMORY))
        self.data = self.folder / "data"
        self.data.mkdir()
        self.everyone: dict[str, dict[str, Known]] = {"conference": {}, "participant": {}}
        self.may_come: set[str] = set()  # asked for by hand, though they ended before collection began
        self.away: dict[str, list[Row]] = {CONF: [], PART: []}  # rows that the user took away
        self.locked: tuple[Fault, str] | None = None
        self.spoilt = False  # the node is to fail
        self.settled = False  # the last run ended well
        self.whole = True  # nothing is appended of what waits to be published
        self.clocks_were_right = True
        self.edits = 0

    @initialize(
        limits=LIMITS,
        appear=st.sampled_from(["left", "ended"]),
        after=st.sampled_from([0, 1, 10]),
        order=ORDERS,
        gone=st.sampled_from([200, 400, 404]),
        page=PAGES,
        streams=st.booleans(),
        ahead=st.sampled_from([0, 0, 0, 7, -9, 3650 * 24]),
        before=st.lists(st.integers(1, 3000), max_size=3),
    )
    def deploy(
        self,
        limits: tuple[int, int],
        appear: str,
        after: int,
        order: str,
        gone: int,
        page: int,
        streams: bool,
        ahead: int,
        before: list[int],
    ) -> None:
        self.appear, self.after = appear, after * MINUTE
        self.node.order, self.node.gone, self.node.page = order, gone, page
        self.env = environment_for(self.node, self.data) | {"DATA_MEDIA_STREAMS": str(streams)}  # type: ignore[arg-type]
        self.limit(limits)
        self.since = self.node.now - DAY  # what ended from then on is owed; what ended before `earliest` may not come
        self.earliest = self.since + min(ahead, 0) * HOUR  # the first request is made by the wrong clock
        for minutes in before:
            self.hold(self.node.now - minutes * MINUTE, timedelta(0), [(minutes, 0, 0)])
        self.run(ahead=ahead * HOUR)

    # What happens on the platform

    @rule(
        ends=st.lists(st.tuples(st.one_of(st.integers(1, 60), st.integers(1, 3000)), LATE), min_size=1, max_size=4),
        people=st.lists(
            st.tuples(st.one_of(st.integers(0, 30), st.integers(0, 4000)), LATE, st.integers(0, 9)), max_size=3
        ),
    )
    def calls_are_held(self, ends: list[tuple[int, int]], people: list[tuple[int, int, int]]) -> None:
        """They end in so many minutes and are shown so late; people leave before, are shown late or never."""
        for minutes, late in ends:
            end = self.node.now + timedelta(minutes=minutes, seconds=minutes % 3, microseconds=minutes % 2)
            self.hold(end, late * MINUTE, people)

    @rule(number=st.integers(21, 26), early=st.integers(60, 4000))
    def many_calls_are_held(self, number: int, early: int) -> None:
        for minutes in range(number):
            self.hold(self.node.now + minutes * MINUTE, timedelta(0), [(early, 0, 0)])

    def hold(self, end: datetime, late: timedelta, people: list[tuple[int, int, int]]) -> None:
        held = conference(id=f"c{len(self.everyone['conference'])}", name='=a,"b"\n', end_time=stamp(end))
        held["start_time"] = stamp(end - 70 * HOUR)
        shown = end + self.after + late
        self.know("conference", held, shown, shown - end <= ON_TIME)
        for early, later, kind in people:
            left = end - early * MINUTE
            one = participant(held, id=f"p{len(self.everyone['participant'])}", end_time=stamp(left))
            one["media_streams"] = [{"id": 1, "participant": one["resource_uri"]}]
            seen = (left if self.appear == "left" else end) + self.after + later * MINUTE
            # Before now no run saw it, whenever it is to have been shown.
            seen = datetime.max if kind == 9 else max(seen, self.node.now)
            in_time = seen - left <= ON_TIME or (seen <= shown and shown - end <= ON_TIME)
            self.know("participant", one, seen, in_time)
            if kind == 8:  # was transferred from an earlier conference
                earlier = next(iter(self.everyone["participant"].values()))
                held["participants"].append(earlier.record["resource_uri"])
                earlier.transferred = True

    def know(self, resource: str, record: dict[str, Any], shown: datetime, on_time: bool) -> None:
        known = Known(resource, record, shown, on_time)
        self.everyone[resource][known.id] = self.node.known[resource][known.id] = known

    @rule(number=st.integers(1, 4))
    def the_node_forgets(self, number: int) -> None:
        self.node.forget(sorted(self.node.has("conference"), key=lambda one: one.end)[:number])

    @rule(data=st.data(), minutes=st.integers(-300, 300))
    def an_end_is_corrected(self, data: st.DataObject, minutes: int) -> None:
        known = [one for resource in KINDS.values() for one in self.node.has(resource)]
        if known:
            one = data.draw(st.sampled_from(known))
            end = min(one.end + minutes * MINUTE, self.node.now - MINUTE)
            if one.end >= self.since <= end:
                one.record["end_time"] = stamp(end)
                for id in (one.id, *map(id_of, one.record.get("participants", ()))):
                    for resource in KINDS.values():
                        if other := self.everyone[resource].get(id):
                            other.on_time = False

    @rule(order=ORDERS, gone=st.sampled_from([200, 400, 404]), page=PAGES, tells_time=st.booleans())
    def the_node_becomes_another(self, order: str, gone: int, page: int, tells_time: bool) -> None:
        self.node.order, self.node.gone, self.node.page = order, gone, page
        self.node.tells_time = tells_time
        self.node.upgraded = True

    # What the collector does

    @rule(minutes=MOMENTS)
    def a_run(self, minutes: int) -> None:
        self.node.now += minutes * MINUTE
        self.run()

    @rule(every=st.sampled_from([1, 6, 24]))
    def runs_of_a_schedule(self, every: int) -> None:
        for _ in range(2):
            self.node.now += every * HOUR
            self.run()

    @rule(minutes=MOMENTS, ahead=st.sampled_from([20, 180, 3 * 24 * 60, 40 * 24 * 60, -20, -180, -7000 * 24 * 60]))
    def a_run_with_a_wrong_clock(self, minutes: int, ahead: int) -> None:
        self.node.now += minutes * MINUTE
        self.run(ahead=ahead * MINUTE)

    @rule(minutes=MOMENTS, start=st.integers(1, 5000), length=st.integers(1, 3000))
    def a_range_by_hand(self, minutes: int, start: int, length: int) -> None:
        self.node.now += minutes * MINUTE
        first = self.node.now - start * MINUTE
        last = first + length * MINUTE
        self.run("--from", stamp(first) or "", "--to", stamp(last) or "")
        known = [one for resource in KINDS.values() for one in self.everyone[resource].values()]
        for one in known:
            if first.replace(microsecond=0) <= one.end < last:
                self.may_come |= {one.id, *map(id_of, one.record.get("participants", ()))}
                if self.settled and ", 0 waiting" in self.said and one in self.node.has(one.resource):
                    one.owed = True

    @rule(limits=LIMITS)
    def limit(self, limits: tuple[int, int]) -> None:
        self.env |= {"DEFAULT_CONF_LIMIT": str(limits[0]), "DEFAULT_PART_LIMIT": str(limits[1])}

    @rule(minutes=MOMENTS, fault=st.sampled_from(["kill", "kill", "ENOSPC", "EACCES"]), at=st.integers(1, 90))
    def a_run_is_struck(self, minutes: int, fault: Fault, at: int) -> None:
        self.node.now += minutes * MINUTE
        self.run(fault=(fault, at))

    @rule(minutes=MOMENTS, how=st.sampled_from(["no envelope", 401, "less than counted"]), nth=st.integers(1, 8))
    def the_node_fails_a_run(self, minutes: int, how: str | int, nth: int) -> None:
        self.node.now += minutes * MINUTE
        self.spoil(nth, lambda request: Reply(401) if how == 401 else self.damaged(request, how == "no envelope"))
        self.run()

    @rule(minutes=MOMENTS, forgotten=st.integers(0, 3), new=st.integers(0, 2), nth=st.integers(1, 8))
    def the_node_moves_while_it_is_read(self, minutes: int, forgotten: int, new: int, nth: int) -> None:
        self.node.now += minutes * MINUTE

        def move(request: Request) -> None:
            self.the_node_forgets(forgotten)
            for _ in range(new):
                self.hold(self.node.now - 2 * HOUR, 2 * HOUR - self.after, [(5, 0, 0)])

        self.spoil(nth, move)
        self.run()

    def damaged(self, request: Request, no_envelope: bool) -> Reply:
        reply = self.node._answer(request)
        if no_envelope:
            return Reply(200, {"Content-Type": "application/json"}, b'["not", "the", "envelope"]')
        if reply.status == 200 and b'"objects": [{' in reply.body:
            document = json.loads(reply.body)
            document["objects"].pop()
            document["meta"]["next"] = None
            reply.body = json.dumps(document).encode()
        return reply

    def spoil(self, nth: int, act: Callable[[Request], Reply | None]) -> None:
        """At the nth request of the next run."""
        first = len(self.node.server.requests)
        self.node.spoil = lambda request: act(request) if request.number == first + nth else None
        self.spoilt = True

    def run(
        self, *arguments: str, ahead: timedelta = timedelta(0), fault: tuple[Fault, int | str] | None = None
    ) -> None:
        struck, fault = fault, fault or self.locked
        right = (not ahead or self.node.tells_time) and not self.spoilt and not fault
        outcome = self.collect(list(arguments), self.env, self.node.now + ahead, *(fault or ()), fork=bool(fault))
        self.node.spoil, self.spoilt = lambda request: None, False
        self.said = outcome.output
        assert not re.search("Traceback|unexpected", outcome.output), outcome.output
        assert outcome.code == 0 or (not right and outcome.code in ((1, -9) if struck else (1,))), outcome.output
        self.settled = outcome.code == 0
        self.whole = self.settled or (self.whole and not struck and self._all_is_dated())
        self.clocks_were_right = self.clocks_were_right and abs(ahead) < HOUR
        if self.settled and not arguments and not ahead and ", 0 waiting" in self.said:
            self._note_seen()

    # What the user does, between runs

    @rule(name=st.sampled_from([CONF, PART]), fault=st.sampled_from(["EACCES", "EBUSY"]), minutes=MOMENTS)
    def an_aggregate_is_locked(self, name: str, fault: Fault, minutes: int) -> None:
        self.locked = (fault, name)
        self.a_run(minutes)

    @precondition(lambda self: self.locked)
    @rule()
    def it_is_free_again(self) -> None:
        self.locked = None

    @precondition(lambda self: self.whole)
    @rule(name=st.sampled_from([CONF, PART]), how=st.sampled_from(["move", "delete", "semicolons"]))
    def an_aggregate_goes(self, name: str, how: str) -> None:
        path = self.data / name
        self.edits += 1
        if not is_ours(path):
            return
        self.away[name] += [row for row in rows_of(path) if not by_the_user(row)]
        if how == "semicolons":
            self._rewrite(path, delimiter=";")
        elif how == "move":
            path.rename(self.folder / f"{name}-{self.edits}")
        else:
            path.unlink()

    @precondition(lambda self: self.whole)
    @rule(name=st.sampled_from([CONF, PART]), how=st.sampled_from(["row", "end", "order"]))
    def an_aggregate_is_edited(self, name: str, how: str) -> None:
        path = self.data / name
        self.edits += 1
        if not is_ours(path):
            return
        if how == "order":
            self._rewrite(path, reverse=True)
        else:
            text = path.read_bytes()
            header = text.partition(b"\r\n")[0].decode("utf-8-sig").replace('"', "").split(",")
            row = ",".join(f"user-{self.edits}" if column == "id" else "" for column in header)
            path.write_bytes(text.removesuffix(b"\r\n") + (b"\r\n" + row.encode()) * (how == "row"))

    @precondition(lambda self: self.whole)
    @rule(minutes=MOMENTS)
    def the_ledger_is_lost(self, minutes: int) -> None:
        """Where files of both kinds tell from when on it is to be complete."""
        began = []
        for name, resource in KINDS.items():
            rows = [*rows_of(self.data / name), *(row for file in self._dated(name) for row in file)]
            told = {row["id"]: row["end_time"] for row in rows if not by_the_user(row)}
            if not told:
                return
            began.append(datetime.fromisoformat(min(told.values())))
            for one in self.everyone[resource].values():
                if one.id not in told:  # what waited is as if no run had taken it
                    one.owed, one.first_run = False, None
        self.since, self.earliest = max(self.since, *began), min(self.earliest, *began)
        (self.data / ".collector" / "ledger.sqlite").unlink(missing_ok=True)
        self.a_run(minutes)

    # What must be true

    def teardown(self) -> None:
        try:
            if hasattr(self, "env"):
                self._check()
        finally:
            shutil.rmtree(self.folder)

    def _check(self) -> None:
        """Two good runs, a day apart, and everything that is owed is there."""
        self.locked = None
        self.node.tells_time = True
        self.limit((0, 0))
        for wait in (11 * MINUTE, 26 * HOUR):
            self.node.now += wait
            self.run()
            assert ", 0 waiting" in self.said, self.said
        for one in self._offered():
            one.owed = True
        for name, resource in KINDS.items():
            known = self.everyone[resource]
            found = self.away[name] + [row for row in rows_of(self.data / name) if not by_the_user(row)]
            dated = self._in_order(self._dated(name), found)
            for where, rows in (("aggregate", found), ("dated files", dated)):
                ids = [row["id"] for row in rows]
                assert not twice(ids), f"{name}, {where}: twice: {twice(ids)}"
                lost = {id for id, one in known.items() if one.owed} - set(ids)
                assert not lost, f"{name}, {where}: lost: {sorted(lost)}"
                allowed = {id for id, one in known.items() if one.transferred or self._in_scope(one, self.earliest)}
                strange = set(ids) - allowed - self.may_come
                assert not strange, f"{name}, {where}: not asked for: {sorted(strange)}"
            assert found == dated, f"{name} is not the dated files in order"
        streams = rows_of(self.data / STREAM)
        assert streams == self._in_order(self._dated(STREAM), streams)
        left = {path.name for path in (self.data / ".collector").iterdir()}
        assert left == {"lock", "ledger.sqlite"}

    def _all_is_dated(self) -> bool:
        for name in KINDS:
            dated = {row["id"] for file in self._dated(name) for row in file}
            if not all(row["id"] in dated or by_the_user(row) for row in rows_of(self.data / name)):
                return False
        return True

    def _note_seen(self) -> None:
        """A run ended well: what was shown on time it had to take; what was shown late, a run a day after another."""
        for one in self._offered():
            one.first_run = one.first_run or self.node.now
            one.owed = one.owed or one.on_time or self.node.now - one.first_run > DAY + HOUR

    def _offered(self) -> list[Known]:
        """What the node shows of that which is to be collected: a late participant is found by its conference."""
        known = [one for resource in KINDS.values() for one in self.node.has(resource)]
        return [
            one
            for one in known
            if self._in_scope(one, self.since) and one.end < self.node.now.replace(second=0)
            if one.on_time or self._held(one).shown <= self.node.now
        ]

    def _in_scope(self, one: Known, since: datetime) -> bool:
        """Whether it belongs to what ended since; a participant does with its conference."""
        return self._held(one).end >= since

    def _held(self, one: Known) -> Known:
        """Its conference, or itself."""
        return self.everyone["conference"][id_of(one.record["conference"])] if "conference" in one.record else one

    def _dated(self, name: str) -> list[list[Row]]:
        """The rows of each dated file that has any."""
        files = sorted(self.data.glob(f"????-??-??_??-??-??_{name}"))
        return [rows for path in files if (rows := rows_of(path))]

    def _in_order(self, files: list[list[Row]], found: list[Row]) -> list[Row]:
        """Their rows by the files' names; where a clock was hours off names tell no order, and `found` does."""
        if not self.clocks_were_right:
            places = {row.get("participant_id", row["id"]): place for place, row in enumerate(found)}
            files = sorted(files, key=lambda rows: places.get(rows[0].get("participant_id", rows[0]["id"]), 0))
        return [row for rows in files for row in rows]

    def _rewrite(self, path: Path, *, delimiter: str = ",", reverse: bool = False) -> None:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [row[::-1] if reverse else row for row in csv.reader(lines)]
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")


@pytest.fixture(scope="module")
def deployment() -> Iterator[None]:
    with ExitStack() as stack:
        History.node = stack.enter_context(Platform())
        History.collect = stack.enter_context(ForkedCollector())
        yield


def test_each_record_is_there_once_whatever_happened(deployment: None) -> None:
    quick = settings(
        max_examples=EXAMPLES or 200,
        stateful_step_count=30 if EXAMPLES else 8,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking takes minutes; the steps that are printed do
    )
    run_state_machine_as_test(History, settings=quick)  # type: ignore[no-untyped-call]
