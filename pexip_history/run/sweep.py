"""Reading a query whole, again where the records moved meanwhile, and taking what is new in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pexip_history.errors import NodeError, TooLarge
from pexip_history.ledger.spans import Times
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
    """What is asked for, and what may be taken of the answer.

    `room`: where the first page counts more records than that, none is taken (the answer is `too_many`).
    `asked_for`: what the answer has besides is a proxy's doing, and said.
    """

    resource: str
    filters: Mapping[str, str]
    wanted: Wanted = everything
    newest_first: bool = False
    room: int | None = None
    asked_for: Times | None = None


@dataclass
class Answer:
    """What a query came to: `still` is False where it never held still, `oldest` the earliest time in it."""

    total: int = 0
    still: bool = True
    too_many: bool = False
    oldest: str = ""
    outside: int = 0


@dataclass
class Sweeper:
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

    def sweep(self, query: Query, look: Callable[[Page], None] = lambda page: None) -> Answer:
        """Take what is new in a query. `look` sees each page as it comes; a page may come again."""
        answer, readings = Answer(), 0
        while readings < READINGS:
            with suppress(TooLarge):  # then smaller pages are asked for
                answer = self._sweep_once(query, look)
                if answer.still:
                    return answer
                log.info("the %s records changed while they were read; reading them again", query.resource)
                readings += 1
        log.info("the %s records changed during each of %d readings; what came is kept", query.resource, READINGS)
        return answer

    def _sweep_once(self, query: Query, look: Callable[[Page], None]) -> Answer:
        self.seen.sweep += 1
        answer, received, left_out = Answer(), 0, 0
        for number, page in enumerate(self.node.pages(query.resource, query.filters, newest_first=query.newest_first)):
            if not number:
                answer.total = page.total
                if query.room is not None and page.total > query.room:
                    answer.too_many = True
                    return answer
            answer.still = answer.still and page.total == answer.total
            answer.oldest = min([time for time in (answer.oldest, *page.times) if time], default="")
            wanted = query.wanted(page)
            if query.asked_for and len(wanted) < len(page.ids):
                answer.outside += sum(not query.asked_for.has(time) for time in page.times)
            self.take(query.resource, page, wanted)
            look(page)
            left_out += page.left_out
            received += len(page.ids) + page.left_out
            self.progress.advance(query.resource, received, answer.total)
            if received > answer.total:
                break
        self._judge(query, answer, received, left_out)
        return answer

    def _judge(self, query: Query, answer: Answer, received: int, left_out: int) -> None:
        """Whether all came that the node counts. Raises NodeError."""
        if answer.outside:
            log.warning(
                "%s (%s/) answered %d records that ended outside of the time that was asked for; they are left out."
                " Is a proxy on the way that changes what is asked?",
                self.node.address,
                query.resource,
                answer.outside,
            )
        if answer.still and received != answer.total:
            raise NodeError(
                f"{self.node.address} ({query.resource}/) counts {answer.total} records but sent {received};"
                " the next run tries again, and if this continues, ask Pexip's support"
            )
        answer.still = answer.still and self.seen.swept(query.resource) + left_out == answer.total

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
