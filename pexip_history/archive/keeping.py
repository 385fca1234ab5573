"""DATA_KEEP_HISTORY_DAYS: rows that are older go from every file, each file whole or not at all."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from pexip_history.archive.archive import Archive
from pexip_history.archive.editing import Change, Changing
from pexip_history.archive.holdings import AGGREGATE, PARQUET, WAITING, Holding, holdings
from pexip_history.archive.journal import Journal, Result, open_journal, rewrite, rewrite_all
from pexip_history.archive.parquet_rows import leave_out_before
from pexip_history.errors import CollectorError
from pexip_history.ledger.ledger import Ledger
from pexip_history.messages import counted, sentence
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time, read_time

DAY = timedelta(days=1)
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\Z", re.ASCII)

log = logging.getLogger("collector")


def oldest_kept(settings: Settings, now: datetime) -> datetime | None:
    """What ended before is removed, and is not asked for again (UTC); None where everything is kept."""
    return now - timedelta(days=settings.keep_history_days) if settings.keep_history_days else None


def forget_old(archive: Archive, ledger: Ledger, now: datetime) -> None:
    """Remove the rows that are too old, at most once a day; say so in the log.

    For a run whose clock is the node's, behind publishing. What cannot be rewritten now is tried again a day later.
    Raises OSError, sqlite3.Error.
    """
    oldest = oldest_kept(archive.settings, now)
    tried = ledger.time_of("keeping_tried")
    if oldest is None or (tried and tried <= oldest < tried + DAY):
        return
    # Noted before the first row goes: from then on nobody takes the time before for a quiet one.
    ledger.note(kept_from=max(oldest, ledger.time_of("kept_from") or oldest))
    with open_journal(archive.folder) as journal:
        removed, untold = remove_older(archive.data, oldest, ledger, journal)
    ledger.note(keeping_tried=oldest)
    for reason in (*removed.waits, *removed.unreadable):
        log.warning(sentence("old-rows-stay", why=reason))
    if untold:
        log.warning(sentence("old-rows-untold", rows=untold))
    if removed.rows:
        log.info(
            "%s removed from before %s UTC, in %s (DATA_KEEP_HISTORY_DAYS)",
            counted(removed.rows, "row"),
            format_time(oldest),
            counted(removed.files, "file"),
        )


def remove_older(data: Path, oldest: datetime, ledger: Ledger, journal: Journal) -> tuple[Result, int]:
    """Remove what is older from each file that can be read; each whole or not at all.

    What that came to, and how many rows of the aggregates have no time that can be read, and stay.
    """
    unread: list[str] = []

    def remove(holding: Holding) -> int:
        times = (holding.resource.time, "start_time")
        if holding.kind == PARQUET:
            return leave_out_before(holding.path, format_time(oldest), times)
        note = unread.append if holding.kind == AGGREGATE else len
        return rewrite(holding, leaving_out_before(times, oldest, note), journal, ledger).gone

    files = [holding for holding in holdings(data) if holding.kind != WAITING]  # a run publishes those first
    return rewrite_all(files, remove, data, journal, ledger), len(unread)


def leaving_out_before(times: Sequence[str], oldest: datetime, unread: Callable[[str], object]) -> Changing:
    """The change that leaves out rows whose time lies before `oldest`: the first of these columns that has one.

    What is no time is told to `unread`, and its row stays. Raises CollectorError for a file without the columns.
    """
    limit = format_time(oldest)

    def changing(columns: list[str]) -> Change:
        places = [columns.index(time) for time in times if time in columns]
        if columns and not places:
            raise CollectorError(sentence("column-missing", file="it", column=times[0]))

        def change(row: list[str]) -> list[str] | None:
            text = next((row[place] for place in places if place < len(row) and row[place]), "")
            if not PLAIN.match(text):  # as the node writes a time; those sort as they follow in time
                moment = read_time(text)
                if moment is None:
                    unread(text)
                    return row
                text = format_time(moment)
            return None if text < limit else row

        return change

    return changing


def what_is_kept(settings: Settings, oldest: str | None, kept_from: str | None, erasing: bool) -> list[str]:
    """For `status`, a sentence each: the oldest row and the settings that bound it; what is not finished.

    `oldest` is the earliest time of a record that was exported, `kept_from` what older rows were removed before (UTC).
    """
    first = max(oldest, kept_from or oldest) if oldest else None
    days = settings.keep_history_days
    rows = f"rows go after {counted(days, 'day')}" if days else "rows stay"
    said = [
        f"Oldest row: {f'not before {first} UTC' if first else 'none'}; {rows} (DATA_KEEP_HISTORY_DAYS={days})"
        + (f", dated files after {counted(settings.keep_days, 'day')} (DATA_KEEP_DAYS)" if settings.keep_days else "")
    ]
    if settings.omit_columns:
        said.append(f"Columns that stay empty: {', '.join(sorted(settings.omit_columns))} (DATA_OMIT_COLUMNS)")
    if erasing:
        said.append("An erasure is not finished; the next run or `erase` goes on with it")
    return said
