"""Reading a query whole, again where the records moved meanwhile, and taking what is new in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pexip_history.errors import NodeError, TooLarge
from pexip_history.ledger.spans import Times
from pexip_history.messages import sentence
from pexip_history.node.api import Node
from pexip_history.node.records import Page, streams
from pexip_history.resources import CONFERENCE, PARTICIPANT, STREAM
from pexip_history.run.progress import Progress
from pexip_history.run.seen import Seen

if TYPE_CHECKING:
    from pexip_history.archive.staging import Stage

READINGS = 3
"""Of one query, while it moves."""

log = logging.getLogger("collector")

Wanted = Callable[[Page], Sequence[int]]
"""The places in a page of the records that may be taken."""


def everything(page: Page) -> Sequence[int]:
    return range(len(page.ids))


@dataclass(frozen=True)
class Query:
    """What is asked for, and what may be taken of the result.

    `room`: where the first page counts more records than that, none is taken (the result is `too_many`).
    `asked_for`: what the result has besides is a proxy's doing, and said.
    """

    resource: str
    filters: Mapping[str, str]
    wanted: Wanted = everything
    newest_first: bool = False
    room: int | None = None
    asked_for: Times | None = None


@dataclass
class Result:
    """What a query came to: `still` is False where it never held still, `oldest` the earliest time in it."""

    total: int = 0
    still: bool = True
    too_many: bool = False
    oldest: str = ""
    outside: int = 0


@dataclass
class Taker:
    """Reads queries into the staged files of one reading; `taken` is how many records of each kind it took.

    `oldest` is the earliest time of what was taken, by resource; `on_taken` is told of each page of it.
    """

    node: Node
    seen: Seen
    stages: Mapping[str, Stage]
    progress: Progress
    taken: dict[str, int] = field(default_factory=dict)
    oldest: dict[str, str] = field(default_factory=dict)
    on_taken: Callable[[str, Page], None] = lambda resource, page: None

    def read(self, query: Query, look: Callable[[Page], None] = lambda page: None) -> Result:
        """Take what is new in a query. `look` sees each page as it comes; a page may come again."""
        result, readings = Result(), 0
        while readings < READINGS:
            with suppress(TooLarge):  # then smaller pages are asked for
                result = self._read_once(query, look)
                if result.still:
                    return result
                log.info("the %s records changed while they were read; reading them again", query.resource)
                readings += 1
        log.info("the %s records changed during each of %d readings; what came is kept", query.resource, READINGS)
        return result

    def _read_once(self, query: Query, look: Callable[[Page], None]) -> Result:
        self.seen.pass_number += 1
        result, received, left_out = Result(), 0, 0
        for number, page in enumerate(self.node.pages(query.resource, query.filters, newest_first=query.newest_first)):
            if not number:
                result.total = page.total
                if query.room is not None and page.total > query.room:
                    result.too_many = True
                    return result
            result.still = result.still and page.total == result.total
            result.oldest = min([time for time in (result.oldest, *page.times) if time], default="")
            wanted = query.wanted(page)
            if query.asked_for and len(wanted) < len(page.ids):
                left = page.only([place for place in range(len(page.ids)) if place not in set(wanted)])
                result.outside += sum(not query.asked_for.has(time) for time in left.times)
            self.take(query.resource, page, wanted)
            look(page)
            left_out += page.left_out
            received += len(page.ids) + page.left_out
            self.progress.advance(query.resource, received, result.total)
            if received > result.total:
                break
        self._judge(query, result, received, left_out)
        return result

    def _judge(self, query: Query, result: Result, received: int, left_out: int) -> None:
        """Whether all came that the node counts. Raises NodeError."""
        if result.outside:
            log.warning(
                sentence(
                    "outside-of-window", address=self.node.address, resource=query.resource, records=result.outside
                )
            )
        if result.still and received != result.total:
            raise NodeError(
                sentence(
                    "short-answer",
                    address=self.node.address,
                    resource=query.resource,
                    counted=result.total,
                    received=received,
                )
            )
        result.still = result.still and self.seen.count(query.resource) + left_out == result.total

    def take(self, resource: str, page: Page, wanted: Sequence[int]) -> int:
        """Write to the staged files what is new at these places of a page; how many records that is."""
        fresh = page.only(self.seen.take(resource, page, wanted))
        if not fresh.ids:
            return 0
        self.taken[resource] = self.taken.get(resource, 0) + len(fresh.ids)
        self.oldest[resource] = min([t for t in (self.oldest.get(resource, ""), *fresh.times) if t], default="")
        self.stages[resource].write(fresh.columns)
        if resource == CONFERENCE.name:
            self.seen.expect(fresh)
        elif resource == PARTICIPANT.name and STREAM.name in self.stages:
            for columns in streams(fresh):
                self.stages[STREAM.name].write(columns)
        self.on_taken(resource, fresh)
        return len(fresh.ids)
