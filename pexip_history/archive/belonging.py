"""Ledger and files belong together: opened, made again where one is lost, and held to each other before each run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pexip_history.archive import aggregates
from pexip_history.archive.archive import Archive
from pexip_history.errors import CollectorError
from pexip_history.folder.names import STAGED
from pexip_history.folder.opening import NotAFile, own
from pexip_history.folder.reading import NotOurs, open_rows
from pexip_history.ledger.ledger import Ledger, Staged
from pexip_history.ledger.making import know_rows, make, take_over
from pexip_history.ledger.rewritten import settle_rewriting
from pexip_history.ledger.schema import LEDGER, SCHEMA_VERSION, closed_on_failure, open_to_write
from pexip_history.messages import sentence
from pexip_history.resources import BY_NAME, CONFERENCE, PARTICIPANT, RESOURCES, Resource

IDS = frozenset(resource.name for resource in RESOURCES)
"""Whose ids the ledger has."""

log = logging.getLogger("collector")


def open_ledger(archive: Archive, now: datetime) -> Ledger:
    """The folder's ledger, at one with its files. Raises CollectorError, OSError, sqlite3.Error.

    One that is new, lost, damaged or of an earlier version is filled from the CSV files.
    """
    opened = open_to_write(archive.folder)
    if opened is None:
        damaged = {f"{LEDGER}-journal": "belongs to a damaged ledger", LEDGER: "is damaged or is not a ledger"}
        for name, why in damaged.items():
            if (archive.folder / name).exists():
                aggregates.set_aside(archive.folder / name, why, archive.zone)
        opened = open_to_write(archive.folder)
    if opened is None:
        raise CollectorError(sentence("ledger-cannot-be-made", ledger=archive.folder / LEDGER, folder=archive.folder))
    ledger = Ledger(*opened)
    with closed_on_failure(ledger.db), ledger.transaction():
        version = ledger.version
        if version < SCHEMA_VERSION:
            ledger.db.execute("PRAGMA cache_size = -16000")
            make(ledger, now)
        settle_rewriting(ledger, archive.aggregate)
        found = _know_dated(archive, ledger, now)
        found += sum(_settle(archive, ledger, resource, now) for resource in archive.resources)
        _note_found(archive, ledger, version, found)
        if not version:
            _go_on_publishing(archive, ledger, now)
        ledger.db.execute("PRAGMA cache_size = -2000")
    return ledger


def _note_found(archive: Archive, ledger: Ledger, version: int, found: int) -> None:
    """Note and say that files had so many records that the ledger of this version did not know."""
    if 0 < version < SCHEMA_VERSION:
        take_over(ledger, version)
        since, stays = ledger.time_of("since"), ""
        if since:
            stays = f"; what ended before {since:%Y-%m-%d %H:%M} UTC stays uncollected unless DATA_SINCE asks for it"
        log.info("the ledger of version 1.%d was taken over%s", version - 1, stays)
    elif found and version:
        ledger.doubt("files had rows that the ledger did not know")
        log.warning(sentence("files-newer-than-ledger", folder=archive.folder, rows=found))
    elif found:
        ledger.note(rebuilt="yes", doubt="the ledger was rebuilt")  # the day is the node's to say
        for name in (CONFERENCE.name, PARTICIPANT.name):
            ledger.db.execute(f"UPDATE resource SET rows = (SELECT count(*) FROM {name}) WHERE name = ?", (name,))
        log.warning(sentence("ledger-rebuilt", rows=found))


def _know_dated(archive: Archive, ledger: Ledger, now: datetime) -> int:
    """Know the rows of dated files, also of those that wait, which the ledger does not know; how many it did not.

    It was lost, or is of 1.0, or an older `.collector` was put back.
    """
    there, staged = archive.dated_files(), {archive.dated(file).name: file for file in ledger.staged()}
    # In place already, and waiting: the older ledger is of a time in which they waited.
    placed = {name: file for name, file in staged.items() if name in there and archive.waits(file)}
    ledger.published([*placed.values()], [*placed], {})
    known, found = ledger.files(), 0
    strange = sorted(there.keys() - known - staged.keys())
    for resource in RESOURCES:
        paths = [archive.data / name for name in strange if there[name] == resource.stem]
        paths += [archive.waiting(file) for file in staged.values() if file.resource == resource.name]
        found += sum(know_rows(ledger, resource.name, _rows(path, resource.name), now) for path in paths)
    ledger.know_files(strange)
    ledger.forget_files(known - there.keys())
    return found


def _rows(path: Path, resource: str) -> Iterator[dict[str, str]]:
    """The whole rows of a file of ours, as far as they can be read; what cannot is said."""
    try:
        if columns := aggregates.columns_of(path, resource):
            yield from aggregates.rows_behind(path, 0, aggregates.whole_until(path, columns, 0))
    except FileNotFoundError:
        return
    except (NotOurs, NotAFile) as error:
        log.warning(sentence("rows-behind-unknown", why=error))


def _settle(archive: Archive, ledger: Ledger, resource: Resource, now: datetime) -> int:
    """What stands in an aggregate that the ledger did not write there: whole rows are known, a torn one goes.

    Of a file that was edited, or of which the ledger knows nothing, that is all that is in it.
    """
    name, path, found = resource.name, archive.aggregate(resource.name), 0
    if name in ledger.half_published():
        return 0  # what is behind the end is that
    try:
        behind = aggregates.end_whole(path, resource, ledger, archive.zone)
        if behind is None:
            return 0
        if resource in RESOURCES:
            found = know_rows(ledger, name, aggregates.rows_behind(path, *behind), now)
        ledger.know_aggregate(name, aggregates.as_it_is(path))
    except NotOurs as error:
        with suppress(OSError):
            aggregates.set_aside(path, f"is damaged ({error})", archive.zone)
    except (NotAFile, FileNotFoundError, PermissionError):
        pass  # publishing says so
    return found


def _go_on_publishing(archive: Archive, ledger: Ledger, now: datetime) -> None:
    """A lost ledger's files that wait are published, or to their end: those of each reading whose files are whole."""
    readings: dict[int, dict[str, Path]] = {}
    for path in archive.folder.iterdir():
        if (match := STAGED.fullmatch(path.name)) and match[2] in BY_NAME:
            readings.setdefault(int(match[1]), {})[match[2]] = path
    for pair, paths in sorted(readings.items()):
        heads = {name: _head(path) for name, path in paths.items()}
        if all(heads.values()):
            stem = archive.free_stem(now, ledger)
            for name, path in paths.items():
                new = know_rows(ledger, name, _rows(path, name), now) if name in IDS else 0
                ledger.stage([Staged(pair, name, stem, heads[name], new, size=0)])


def _head(path: Path) -> int:
    """Where rows begin (bytes) in a file that waits; 0 where it is not whole: the run that wrote it was cut."""
    try:
        with open_rows(path, errors="strict") as rows:
            head, width = rows.end, len(rows.header)
            whole = all(len(row) == width for row in rows)
        with open(path, "rb", opener=own) as file:
            file.seek(-2, os.SEEK_END)
            return head if whole and file.read() == b"\r\n" else 0
    except (CollectorError, OSError):
        return 0
