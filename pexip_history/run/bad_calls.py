"""When a bad call was bad: what a participant's own address says of every 20 seconds, asked for bad calls alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pexip_history.errors import NodeError, NotFound
from pexip_history.messages import counted, sentence
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import PARTICIPANT
from pexip_history.values import as_text

if TYPE_CHECKING:
    from pexip_history.archive.staging import Stage

BAD = frozenset({"3_bad", "4_terrible"})
MOST_ASKED = 500
"""Calls that one reading asks for: a minute of requests."""

log = logging.getLogger("collector")


class BadCalls:
    """Notes the bad calls among what is taken, and asks for them once all else is there."""

    def __init__(self, node: Node, stage: Stage) -> None:
        self.node, self.stage = node, stage
        self._found: list[str] = []
        self._left = 0

    def note(self, participants: Page) -> None:
        for participant, quality in zip(participants.ids, participants.column("call_quality"), strict=True):
            if quality in BAD and len(self._found) < MOST_ASKED:
                self._found.append(participant)
            elif quality in BAD:
                self._left += 1

    def ask(self) -> None:
        """Write a row for each; where the node does not answer, the rest is left out: no run fails for these."""
        try:
            for participant in self._found:
                self._ask_for(participant)
        except NodeError as error:
            log.warning(sentence("bad-minutes-unknown", why=error))
        if self._left:
            log.info("more than %d bad calls: of %s nobody asked when", MOST_ASKED, counted(self._left, "call"))

    def _ask_for(self, participant: str) -> None:
        try:
            page = self.node.record(PARTICIPANT.name, participant, whole=True)
        except NotFound:
            return
        row = {name: page.column(name) for name in self.stage.columns if name in page.columns}
        self.stage.write({"participant_id": [as_text(participant)], **row})
