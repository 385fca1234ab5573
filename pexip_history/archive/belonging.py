"""Ledger and files belong together: opened, made again where one is lost, and held to each other before each run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pexip_history.archive import aggregates
from pexip_history.archive.archive import Archive
from pexip_history.errors import CollectorError
from pexip_history.folder.opening import NotAFile
from pexip_history.folder.reading import NotOurs
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.making import know_rows, make, take_over
from pexip_history.ledger.rewritten import as_it_is, settle_rewriting
from pexip_history.ledger.schema import LEDGER, SCHEMA_VERSION, closed_on_failure, open_to_write
from pexip_history.messages import counted, sentence
from pexip_history.resources import CONFERENCE, PARTICIPANT, RESOURCES, Resource

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
        dated = _know_dated(archive, ledger, now, waiting=version < SCHEMA_VERSION)
        found = sum(_settle(archive, ledger, resource, now) for resource in archive.resources)
        if 0 < version < SCHEMA_VERSION:
            take_over(ledger, version)
        _note_found(archive, ledger, version, dated, found)
        ledger.db.execute("PRAGMA cache_size = -2000")
    return ledger


def _note_found(archive: Archive, ledger: Ledger, version: int, dated: int, found: int) -> None:
    """Note and say how many records a ledger of this version did not know: in dated files, and then in aggregates."""
    if 0 < version < SCHEMA_VERSION:
        since, stays = ledger.time_of("since"), ""
        if since:
            stays = f"; what ended before {since:%Y-%m-%d %H:%M} UTC stays uncollected unless DATA_SINCE asks for it"
        log.info("the ledger of version 1.%d was taken over%s", version - 1, stays)
    elif dated and version:
        ledger.doubt("files had rows that the ledger did not know")
        log.warning(sentence("files-newer-than-ledger", folder=archive.folder, rows=dated))
    elif dated or (found and not version):
        ledger.note(rebuilt="yes", doubt="the ledger was rebuilt")  # the day is the node's to say
        for name in (CONFERENCE.name, PARTICIPANT.name):
            ledger.db.execute(f"UPDATE resource SET rows = (SELECT count(*) FROM {name}) WHERE name = ?", (name,))
        log.warning(sentence("ledger-rebuilt", rows=dated + found))
    elif found:
        log.info("the aggregates have %s that the ledger did not know: taken as collected", counted(found, "row"))


def _know_dated(archive: Archive, ledger: Ledger, now: datetime, *, waiting: bool) -> int:
    """Know the rows of dated files that the ledger does not know, and of those that wait; how many it did not.

    It was lost, or an older `.collector` was put back; one of 1.0 does not know the rows that wait.
    """
    there, staged = archive.dated_files(), {archive.dated(file).name: file for file in ledger.staged()}
    # In place already, and waiting: the older ledger is of a time in which they waited.
    placed = {name: file for name, file in staged.items() if name in there and archive.waits(file)}
    ledger.published([*placed.values()], [*placed], {})
    known, found = ledger.files(), 0
    strange = sorted(there.keys() - known)
    for resource in RESOURCES:
        paths = [archive.data / name for name in strange if there[name] == resource.stem]
        paths += [archive.waiting(file) for file in staged.values() if waiting and file.resource == resource.name]
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
    """Know what stands in an aggregate that the ledger did not write there; how many records it did not know.

    Of a file that was edited, or of which the ledger knows nothing, that is all that is in it. What to do with a last
    row without its line end is for publishing to say: a run that fails changes no file.
    """
    name, path, found = resource.name, archive.aggregate(resource.name), 0
    half = name in ledger.half_published()  # a part of those rows is behind the end, and perhaps more
    try:
        if part := aggregates.unknown_part(path, resource, ledger.aggregate(name)):
            columns, start = part
            until = aggregates.whole_until(path, columns, start, lambda cells: False)
            if resource in RESOURCES:
                found = know_rows(ledger, name, aggregates.rows_behind(path, start, until), now)
            if not half:
                ledger.know_aggregate(name, as_it_is(path, until))
            if ledger.staged():
                ledger.note(by_key="yes")
    except NotOurs as error:
        if not half:
            with suppress(OSError):
                aggregates.set_aside(path, f"is damaged ({error})", archive.zone)
    except (NotAFile, FileNotFoundError, PermissionError):
        pass  # publishing says so
    return found
