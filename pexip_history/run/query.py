"""Reading a query whole, again where the records moved meanwhile, and taking what is new in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pexip_history.errors import NodeError, TooLarge
from pexip_history.ledger.spans import Times
from pexip_history.messages import sentence
from pexip_history.node.records import Page
from pexip_history.run.draft import Draft, earliest

MOST_PASSES = 3
"""Over one query, while it moves."""

log = logging.getLogger("collector")


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
    """What a query came to: `still` is False where it never held still, `oldest` the earliest time in it."""

    total: int = 0
    still: bool = True
    oldest: str = ""


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
        result.oldest = earliest(result.oldest, *page.times)
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
