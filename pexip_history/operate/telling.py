"""Who is told how a run went: a context around it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from pexip_history.errors import CollectorError, Stopped
from pexip_history.ledger.ledger import RUNS_KEPT, Ledger
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

if TYPE_CHECKING:
    from pexip_history.operate.notify import Pings


class Telling(AbstractContextManager["Telling"]):
    """Pings as a run begins; pings and messages when the context is left, after the lock was let go of.

    Nobody is told of a window by hand: who asked for it sees how it went.
    """

    def __init__(self, settings: Settings, started: datetime, by_hand: bool) -> None:
        self.settings, self.started = settings, started
        self.runs: Sequence[Mapping[str, object]] = ()
        self.lost = 0
        self._pings: Pings | None = None
        if (settings.ping_url or settings.notify_urls) and not by_hand:
            from pexip_history.operate.notify import Pings

            self._pings = Pings(settings.ping_url)

    def begin(self) -> None:
        if self._pings:
            self._pings.start()

    def ended(self, ledger: Ledger, lost: int) -> None:
        """The run's row is in the ledger. `lost`: participants of whom the node says that they are gone."""
        self.lost = lost
        with suppress(sqlite3.Error):
            self.runs = ledger.runs(RUNS_KEPT)

    def failed_unrecorded(self, message: str) -> None:
        """The run could not write its own row."""
        if not self._pings:
            return
        from pexip_history.operate.message import unrecorded
        from pexip_history.operate.status import peek

        row = {"started": format_time(self.started), "outcome": "failed", "message": message}
        with suppress(CollectorError, OSError, sqlite3.Error):
            self.runs = [row, *peek(self.settings)["runs"]]
            return
        schedule = self.settings.schedule
        before = schedule.last(self.started - timedelta(minutes=1)) if schedule else None
        self.runs = unrecorded(format_time(self.started), message, format_time(before) if before else None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pings and self.runs:
            from pexip_history.operate.notify import tell

            with suppress(Stopped):
                tell(self.settings, self._pings, self.runs, self.lost)
