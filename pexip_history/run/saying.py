"""What a run shows besides its own line: what the node has, what waits, what is gone, clocks that differ; a bar."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from pexip_history.ledger.spans import Span
from pexip_history.messages import counted, sentence
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import BY_NAME

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger("collector")


def what_the_node_has(oldest: Page, since: datetime | None, by_hand: bool) -> None:
    """For a first run; `oldest` is the beginning of the node's list. A window by hand is collected alone."""
    if not oldest.total:
        log.info("the node has no conference yet")
        return
    rest = f"the rest from {since:%Y-%m-%d %H:%M} UTC on (DATA_SINCE)" if since else "all the rest"
    order = "" if by_hand else f"; the last day is collected first, then {rest}"
    first = next(iter(oldest.times), "") or "an unknown time"
    log.info("the node has %s, the first of %s UTC%s", counted(oldest.total, "conference"), first, order)


def what_waits(waiting: Mapping[str, int], limits: Mapping[str, int] | None, *, by_hand: bool) -> None:
    """How many records wait, by resource: a warning that names the setting (`limits`), progress where it is None."""
    for name, count in waiting.items():
        if limits is None:
            log.info("%s of the node's older history left for the next runs", counted(count, f"{name} record"))
            continue
        text = "limit-reached-by-hand" if by_hand else "limit-reached"
        setting = BY_NAME[name].limit
        log.warning(sentence(text, setting=setting, limit=limits[name], records=count, resource=name))


def warn_of_gaps(gaps: Iterable[Span]) -> None:
    for span in gaps:
        if span.start < span.end:
            log.warning(sentence("node-forgot", span=span))


def warn_of_clocks(node: Node) -> None:
    skew = node.clock_skew
    if skew and not node.clocks_agree:
        side = "ahead of" if skew > timedelta(0) else "behind"
        log.warning(sentence("clocks-apart", minutes=abs(skew.total_seconds()) / 60, side=side))


class Progress:
    """A bar for a person who watches; in a log, a line a minute."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def advance(self, resource: str, received: int, total: int) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None or self._bar.desc != f"{resource}s: ":
                self.close()
                self._bar = tqdm(desc=f"{resource}s", unit=" records", leave=False)
            self._bar.total, self._bar.n = total, received
            self._bar.refresh()
        elif time.monotonic() - self._said >= 60:
            self._said = time.monotonic()
            log.info("%d of %d %s records read", received, total, resource)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
