"""Whatever happens, in whatever order: each record once, and the aggregate is the dated files.

Hypothesis makes up histories of a deployment, its collector and its user. The examples are the
same each time; MODEL_EXAMPLES=2000 makes that many, others each time.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .conftest import environment_for
from .forked_collector import MEMORY, Fault, ForkedCollector
from .management_node import ManagementNode, conference, faults, participant
from .management_node.calls import stamp

BEGINNING = datetime(2026, 11, 23)
DAY, OVERLAP = timedelta(days=1), timedelta(hours=1)
CONF, PART = "pexHistoryConf.csv", "pexHistoryPart.csv"
KINDS = {"conference": CONF, "participant": PART}

Row = dict[str, str]


def rows_of(path: Path) -> list[Row]:
    """By name, without empty cells."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header, *rows = csv.reader(lines, strict=True)
    return [{k: v for k, v in zip(header, row, strict=True) if v} for row in rows]


def less_than_counted(document: dict[str, Any]) -> None:
    """The page lacks its last record and says that it is the last page."""
    if document.get("objects"):
        document["objects"].pop()
        document["meta"]["next"] = None


class History(RuleBasedStateMachine):
    node: ManagementNode
    collect: ForkedCollector

    def __init__(self) -> None:
        super().__init__()
        self.node.clear()
        self.folder = Path(tempfile.mkdtemp(prefix="model-", dir=MEMORY))
        self.data = self.folder / "data"
        self.data.mkdir()
        self.now = BEGINNING
        self.conferences: dict[str, dict[str, Any]] = {}
        self.participants: dict[str, dict[str, Any]] = {}
        self.forgotten: set[str] = set()
        self.owed: set[str] = set()  # what the aggregates must hold in the end
        self.waiting: set[str] = set()  # what was offered to a run that had a limit
        self.reach = BEGINNING - DAY + OVERLAP  # how far runs that ended well have come
        self.away: dict[str, list[Row]] = {CONF: [], PART: []}  # rows that the user took away
        self.settled = True  # the last run ended well
        self.edits = 0

    @initialize(
        conf_limit=st.sampled_from([0, 0, 1, 3]),
        part_limit=st.sampled_from([0, 0, 2, 5]),
        appear=st.sampled_from(["left", "ended"]),
        after=st.sampled_from([0, 20, 600]),
        ordering=st.booleans(),
        page=st.sampled_from([2, 3, 1000]),
        streams=st.booleans(),
    )
    def deploy(
        self, conf_limit: int, part_limit: int, appear: str, after: int, ordering: bool, page: int, streams: bool
    ) -> None:
        self.limited = bool(conf_limit or part_limit)
        self.env = environment_for(self.node, self.data) | {
            "DEFAULT_CONF_LIMIT": str(conf_limit),
            "DEFAULT_PART_LIMIT": str(part_limit),
            "DATA_MEDIA_STREAMS": str(streams),
        }
        self.node.participants_appear = appear  # type: ignore[assignment]
        self.node.appear_after = after
        self.node.ordering = ("end_time",) if ordering else ()
        self.node.max_limit = page
        self.run()

    # What happens on the platform

    @rule(minutes=st.one_of(st.integers(1, 90), st.integers(1, 3 * 24 * 60)))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes, seconds=7)

    @rule(
        ends=st.lists(st.one_of(st.integers(1, 60), st.integers(1, 3000)), min_size=1, max_size=4),
        people=st.lists(st.tuples(st.one_of(st.integers(0, 30), st.integers(0, 4000)), st.integers(0, 5)), max_size=4),
    )
    def calls_are_held(self, ends: list[int], people: list[tuple[int, int]]) -> None:
        """They end in so many minutes; people leave so many before, one in six is shown late."""
        for minutes in ends:
            end = self.now + timedelta(minutes=minutes, seconds=minutes % 3, microseconds=minutes % 2)
            number = len(self.conferences)
            held = conference(id=f"c{number}", end_time=stamp(end), name='=a,"b"\n')
            present = []
            for early, late in people:
                left = max(end - timedelta(minutes=early), self.now + timedelta(seconds=1))
                one = participant(held, id=f"p{len(self.participants)}", end_time=stamp(left))
                one["media_streams"] = [{"id": 1, "participant": one["resource_uri"]}]
                self.participants[one["id"]] = one
                present.append(one)
                if not late:
                    self.node.hidden.add(one["id"])
            self.conferences[held["id"]] = held
            self.node.add([held], present)

    @rule()
    def late_ones_are_shown(self) -> None:
        self.node.hidden = set()

    @rule(number=st.integers(1, 4))
    def the_node_forgets(self, number: int) -> None:
        self.node.now = self.now
        gone = set(self.node.forget(number))
        self.forgotten |= gone | {key for key, one in self.participants.items() if self._held(one) in gone}

    @rule()
    def the_platform_is_upgraded(self) -> None:
        self.node.extra_fields = {"conference": {"zone": "DMZ"}, "participant": {"band": "wide"}}

    # What the collector does

    @rule()
    def a_run(self) -> None:
        self.run()

    def run(self, *arguments: str, fault: Fault | None = None, at: int = 0) -> int:
        self.node.now = self.now
        codes = (0, 1, -9) if fault or self.node.faults.waiting else (0,)
        outcome = self.collect(list(arguments), self.env, self.now, fault, at)
        assert "Traceback" not in outcome.output
        assert outcome.code in codes, outcome.output
        self.node.faults.clear()
        self.settled = outcome.code == 0
        self.said = outcome.output
        if outcome.code == 0 and not arguments:
            self._note_offered()
        return outcome.code

    @rule(fault=st.sampled_from(["kill", "kill", "ENOSPC", "EACCES"]), at=st.integers(1, 100))
    def a_run_is_struck(self, fault: Fault, at: int) -> None:
        self.run(fault=fault, at=at)

    @rule(
        fault=st.sampled_from([faults.not_the_envelope(), faults.status(401), faults.edited(less_than_counted)]),
        nth=st.integers(1, 8),
    )
    def the_node_fails_a_run(self, fault: faults.Fault, nth: int) -> None:
        self.node.faults.add(fault, nth=nth)
        self.run()

    @rule(number=st.integers(1, 3), nth=st.integers(1, 6))
    def the_node_forgets_while_it_is_read(self, number: int, nth: int) -> None:
        self.node.faults.add(faults.before(lambda request: self.the_node_forgets(number)), nth=nth)
        self.run()

    @precondition(lambda self: not any(self.away.values()) and self.settled)
    @rule(start=st.integers(1, 5000), length=st.integers(1, 3000))
    def a_range_by_hand(self, start: int, length: int) -> None:
        first = self.now - timedelta(minutes=start)
        last = min(first + timedelta(minutes=length), self.now)
        if self.run("--from", stamp(first) or "", "--to", stamp(last) or "") == 0 and not self.limited:
            self.owed |= {
                key
                for known in (self.conferences, self.participants)
                for key, record in known.items()
                if self._shown(record) and first <= datetime.fromisoformat(record["end_time"]) < last
            }

    # What the user does, between runs

    @precondition(lambda self: self.settled)
    @rule(name=st.sampled_from([CONF, PART]), how=st.sampled_from(["move", "delete", "semicolons"]))
    def an_aggregate_goes(self, name: str, how: str) -> None:
        path = self.data / name
        self.edits += 1
        if not self._is_ours(path):
            return
        self.away[name] += self._ours(rows_of(path))
        if how == "semicolons":
            self._rewrite(path, delimiter=";")
        elif how == "move":
            path.rename(self.folder / f"{name}-{self.edits}")
        else:
            path.unlink()

    @precondition(lambda self: self.settled)
    @rule(name=st.sampled_from([CONF, PART]), how=st.sampled_from(["row", "end", "order"]))
    def an_aggregate_is_edited(self, name: str, how: str) -> None:
        path = self.data / name
        self.edits += 1
        if not self._is_ours(path):
            return
        if how == "order":
            self._rewrite(path, reverse=True)
        else:
            text = path.read_bytes()
            header = text.partition(b"\r\n")[0].decode("utf-8-sig").replace('"', "").split(",")
            row = ",".join(f"user-{self.edits}" if column == "id" else "" for column in header)
            path.write_bytes(text.removesuffix(b"\r\n") + (b"\r\n" + row.encode()) * (how == "row"))

    @precondition(lambda self: self.settled and not any(self.away.values()) and not self.node.hidden)
    @rule()
    def the_ledger_is_lost(self) -> None:
        if all(self._is_ours(self.data / n) and self._ours(rows_of(self.data / n)) for n in (CONF, PART)):
            (self.data / ".collector" / "ledger.sqlite").unlink()
            self.settled = False  # until a run rebuilt it, the aggregates are all there is

    # What must be true

    def teardown(self) -> None:
        try:
            if hasattr(self, "env"):
                self._check()
        finally:
            shutil.rmtree(self.folder)

    def _check(self) -> None:
        self.node.faults.clear()
        self.now += timedelta(minutes=11)
        self.run()
        for _ in range(2000):
            if not self.limited or ", 0 waiting" in self.said:
                break
            self.run()
        self.limited = False
        self._note_offered()
        self.owed |= {key for key in self.waiting if key not in self.forgotten | self.node.hidden}
        for name in (CONF, PART):
            found = self.away[name] + self._ours(rows_of(self.data / name))
            ids = [row["id"] for row in found]
            assert len(ids) == len(set(ids)), f"{name}: twice: {sorted(i for i in ids if ids.count(i) > 1)}"
            known = self.conferences if name == CONF else self.participants
            assert set(ids) <= set(known), f"{name}: made up"
            missing = (self.owed & set(known)) - set(ids)
            assert not missing, f"{name}: lost {sorted(missing)}"
            assert found == self._ours(self._dated(name)), f"{name} is not the dated files in order"
        streams = self._dated("pexHistoryStream.csv")
        assert rows_of(self.data / "pexHistoryStream.csv") == streams
        left = {path.name for path in (self.data / ".collector").iterdir()}
        assert left == {"lock", "ledger.sqlite"}

    def _note_offered(self) -> None:
        """A run ended well: what the node showed it is owed, or waits where there is a limit."""
        end, since = self.now.replace(second=0), self.reach - OVERLAP
        offered: set[str] = set()
        for key, held in self.conferences.items():
            if self._shown(held) and since <= datetime.fromisoformat(held["end_time"]) < end:
                offered.add(key)
        for key, one in self.participants.items():
            of = self._held(one)
            in_window = since <= datetime.fromisoformat(one["end_time"]) < end
            if self._shown(one) and (in_window or of in self.owed | self.waiting | offered):
                offered.add(key)
        if self.limited:
            self.waiting |= offered
        else:
            self.owed |= offered
        self.reach = max(self.reach, end)

    def _shown(self, record: dict[str, Any]) -> bool:
        if record["id"] in self.forgotten | self.node.hidden:
            return False
        until = self.now - timedelta(seconds=self.node.appear_after)
        of = self.conferences[self._held(record)] if "conference" in record else record
        shown_by = of if self.node.participants_appear == "ended" else record
        return datetime.fromisoformat(shown_by["end_time"]) <= until

    def _held(self, one: dict[str, Any]) -> str:
        return str(one["conference"]).rstrip("/").rpartition("/")[2]

    def _ours(self, rows: list[Row]) -> list[Row]:
        return [row for row in rows if not row["id"].startswith("user-")]

    def _is_ours(self, path: Path) -> bool:
        return (
            path.exists()
            and b"," in path.read_bytes().partition(b"\n")[0]
            and b";" not in (path.read_bytes().partition(b"\n")[0])
        )

    def _dated(self, name: str) -> list[Row]:
        files = sorted(self.data.glob(f"????-??-??_??-??-??_{name}"))
        return [row for path in files for row in rows_of(path)]

    def _rewrite(self, path: Path, *, delimiter: str = ",", reverse: bool = False) -> None:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [row[::-1] if reverse else row for row in csv.reader(lines)]
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")


@pytest.fixture(scope="module")
def deployment() -> Iterator[None]:
    with ExitStack() as stack:
        History.node = stack.enter_context(ManagementNode())
        History.collect = stack.enter_context(ForkedCollector())
        yield


EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))


def test_each_record_is_there_once_whatever_happened(deployment: None) -> None:
    quick = settings(
        max_examples=EXAMPLES or 15,
        stateful_step_count=30 if EXAMPLES else 20,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # shrinking takes minutes; the steps that are printed do
    )
    run_state_machine_as_test(History, settings=quick)  # type: ignore[no-untyped-call]
