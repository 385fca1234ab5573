"""A year of a deployment, day by day, with all that goes wrong in it, compared id by id: make simulate-year.

The node is a dictionary behind the test double's server, so that a run costs little more than itself. What it
forgot before any run could see it is excused, and nothing else. A seed always makes the same year.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self

from .conftest import environment_for
from .forked_collector import MEMORY, ForkedCollector, Outcome
from .management_node import certificates, conference, participant
from .management_node.calls import stamp
from .management_node.server import Reply, Request, Server

BEGINNING = datetime(2026, 1, 5)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
RESOURCES = {"conference": "Conf", "participant": "Part"}
FIELDS = {
    "conference": ("end_time", "id", "name", "participants", "start_time"),
    "participant": ("conference", "display_name", "end_time", "id", "start_time"),
}
ON_TIME = 30 * MINUTE
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "gte": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "lte": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "exact": lambda a, b: a == b,
}


@dataclass
class Known:
    """A record with its history: shown from then on, until the node forgot it."""

    resource: str
    record: dict[str, Any]
    shown: datetime
    on_time: bool
    forgotten: datetime | None = None
    owed: bool = False
    transferred: bool = False  # listed by another conference too
    first_run: datetime | None = None  # the first that could see it and ended well

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def end(self) -> datetime:
        return datetime.fromisoformat(self.record["end_time"])


@dataclass
class Node:
    """The History API of that year. Times are naive and UTC."""

    now: datetime = BEGINNING
    order: str = "obeyed"
    gone: int = 200
    page: int = 1000
    tells_time: bool = True
    spoil: Callable[[Request], Reply | None] = lambda request: None
    known: dict[str, dict[str, Known]] = field(default_factory=lambda: {name: {} for name in RESOURCES})
    secret: str = "sesame, open"

    def __enter__(self) -> Self:
        certificate = certificates.issued()
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self.ca_file.write_bytes(certificate.ca)
        self.server = Server(("127.0.0.1", 0), certificate.context(), self.answer, lambda: None)
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop()
        self._folder.cleanup()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def has(self, resource: str) -> list[Known]:
        return [one for one in self.known[resource].values() if one.shown <= self.now]

    def forget(self, oldest: list[Known]) -> None:
        """These conferences and those who were in them."""
        for held in oldest:
            held.forgotten = self.now
            del self.known["conference"][held.id]
        gone = {held.record["resource_uri"] for held in oldest}
        for one in [one for one in self.known["participant"].values() if one.record["conference"] in gone]:
            one.forgotten = self.now
            del self.known["participant"][one.id]

    def answer(self, request: Request) -> Reply:
        reply = self.spoil(request) or self._answer(request)
        if self.tells_time:
            reply.headers["Date"] = format_datetime(self.now.replace(tzinfo=UTC), usegmt=True)
        return reply

    def _answer(self, request: Request) -> Reply:
        expected = "Basic " + base64.b64encode(b"admin:" + self.secret.encode()).decode()
        if request.headers["Authorization"] != expected:
            return Reply(401)
        parts = request.path.strip("/").split("/")
        resource, rest = parts[4], parts[5:]
        if rest:
            one = self.known[resource].get(rest[0])
            return self._json(self._shown(one)) if one and one.shown <= self.now else Reply(404)
        query = request.query
        limit, offset = int(query.pop("limit", 20)), int(query.pop("offset", 0))
        order = query.pop("order_by", "")
        if order and self.order == "refused":
            return Reply(400)
        if "conference" in query:
            if self.gone != 200 and query["conference"] not in {one.id for one in self.has("conference")}:
                return Reply(self.gone)
            query["conference"] = f"/api/admin/history/v1/conference/{query['conference']}/"
        found = [one for one in self.has(resource) if all(self._fits(one, *pair) for pair in query.items())]
        if order and self.order == "obeyed":
            found.sort(key=lambda one: (one.end, -hash(one.id)), reverse=order.startswith("-"))
        else:
            found.sort(key=lambda one: one.id[::-1])
        limit = min(limit or self.page, self.page)
        page = found[offset : offset + limit]
        more = offset + limit < len(found)
        target = re.sub(r"[?&](limit|offset)=\d+", "", request.target)
        following = f"{target}{'&' if '?' in target else '?'}limit={limit}&offset={offset + limit}"
        meta: dict[str, Any] = {"limit": limit, "offset": offset, "total_count": len(found), "previous": None}
        meta["next"] = following if more else None
        return self._json({"meta": meta, "objects": [self._shown(one) for one in page]})

    def _fits(self, one: Known, name: str, value: str) -> bool:
        name, _, how = name.partition("__")
        if how == "in":
            return str(one.record[name]) in value.split(",")
        if name.endswith("_time"):
            return COMPARE[how or "exact"](datetime.fromisoformat(one.record[name]), datetime.fromisoformat(value))
        return COMPARE[how or "exact"](str(one.record[name]), value)

    def _shown(self, one: Known) -> dict[str, Any]:
        return {name: one.record[name] for name in FIELDS[one.resource]}

    def _json(self, document: object) -> Reply:
        return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


class Year:
    """`Year(seed, folder, node, forked).live(days)`; raises AssertionError where a record is lost or doubled."""

    def __init__(self, seed: int, folder: Path, node: Node, forked: ForkedCollector) -> None:
        self.random, self.node, self.collect = random.Random(seed), node, forked
        self.data = folder / "data"
        self.data.mkdir()
        self.folder = folder
        node.now, node.known = BEGINNING, {name: {} for name in RESOURCES}
        node.order, node.gone, node.page, node.tells_time = "obeyed", 200, 1000, True
        self.env = environment_for(node, self.data)  # type: ignore[arg-type]
        self.every = DAY
        self.keep = 150
        self.appear = "left"
        self.locked: tuple[str, str] | None = None
        self.unlocked = self.pause = BEGINNING
        self.everyone: dict[str, dict[str, Known]] = {name: {} for name in RESOURCES}
        self.away: dict[str, list[str]] = {name: [] for name in RESOURCES}
        self.dated: dict[str, dict[str, list[str]]] = {name: {} for name in RESOURCES}  # by file, kept after removal
        self.undated: set[str] = set()  # published by half as the ledger was lost
        self.settled = True
        self.story: list[str] = []
        self.runs = 0

    def tell(self, text: str) -> None:
        self.story.append(f"{self.node.now:%m-%d %H:%M} {text}")

    def live(self, days: int) -> None:
        try:
            self._days(days)
            self._end()
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.story[-60:])) from None

    def _days(self, days: int) -> None:
        self.calls(BEGINNING - 5 * DAY, 5)
        self.run()
        for day in range(days):
            midnight = BEGINNING + day * DAY
            self.calls(midnight, 1)
            if day % 20 == 10:
                self.mood()
            if day % 60 == 59:
                self.check(final=False)
            if self.random.random() < 0.03 and day + 7 < days:
                self.pause = midnight + self.random.choice([1, 2, 6]) * DAY
            if day == 100:
                self.pause = midnight + 40 * DAY
            moment = midnight
            while moment < midnight + DAY:
                self.node.now = moment + self.random.random() * 50 * MINUTE
                if moment >= self.pause:
                    self.something()
                moment += self.every
            surplus = sorted(self.node.has("conference"), key=lambda one: one.end)[: -self.keep]
            self.node.forget(surplus)

    # The platform

    def calls(self, midnight: datetime, days: int) -> None:
        rng = self.random
        for _ in range(days * rng.randint(1, 6)):
            end = midnight + rng.random() * days * DAY
            number = len(self.everyone["conference"])
            held = conference(id=f"c{number}", name="", start_time=stamp(end - 70 * HOUR), end_time=stamp(end))
            shown = end + self.lateness()
            self.know("conference", held, shown, shown - end <= ON_TIME)
            for _ in range(rng.choice([0, 1, 2, 2, 3])):
                self.person(held, end, shown)

    def person(self, held: dict[str, Any], end: datetime, held_shown: datetime) -> None:
        rng = self.random
        left = end - rng.choice([MINUTE, HOUR, 60 * HOUR]) * rng.random()
        one = participant(held, id=f"p{len(self.everyone['participant'])}", end_time=stamp(left))
        shown = (left if self.appear == "left" else end) + self.lateness()
        in_time = shown - left <= ON_TIME or (shown <= held_shown and held_shown - end <= ON_TIME)
        if rng.random() < 0.03:
            shown = datetime.max  # never
        known = self.know("participant", one, shown, in_time)
        if rng.random() < 0.04:  # came from another conference, which lists the same person
            other = rng.choice(list(self.node.known["conference"].values()))
            if other.shown > self.node.now:
                other.record["participants"].append(one["resource_uri"])
                known.transferred = True

    def lateness(self) -> timedelta:
        chance = self.random.random()
        return self.random.random() * (MINUTE if chance < 0.85 else 6 * HOUR if chance < 0.95 else 3 * DAY)

    def know(self, resource: str, record: dict[str, Any], shown: datetime, on_time: bool) -> Known:
        known = Known(resource, record, shown, on_time)
        self.everyone[resource][known.id] = self.node.known[resource][known.id] = known
        return known

    def mood(self) -> None:
        """The node, the settings and the schedule are others from now on."""
        rng, node = self.random, self.node
        node.order = rng.choice(["obeyed", "obeyed", "ignored", "refused"])
        node.gone = rng.choice([200, 400, 404])
        node.page = rng.choice([7, 20, 1000, 1000])
        node.tells_time = rng.random() < 0.8
        self.appear = rng.choice(["left", "ended"])
        self.keep = rng.choice([40, 150, 150])
        self.every = rng.choice([DAY, DAY, 12 * HOUR, 6 * HOUR])
        limits = rng.choice([(0, 0), (0, 0), (15, 25), (9, 0), (0, 20)])
        self.env |= {"DEFAULT_CONF_LIMIT": str(limits[0]), "DEFAULT_PART_LIMIT": str(limits[1])}
        self.env |= {"DATA_KEEP_DAYS": rng.choice(["0", "12"])}
        self.tell(
            f"{node.order} {node.gone} pages of {node.page}, {self.appear}, keeps {self.keep}, {limits} {self.every}"
        )

    # A time of the schedule, and what happens at it

    def something(self) -> None:
        rng = self.random
        happens = rng.choices(
            ["run", "hand", "clock", "killed", "disk", "locked", "outage", "moving", "lost", "taken", "corrected"],
            [55, 6, 6, 5, 3, 4, 5, 5, 5, 4, 3],
        )[0]
        if happens == "hand":
            start = max(BEGINNING - DAY, self.node.now - rng.random() * 40 * DAY)
            end = start + rng.random() * 10 * DAY
            self.run(
                "--from", stamp(start.replace(microsecond=0)) or "", "--to", stamp(end.replace(microsecond=0)) or ""
            )
        elif happens == "clock":
            self.run(ahead=rng.choice([3 * HOUR, -3 * HOUR, 3650 * DAY, -7000 * DAY, 20 * MINUTE, 40 * DAY]))
        elif happens == "killed":
            self.run(fault="kill", at=rng.randint(1, 90))
        elif happens == "disk":
            self.run(fault="ENOSPC", at=rng.randint(1, 90))
        elif happens == "locked":
            file = f"pexHistory{rng.choice(list(RESOURCES.values()))}.csv"
            self.locked = rng.choice(["EACCES", "EBUSY"]), file
            self.unlocked = self.node.now + rng.random() * 5 * DAY
            self.tell(f"locked: {self.locked}")
        elif happens == "outage":
            self.spoilt(rng.randint(1, 6), lambda: Reply(rng.choice([401, 418, 403])))
        elif happens == "moving":
            self.spoilt(rng.randint(1, 8), self.move)
        elif happens == "lost":
            self.lose_ledger()
        elif happens == "taken" and self.settled:
            self.take_away()
        elif happens == "corrected" and self.node.has("conference"):
            one = rng.choice(self.node.has(rng.choice(list(RESOURCES))) or self.node.has("conference"))
            if one.end > BEGINNING + 5 * HOUR:
                one.record["end_time"] = stamp(one.end - rng.random() * 5 * HOUR)
        if happens not in ("hand", "clock", "killed", "disk"):
            self.run()

    def spoilt(self, nth: int, act: Callable[[], Reply | None]) -> None:
        """At the nth request from now on, once."""
        first = len(self.node.server.requests)

        def spoil(request: Request) -> Reply | None:
            if request.number != first + nth:
                return None
            return act()

        self.node.spoil = spoil

    def move(self) -> None:
        """The oldest goes and a new one comes."""
        oldest = min(self.node.has("conference"), key=lambda one: one.end, default=None)
        if oldest:
            self.node.forget([oldest])
        end = self.node.now - 2 * HOUR
        held = conference(id=f"c{len(self.everyone['conference'])}", end_time=stamp(end), start_time=stamp(end - HOUR))
        self.know("conference", held, self.node.now, False)

    def run(self, *arguments: str, ahead: timedelta = timedelta(0), fault: Any = None, at: int | str = 0) -> Outcome:
        if self.locked and not fault and self.node.now < self.unlocked:
            fault, at = self.locked
        # A leap that nothing tells may remove every dated file, before they are looked at here.
        env = self.env | ({} if self.node.tells_time or not ahead else {"DATA_KEEP_DAYS": "0"})
        before = {path.name for path in self.data.glob("2*.csv")}
        outcome = self.collect(list(arguments), env, self.node.now + ahead, fault, at)
        self.runs += 1
        self.node.spoil = lambda request: None
        last = (outcome.output.strip().splitlines() or [""])[-1]
        self.tell(f"{' '.join(arguments)} ahead {ahead} {fault or ''} {at or ''}: {outcome.code} {last[20:180]}")
        assert "Traceback" not in outcome.output, outcome.output
        removed = before - {path.name for path in self.data.glob("2*.csv")}
        assert not removed or not ahead, f"removed: {removed}"
        self.settled = outcome.code == 0
        waiting = re.search(r", (\d+) waiting", outcome.output)
        if not arguments and self.settled and not ahead and waiting and waiting[1] == "0":
            self.note_seen()
        self.read_dated()
        return outcome

    def note_seen(self) -> None:
        """What is shown on time this run had to take; what was shown late, the first run a day after another."""
        for resource in RESOURCES:
            for one in self.node.has(resource):
                if one.end >= self.node.now.replace(second=0, microsecond=0) or self.too_old(one):
                    continue
                one.first_run = one.first_run or self.node.now
                one.owed = one.owed or one.on_time or self.node.now - one.first_run > DAY + HOUR

    def too_old(self, one: Known) -> bool:
        if one.resource == "participant":
            held = self.everyone["conference"].get(one.record["conference"].rstrip("/").rpartition("/")[2])
            return held is None or self.too_old(held)
        return one.end < BEGINNING - DAY

    # The user

    def lose_ledger(self) -> None:
        """Where the files still tell of all that the node could offer again."""
        told = {name: {*self.column(f"pexHistory{kind}.csv")} for name, kind in RESOURCES.items()}
        for name, kind in RESOURCES.items():
            told[name] |= {id for path in self.data.glob(f"2*_pexHistory{kind}.csv") for id in self.column(path.name)}
            exported = {*self.found(name)}
            if not exported & self.node.known[name].keys() <= told[name]:
                return
        for name in RESOURCES:
            dated = {id for ids in self.dated[name].values() for id in ids}
            self.undated |= told[name] - dated
        (self.data / ".collector" / "ledger.sqlite").unlink(missing_ok=True)
        for one in (one for known in self.everyone.values() for one in known.values()):
            one.first_run = None if not one.owed else one.first_run
        self.tell("the ledger is lost")

    def take_away(self) -> None:
        name = self.random.choice(list(RESOURCES))
        path = self.data / f"pexHistory{RESOURCES[name]}.csv"
        if path.exists() and b";" not in path.read_bytes().partition(b"\n")[0]:
            self.away[name] += self.column(path.name)
            if self.random.random() < 0.5:
                path.write_bytes(path.read_bytes().replace(b",", b";"))
            else:
                path.unlink()
            self.tell(f"{path.name} is taken away")

    # What must be true

    def column(self, name: str) -> list[str]:
        path = self.data / name
        if not path.exists() or b";" in path.read_bytes().partition(b"\n")[0]:
            return []
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [row["id"] for row in csv.DictReader(lines, strict=True)]

    def read_dated(self) -> None:
        for name, kind in RESOURCES.items():
            for path in self.data.glob(f"2*_pexHistory{kind}.csv"):
                if path.name not in self.dated[name]:
                    self.dated[name][path.name] = self.column(path.name)

    def found(self, name: str) -> list[str]:
        return self.away[name] + self.column(f"pexHistory{RESOURCES[name]}.csv")

    def _end(self) -> None:
        """Two good days, then everything that is owed is there."""
        self.locked = None
        self.env |= {"DEFAULT_CONF_LIMIT": "0", "DEFAULT_PART_LIMIT": "0"}
        for _ in range(5):
            self.node.now += 13 * HOUR
            assert self.run().code == 0, self.story[-1]
        self.check(final=True)

    def check(self, final: bool) -> None:
        for name in RESOURCES:
            dated = [id for ids in self.dated[name].values() for id in ids]
            for where, found in (("aggregate", self.found(name)), ("dated files", dated)):
                counts = Counter(found)
                twice = sorted(id for id, count in counts.items() if count > 1)
                assert not twice, f"{name}, {where}: twice: {twice}"
                strange = counts.keys() - {id for id, one in self.everyone[name].items() if not self.too_old(one)}
                strange -= {id for id, one in self.everyone[name].items() if one.transferred}
                assert not strange, f"{name}, {where}: not asked for: {sorted(strange)}"
                owed = {id for id, one in self.everyone[name].items() if one.owed} if final else set()
                lost = owed - counts.keys() - (self.undated if where == "dated files" else set())
                assert not lost, f"{name}, {where}: lost: " + ", ".join(
                    f"{id} (ended {one.end}, shown {one.shown}, forgotten {one.forgotten})"
                    for id in sorted(lost)
                    for one in [self.everyone[name][id]]
                )


def simulate(seeds: list[int], days: int) -> list[str]:
    """One line for each seed whose year broke a promise, and the story to it; prints how it goes."""
    broken = []
    with Node() as node, ForkedCollector() as forked:
        for seed in seeds:
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="year-", dir=MEMORY) as folder:
                year = Year(seed, Path(folder), node, forked)
                try:
                    year.live(days)
                    said = "kept"
                except AssertionError as error:
                    said = f"BROKEN: {error}"
                    broken.append(f"seed {seed}: {error}")
            count = {name: len(known) for name, known in year.everyone.items()}
            print(f"seed {seed}: {year.runs} runs, {count}, {time.monotonic() - began:.1f} s: {said}", flush=True)
    return broken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.year", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", default="1-3", help="as in 7 or 1-20")
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    low, _, high = given.seeds.partition("-")
    sys.exit(bool(simulate(list(range(int(low), int(high or low) + 1)), given.days)))
