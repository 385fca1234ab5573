"""Sweeping: what is new in a query, read until it holds still, as far as the limits allow."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import le
from typing import TYPE_CHECKING

from pexip_history.errors import NodeError, TooLarge
from pexip_history.ledger.ledger import Ledger
from pexip_history.node.api import Node
from pexip_history.node.records import CONFERENCE, PARTICIPANT, STREAM, Page, streams
from pexip_history.operate.log import Progress
from pexip_history.settings.environment import Settings
from pexip_history.values import read_time

if TYPE_CHECKING:
    from pexip_history.archive.staging import Stage

SWEEPS = 3

log = logging.getLogger("collector")


@dataclass(frozen=True)
class Query:
    """What is asked for, and what is taken of the answer: what ended in [low, high), as the node writes times.

    `whole`: read to the end whatever the limit is, and note whom the conferences list. `wanted_only`: take
    only what the ledger has noted as wanted.
    """

    resource: str
    filters: Mapping[str, str]
    low: str = ""
    high: str = ""
    whole: bool = False
    wanted_only: bool = False

    @property
    def ordered(self) -> bool:
        """Whether the oldest should come first; of one conference all are taken."""
        return bool(self.high)

    def has(self, end: str) -> bool:
        return not self.high or not end or self.low <= end < self.high


@dataclass
class Swept:
    """What sweeping a query came to.

    `waiting` is how many records the limit left, `waits_from` the end time of the oldest of them where
    the node orders; `still` is False where the query never held still; `oldest` is the oldest end time;
    `number` is the ledger's for this sweep; `chosen`: nothing was taken, but the oldest were found.
    """

    waiting: int = 0
    waits_from: str | None = None
    still: bool = True
    oldest: str = ""
    number: int = 0
    chosen: bool = False


class Sweeper:
    """Reads queries of one run into its staged files; `taken` is how many records of each kind it took."""

    def __init__(
        self, settings: Settings, node: Node, ledger: Ledger, stages: Mapping[str, Stage], progress: Progress
    ) -> None:
        self.node, self.ledger, self.stages, self.progress = node, ledger, stages, progress
        self.taken = {CONFERENCE: 0, PARTICIPANT: 0}
        self.limit = {
            CONFERENCE: settings.conf_limit or sys.maxsize,
            PARTICIPANT: settings.part_limit or sys.maxsize,
        }

    def room(self, resource: str) -> int:
        """How many more records the limit allows."""
        return self.limit[resource] - self.taken[resource]

    def sweep(self, query: Query) -> Swept:
        """Take what is new in a query, again while it moves, as far as the limit allows."""
        swept, readings = Swept(), 0
        while readings < SWEEPS:
            with suppress(TooLarge):  # then smaller pages are asked for
                swept = self._sweep_once(query)
                if swept.chosen:
                    query, left = replace(query, wanted_only=True), swept.waiting
                    swept = replace(self._sweep_once(query), waiting=left)
                if swept.still:
                    return swept
                log.info("the %s records changed while they were read; reading them again", query.resource)
                readings += 1
        log.info("the %s records changed during each of %d readings; what came is kept", query.resource, SWEEPS)
        return replace(swept, still=False)

    def _sweep_once(self, query: Query) -> Swept:
        ledger, node, resource = self.ledger, self.node, query.resource
        ledger.sweep += 1
        swept, received, total, last, outside = Swept(number=ledger.sweep), 0, 0, "", 0
        for number, page in enumerate(node.pages(resource, query.filters, ordered=query.ordered)):
            if not number:
                total = page.total
                swept.chosen = self._must_choose(query, total)
            swept.still = swept.still and page.total == total
            if query.ordered and not all(map(le, [last, *page.ends], page.ends)):
                node.distrust_order(resource)
            last = page.ends[-1] if page.ends else last
            swept.oldest = min([end for end in (swept.oldest, *page.ends) if end], default="")
            fresh = ledger.fresh(resource, page, query.wanted_only)
            inside = [place for place in fresh if query.has(page.ends[place])]
            if len(inside) < len(fresh):
                ledger.leave(resource, (page.ids[place] for place in set(fresh) - set(inside)))
                outside += len(fresh) - len(inside)
            room = 0 if swept.chosen else self.room(resource)
            self._take(resource, page.only(inside[:room]))
            if left := inside[room:]:
                ledger.let_wait(resource, [(page.ids[place], page.ends[place]) for place in left])
                swept.waiting += len(left)
            if query.whole:
                ledger.expect(page.only([place for place, end in enumerate(page.ends) if query.has(end)]))
            elif left and not swept.chosen:  # what comes after this page is new too, as far as anyone knows
                swept.waiting = total - received - left[0]
                swept.waits_from = (
                    page.ends[left[0]] if node.orders(resource) and read_time(page.ends[left[0]]) else None
                )
                return swept
            received += len(page.ids)
            self.progress.advance(resource, received, total)
            if received > total:
                break
        if outside and not query.whole:
            log.warning(
                "%s (%s/) answered %d records that ended outside of the time that was asked for; they are left out."
                " Is a proxy on the way that changes what is asked?",
                node.address,
                resource,
                outside,
            )
        if swept.still and received != total:
            raise NodeError(
                f"{node.address} ({resource}/) counts {total} records but sent {received};"
                " the next run tries again, and if this continues, ask Pexip's support"
            )
        swept.still = swept.still and ledger.swept(resource) == total
        if swept.chosen:
            swept.waiting -= ledger.want_oldest(resource, self.room(resource))
        return swept

    def _must_choose(self, query: Query, total: int) -> bool:
        """Whether the oldest must be found before any is taken: the node does not order, and not all can be taken."""
        unordered = query.ordered and not self.node.orders(query.resource)
        return unordered and not query.wanted_only and not query.whole and 0 < self.room(query.resource) < total

    def _take(self, resource: str, page: Page) -> None:
        """Write records to the run's files and note what they call for."""
        if not page.ids:
            return
        self.taken[resource] += len(page.ids)
        self.stages[resource].write(page.columns)
        if resource == CONFERENCE:
            self.ledger.expect(page)
        elif STREAM in self.stages:
            for columns in streams(page):
                self.stages[STREAM].write(columns)
