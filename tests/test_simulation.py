"""Weeks of misfortunes: whatever happens in whatever order, each record is there once, and status says what is so.

Hypothesis makes up what happens; tests/simulation.py judges each turn. The examples are the same each time;
SIMULATION_EXAMPLES=2000 makes that many longer ones, others each time (make simulate).
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from .forked import MEMORY, Fault, ForkedCollector
from .harness import CONF, PART, environment_for
from .management_node import faults
from .management_node.calls import stamp
from .management_node.server import Request
from .scripted_node import DAY, HOUR, MINUTE, NEVER, ScriptedNode
from .simulation import World, is_ours, rows_of

EXAMPLES = int(os.environ.get("SIMULATION_EXAMPLES", "0"))
SHRINK = "SIMULATION_SHRINK" in os.environ
"""Whether what failed is made as short as it goes, which takes minutes."""

MOMENTS = st.one_of(st.integers(1, 90), st.integers(1, 3 * 24 * 60))
"""Minutes until the next thing happens."""
LATE = st.sampled_from([0, 0, 0, 0, 10, 50, 90, 6 * 60, 30 * 60, 80 * 60])
"""Minutes after which a record is shown."""
PEOPLE = st.lists(
    st.tuples(st.integers(0, 4000), LATE, st.sampled_from(["", "", "", "", "never", "transferred", "no end"])),
    max_size=3,
)
"""Of each: minutes between leaving and the conference's end, lateness, and what is odd about the record."""
LIMITS = st.sampled_from([(0, 0), (0, 0), (1, 0), (1, 1), (3, 5), (0, 2), (4, 0)])
NODES = st.fixed_dictionaries(
    {
        "order": st.sampled_from(["obeyed", "obeyed", "ignored", "refused"]),
        "page": st.sampled_from([2, 3, 7, 1000]),
        "by_conference": st.sampled_from(["id", "id", "name", "ignored", "empty", 400, 404]),
        "gone": st.sampled_from([200, 400, 404]),
        "tells_time": st.sampled_from([True, True, True, False]),
        "nested": st.booleans(),
        "nulls_first": st.booleans(),
        "keep": st.sampled_from([None, None, 5, 15]),
        "max_age": st.sampled_from([None, None, 2 * DAY, 9 * DAY]),
        "newer": st.sampled_from([{}, {}, {"zone": "DMZ"}]),
    }
)
CLOCKS = st.sampled_from([20, 180, 3 * 24 * 60, 40 * 24 * 60, -20, -180, -7000 * 24 * 60])
"""Minutes that this machine's is wrong by."""


class Weeks(RuleBasedStateMachine):
    node: ScriptedNode
    forked: ForkedCollector

    def __init__(self) -> None:
        super().__init__()
        self.node.renew()
        self.folder = Path(tempfile.mkdtemp(prefix="weeks-", dir=MEMORY))
        self.data = self.folder / "data"
        env = environment_for(self.node, self.data) | {"DATA_CRON_TIME": "5 0 * * *"}
        self.world = World(self.data, env, self.node, self.forked)
        self.appear, self.numbers = "left", iter(range(1, 10**6))
        self.locked: tuple[Fault, str] | None = None
        self.spoilt = False

    @initialize(
        limits=LIMITS,
        appear=st.sampled_from(["left", "ended"]),
        node=NODES,
        streams=st.booleans(),
        events=st.booleans(),
        since=st.sampled_from([None, None, 12, 100]),
        ahead=st.sampled_from([0, 0, 0, 7, -9, 30 * 24, 3650 * 24]),
        both=st.booleans(),
        before=st.lists(st.integers(1, 9000), max_size=5),
    )
    def deploy(
        self, limits: Any, appear: str, node: Any, streams: bool, events: bool, since: Any, **first: Any
    ) -> None:
        """The first run, which may have a wrong clock; `both`: the node's is wrong by as much."""
        self.appear = appear
        self.limit(limits)
        self.the_node_becomes_another(node)
        self.world.env |= {"DATA_MEDIA_STREAMS": str(streams).lower(), "DATA_EVENTS": str(events).lower()}
        self.world.set_since(self.node.now - since * HOUR if since else None)
        for minutes in first["before"]:
            self.hold(self.node.now - minutes * MINUTE, 0, [(30, 0, ""), (600, 0, "")])
        ahead = first["ahead"] * HOUR
        if first["both"]:
            self.node.ahead = ahead
            self.run(ahead=ahead)
            self.node.ahead = timedelta(0)
        else:
            self.run(ahead=ahead)

    # What happens on the platform

    @rule(
        minutes=st.integers(1, 600), more=st.lists(st.tuples(st.integers(0, 300), LATE, PEOPLE), min_size=1, max_size=4)
    )
    def calls_end(self, minutes: int, more: list[Any]) -> None:
        """So long ago, as it is told; none before the last run, unless it is shown late."""
        self.pass_time(minutes)
        for ago, late, people in more:
            self.hold(self.node.now - min(ago, minutes) * MINUTE, late, people)

    @rule(people=PEOPLE)
    def a_call_ends_without_a_time(self, people: list[Any]) -> None:
        held = self.world.node.conference(f"c{next(self.numbers)}", None)
        self.join(held, people)
        self.world.tell(f"{held.id} has no end: {[f'{one.id} (left {one.end})' for one in self.listed_by(held.id)]}")

    @rule()
    def the_times_come(self) -> None:
        """What had no end gets one."""
        for name in ("conference", "participant"):
            for one in self.node.has(name):
                if not one.end:
                    one.record["end_time"] = stamp(self.node.now - MINUTE)

    @rule(data=st.data(), minutes=st.integers(-300, 300))
    def an_end_is_corrected(self, data: st.DataObject, minutes: int) -> None:
        ended = [one for name in ("conference", "participant") for one in self.node.has(name) if one.end]
        if ended:
            one = data.draw(st.sampled_from(ended))
            assert one.end
            self.world.correct(one, min(one.end + minutes * MINUTE, max(self.node.now - MINUTE, one.end)))

    @rule(lowered=st.booleans())
    def an_alarm_is_raised(self, lowered: bool) -> None:
        now = self.node.now + self.node.ahead
        stands = [one for one in self.node.has("alarm") if not one.end]
        for one in stands if lowered else ():
            one.record["time_lowered"] = stamp(now)
        self.node.alarm(next(self.numbers), None)
        self.node.event(next(self.numbers), now).shown = self.node.now

    @rule(number=st.integers(1, 6))
    def the_node_forgets(self, number: int) -> None:
        self.node.forget(number)

    @rule(node=NODES)
    def the_node_becomes_another(self, node: Any) -> None:
        vars(self.node).update(node)

    @rule(twice=st.booleans())
    def records_are_listed_twice(self, twice: bool) -> None:
        some = [one.id for name in ("conference", "participant") for one in self.node.has(name)]
        self.node.twice = set(some[::3]) if twice else set()

    @precondition(lambda self: not self.node.ahead)
    @rule(hours=st.sampled_from([1, 72, 30 * 24, -5]))
    def the_nodes_clock_goes_wrong(self, hours: int) -> None:
        self.node.ahead = hours * HOUR

    @precondition(lambda self: self.node.ahead)
    @rule()
    def the_nodes_clock_is_set_right(self) -> None:
        self.node.ahead = timedelta(0)

    def pass_time(self, minutes: int) -> None:
        self.node.wait(minutes * MINUTE)

    def hold(self, end: Any, late: int, people: list[Any]) -> None:
        """A call that ended then, shown `late` minutes after; by the node's clock."""
        shown = max(end + late * MINUTE, self.node.now) if late else self.node.now
        start = stamp(end - 70 * HOUR)
        held = self.node.conference(f"c{next(self.numbers)}", end + self.node.ahead, shown, start_time=start)
        self.join(held, people)
        told = [f"{one.id} (left {one.end}, shown {one.shown})" for one in self.listed_by(held.id)]
        self.world.tell(f"{held.id} ended {held.end}, shown {held.shown}: {', '.join(told)}")

    def listed_by(self, id: str) -> list[Any]:
        return [one for one in self.node.known["participant"].values() if id in one.listed_by]

    def join(self, held: Any, people: list[Any]) -> None:
        for early, late, odd in people:
            end = (held.end or self.node.now) - early * MINUTE
            shown = max(held.shown if self.appear == "ended" else end, self.node.now) + late * MINUTE
            shown = NEVER if odd == "never" else shown
            one = self.node.participant(held, f"p{next(self.numbers)}", None if odd == "no end" else end, shown)
            one.record["media_streams"] = [{"id": 1, "participant": one.record["resource_uri"]}]
            if odd == "transferred":
                others = [other for other in self.node.has("conference") if other is not held]
                for other in others[-1:]:
                    self.node.list_too(other, one)

    # What the collector does

    @rule(minutes=MOMENTS)
    def a_run(self, minutes: int) -> None:
        self.pass_time(minutes)
        self.run()

    @rule(every=st.sampled_from([1, 6, 24]), times=st.integers(2, 4))
    def runs_of_a_schedule(self, every: int, times: int) -> None:
        for _ in range(times):
            self.pass_time(every * 60)
            self.run()

    @rule(days=st.integers(3, 40))
    def an_outage(self, days: int) -> None:
        for day in range(min(days, 6)):
            self.pass_time(days * 24 * 60 // 6)
            self.hold(self.node.now - HOUR, 0, [(day * 30, 0, "")])

    @rule(minutes=MOMENTS, ahead=CLOCKS)
    def a_run_with_a_wrong_clock(self, minutes: int, ahead: int) -> None:
        self.pass_time(minutes)
        self.run(ahead=ahead * MINUTE)

    @rule(minutes=MOMENTS, start=st.integers(1, 5000), length=st.integers(1, 3000))
    def a_window_by_hand(self, minutes: int, start: int, length: int) -> None:
        self.pass_time(minutes)
        first = self.node.now - start * MINUTE
        self.run("--from", stamp(first) or "", "--to", stamp(first + length * MINUTE) or "")

    @rule(limits=LIMITS)
    def limit(self, limits: tuple[int, int]) -> None:
        self.world.env |= {"DEFAULT_CONF_LIMIT": str(limits[0]), "DEFAULT_PART_LIMIT": str(limits[1])}

    @rule(hours=st.sampled_from([None, 10, 60, 200]), keep=st.sampled_from(["0", "60"]))
    def other_settings(self, hours: int | None, keep: str) -> None:
        self.world.set_since(self.node.now - hours * HOUR if hours else None)
        self.world.env["DATA_KEEP_DAYS"] = keep

    @rule(minutes=MOMENTS, fault=st.sampled_from(["kill", "kill", "ENOSPC", "EACCES"]), at=st.integers(1, 120))
    def a_run_is_struck(self, minutes: int, fault: Fault, at: int) -> None:
        self.pass_time(minutes)
        self.run(fault=(fault, at))

    @rule(
        minutes=MOMENTS,
        fault=st.sampled_from([faults.not_the_envelope(), faults.status(401), faults.short()]),
        nth=st.integers(1, 12),
    )
    def the_node_fails_a_run(self, minutes: int, fault: faults.Fault, nth: int) -> None:
        self.pass_time(minutes)
        self.spoil(fault, nth)

    @rule(minutes=MOMENTS, forgotten=st.integers(0, 3), new=st.integers(0, 2), nth=st.integers(1, 12))
    def the_node_moves_while_it_is_read(self, minutes: int, forgotten: int, new: int, nth: int) -> None:
        self.pass_time(minutes)

        def move(request: Request) -> None:
            self.node.forget(forgotten)
            for _ in range(new):  # none older than what is forgotten: that the node would not keep
                self.hold(max(self.node.now - 2 * HOUR, self.node.horizon), 0, [(5, 0, "")])
            self.world.amid |= {id(one) for one in self.world.records if one.shown == self.node.now}

        self.spoil(faults.before(move), nth)

    def spoil(self, fault: faults.Fault, nth: int) -> None:
        """A run, one request of which is answered so: of a list, for a record has nothing to count."""
        self.node.faults.add(fault, nth=nth, when=lambda request: "limit" in request.query)
        self.spoilt = True
        self.run()

    def run(self, *arguments: str, ahead: timedelta = timedelta(0), fault: Any = None) -> None:
        self.world.turn(*arguments, ahead=ahead, fault=fault or self.locked, spoilt=self.spoilt)
        self.node.faults.clear()
        self.spoilt = False

    # What the user does

    @rule(name=st.sampled_from([CONF, PART]), fault=st.sampled_from(["EACCES", "EBUSY"]), minutes=MOMENTS)
    def an_aggregate_is_locked(self, name: str, fault: Fault, minutes: int) -> None:
        self.locked = (fault, name)
        self.a_run(minutes)

    @precondition(lambda self: self.locked)
    @rule()
    def it_is_free_again(self) -> None:
        self.locked = None

    @precondition(lambda self: self.world.settled)
    @rule(
        name=st.sampled_from([CONF, PART]), how=st.sampled_from(["move", "delete", "semicolons", "row", "end", "order"])
    )
    def an_aggregate_is_changed(self, name: str, how: str) -> None:
        path = self.data / name
        if not is_ours(path) or name in self.world.torn:
            return
        text = path.read_bytes()
        header = next(csv.reader([text.partition(b"\r\n")[0].decode("utf-8-sig")]))
        if how == "move":
            path.rename(self.folder / f"{next(self.numbers)}-{name}")
        elif how == "delete":
            path.unlink()
        elif how == "row":
            row = ",".join(f"user-{next(self.numbers)}" if column == "id" else "" for column in header)
            path.write_bytes(text.removesuffix(b"\r\n") + b"\r\n" + row.encode() + b"\r\n")
        elif how == "end":  # a user's own last row would count as unfinished then
            path.write_bytes(text if b"user-" in text.split(b"\r\n")[-2] else text.removesuffix(b"\r\n"))
        else:
            self.rewrite(path, ";" if how == "semicolons" else ",", -1 if how == "order" else 1)
        self.world.tell(f"{name}: {how}")
        self.world.files_changed()

    @precondition(lambda self: self.world.settled)
    @rule(
        name=st.sampled_from([CONF, PART]),
        back=st.integers(0, 3),
        cut=st.integers(1, 200),
        minutes=MOMENTS,
        lost=st.booleans(),
    )
    def a_copy_made_in_mid_write_is_put_there(self, name: str, back: int, cut: int, minutes: int, lost: bool) -> None:
        path = self.data / name
        lines = path.read_bytes().split(b"\r\n") if is_ours(path) and name not in self.world.torn else []
        whole = lines[: max(2, len(lines) - 1 - back)]
        if len(whole) < 3 or b'"' in b"".join(whole).replace(b'""', b"").replace(b'"[', b"").replace(b']"', b""):
            return
        self.world.torn[name] = rows_of(path)[len(whole) - 2]
        path.write_bytes(b"\r\n".join([*whole[:-1], whole[-1][:cut]]))
        self.world.files_changed()
        if lost:
            self.lose_ledger()
        self.world.tell(f"{name} is torn behind {len(whole) - 2} rows")
        self.a_run(minutes)

    @precondition(lambda self: self.world.settled)
    @rule(minutes=MOMENTS, ahead=st.sampled_from([0, 0, -7000 * 24]))
    def the_ledger_is_lost(self, minutes: int, ahead: int) -> None:
        self.lose_ledger()
        self.pass_time(minutes)
        self.run(ahead=ahead * HOUR)

    def lose_ledger(self) -> None:
        shutil.rmtree(self.data / ".collector", ignore_errors=True)
        self.world.tell("the ledger is lost")
        self.world.ledger_changed()

    @precondition(lambda self: self.world.settled)
    @rule()
    def the_ledger_is_backed_up(self) -> None:
        shutil.rmtree(self.folder / "backup", ignore_errors=True)
        if (self.data / ".collector").exists():
            shutil.copytree(self.data / ".collector", self.folder / "backup")

    @precondition(lambda self: self.world.settled and (self.folder / "backup").exists())
    @rule(minutes=MOMENTS)
    def an_older_ledger_is_put_there(self, minutes: int) -> None:
        shutil.rmtree(self.data / ".collector")
        shutil.copytree(self.folder / "backup", self.data / ".collector")
        self.world.tell("an older ledger is put there")
        self.world.ledger_changed()
        self.a_run(minutes)

    @precondition(lambda self: self.world.settled)
    @rule()
    def everything_is_backed_up(self) -> None:
        self.world.back_up(self.folder / "everything")

    @precondition(lambda self: self.world.settled and (self.folder / "everything").exists())
    @rule(minutes=MOMENTS)
    def everything_is_as_it_was(self, minutes: int) -> None:
        self.world.restore(self.folder / "everything")
        shutil.rmtree(self.folder / "backup", ignore_errors=True)  # perhaps of days that never were
        self.world.tell("everything is as it was")
        self.a_run(minutes)

    def rewrite(self, path: Path, delimiter: str, step: int) -> None:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = [row[::step] for row in csv.reader(lines)]
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")

    # What must be true: World says it of each turn, and at the end

    def teardown(self) -> None:
        try:
            if self.world.turns and not self.world.broken:
                self.locked = None
                self.world.settle()
                left = {path.name for path in (self.data / ".collector").iterdir()}
                assert not any(".csv" in name or "journal" in name for name in left), left
        finally:
            shutil.rmtree(self.folder)


@pytest.fixture(autouse=True)
def deployment(scripted: ScriptedNode, forked: ForkedCollector) -> None:
    Weeks.node, Weeks.forked = scripted, forked


def live(examples: int, steps: int) -> None:
    some = settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if SHRINK else [])],
    )
    run_state_machine_as_test(Weeks, settings=some)  # type: ignore[no-untyped-call]


def test_each_record_is_there_once_and_status_is_true_whatever_happened() -> None:
    live(20, 10)


@pytest.mark.slow
def test_so_it_is_after_more_weeks_of_it() -> None:
    live(20, 25)
