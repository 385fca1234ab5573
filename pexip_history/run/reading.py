"""One reading: its queries, each read whole, and what they bring until it is committed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from pexip_history.archive.archive import Archive
from pexip_history.errors import NodeError, TooLarge
from pexip_history.ledger.ledger import Ledger, Staged
from pexip_history.ledger.spans import Times
from pexip_history.messages import sentence
from pexip_history.node.api import Node
from pexip_history.node.records import Page, streams
from pexip_history.resources import CONFERENCE, PARTICIPANT, QUALITY, STREAM
from pexip_history.run.bad_calls import BadCalls
from pexip_history.run.saying import Progress
from pexip_history.run.seen import Seen

MOST_PASSES = 3
"""Over one query, while it moves."""

log = logging.getLogger("collector")


class Draft:
    """A staged file for each kind of record. `taken` is how many records it has of each, `files` what it becomes.

    `room` is how many of a resource it may take (without one: no limit). `late` counts participants whose time had
    been asked for before (`late_in`, once the missing are asked for), `lost` those of whom the node says for the first
    time that they are gone.
    """

    def __init__(
        self, archive: Archive, ledger: Ledger, node: Node, seen: Seen, progress: Progress, room: Mapping[str, int]
    ) -> None:
        self.archive, self.ledger, self.node, self.seen, self.progress = archive, ledger, node, seen, progress
        self.room, self.taken = room, Counter[str]()
        self.late, self.lost = 0, 0
        self.late_in: Times | None = None
        self.files: list[Staged] = []
        self._oldest: dict[str, str] = {}
        seen.clear()
        self._pair = ledger.next_pair()
        self._stages = archive.stage(self._pair)
        self._bad_calls = BadCalls(node, self._stages[QUALITY.name]) if QUALITY.name in self._stages else None

    def left(self, resource: str) -> int | None:
        """How many more new records the run's limit allows; None: no limit."""
        return max(0, self.room[resource] - self.taken[resource]) if resource in self.room else None

    def take(self, resource: str, page: Page, places: Sequence[int]) -> None:
        """Write to the staged files what is new at these places of a page."""
        fresh = page.only(self.seen.take(resource, page, places))
        if not fresh.ids:
            return
        self.taken[resource] += len(fresh.ids)
        self._oldest[resource] = earliest(self._oldest.get(resource, ""), *fresh.times)
        self._stages[resource].write(fresh.columns)
        if resource == CONFERENCE.name:
            self.seen.expect(fresh)
        elif resource == PARTICIPANT.name:
            if self.late_in:
                self.late += sum(map(self.late_in.has, fresh.times))
            if self._bad_calls:
                self._bad_calls.note(fresh)
            if STREAM.name in self._stages:
                for columns in streams(fresh):
                    self._stages[STREAM.name].write(columns)

    @contextmanager
    def commit(self, started: datetime, now: datetime, *, write: bool) -> Iterator[None]:
        """The commit point: what the context notes in the ledger, and the rows, are known together or not at all.

        Without rows, files are written only with `write`. Raises NodeError, OSError, sqlite3.Error.
        """
        if self._bad_calls:
            self._bad_calls.ask()
        if write or self.taken:
            self.files = self.archive.finish(self._pair, started, self._stages, self.ledger, self.node.fields)
        else:
            for stage in self._stages.values():
                stage.abandon()
        with self.ledger.transaction():
            self.seen.export(self._oldest, now)
            yield
            self.ledger.stage(self.files)


@dataclass(frozen=True)
class Query:
    """What is asked for, and what may be taken of the answer: `wanted` gives the places in a page of those records.

    `room`: where the node counts more records than that, none is taken.
    `asked_for`: what the answer has besides is a proxy's doing, and said.
    """

    resource: str
    filters: Mapping[str, str]
    wanted: Callable[[Page], Sequence[int]]
    newest_first: bool = False
    room: int | None = None
    asked_for: Times | None = None


@dataclass
class Result:
    """What a query came to: `still` is False where it never held still.

    `oldest` is the earliest time in it, `first` the id of the record that has it.
    """

    total: int = 0
    still: bool = True
    oldest: str = ""
    first: str = ""


def read(draft: Draft, query: Query) -> Result:
    """Take what is new in a query. A page may come again. Raises NodeError."""
    result, passes = Result(), 0
    while passes < MOST_PASSES:
        with suppress(TooLarge):  # then smaller pages are asked for
            result = _read_once(draft, query)
            if result.still:
                return result
            log.info("the %s records changed while they were read; reading them again", query.resource)
            passes += 1
    log.info("the %s records changed during each of %d readings; what came is kept", query.resource, MOST_PASSES)
    return result


def _read_once(draft: Draft, query: Query) -> Result:
    draft.seen.begin_pass()
    result, received, left_out, outside = Result(), 0, 0, 0
    for number, page in enumerate(draft.node.pages(query.resource, query.filters, newest_first=query.newest_first)):
        if not number:
            result.total = page.total
            if query.room is not None and page.total > query.room:
                return result
        result.still = result.still and page.total == result.total
        times = [(result.oldest, result.first), *zip(page.times, page.ids, strict=True)]
        result.oldest, result.first = min((each for each in times if each[0]), default=("", ""))
        places = query.wanted(page)
        if query.asked_for and len(places) < len(page.ids):
            unwanted = set(range(len(page.ids))).difference(places)
            outside += sum(not query.asked_for.has(page.times[place]) for place in unwanted)
        draft.take(query.resource, page, places)
        left_out += page.left_out
        received += len(page.ids) + page.left_out
        draft.progress.advance(query.resource, received, result.total)
        if received > result.total:
            break
    about = {"address": draft.node.address, "resource": query.resource}
    if outside:
        log.warning(sentence("outside-of-window", records=outside, **about))
    if result.still and received != result.total:
        raise NodeError(sentence("short-answer", counted=result.total, received=received, **about))
    result.still = result.still and draft.seen.count(query.resource) + left_out == result.total
    return result


def earliest(*times: str) -> str:
    """The first of the times that are told, empty where none is."""
    return min(filter(None, times), default="")
