"""Ledger and files belong together: opened, made again where one is lost, and held to each other before each run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pexip_history.archive import aggregates
from pexip_history.archive.archive import Archive
from pexip_history.errors import CollectorError
from pexip_history.folder.opening import NotAFile
from pexip_history.folder.reading import NotOurs
from pexip_history.ledger.ledger import Ledger, Staged
from pexip_history.ledger.making import know_rows, make
from pexip_history.ledger.rewritten import settle_rewriting
from pexip_history.ledger.schema import LEDGER, SCHEMA_VERSION, closed_on_failure, open_to_write
from pexip_history.messages import sentence
from pexip_history.resources import RESOURCES, Resource

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
    with closed_on_failure(ledger.db):
        if ledger.version < SCHEMA_VERSION:
            _make(archive, ledger, now)
        settle_rewriting(ledger, archive.aggregate)
        _know_strangers(archive, ledger, now)
        for resource in archive.resources:
            _settle(archive, ledger, resource, now)
    return ledger


def _make(archive: Archive, ledger: Ledger, now: datetime) -> None:
    version, names = ledger.version, archive.dated_files()
    staged = ledger.staged() if version else []
    rows = {} if version == 2 else {each.name: _exported(archive, each.name, staged) for each in RESOURCES}
    count = make(ledger, rows, names, now)
    if version:
        since, stays = ledger.time_of("since"), ""
        if since:
            stays = f"; what ended before {since:%Y-%m-%d %H:%M} UTC stays uncollected unless DATA_SINCE asks for it"
        log.info("the ledger of version 1.%d was taken over%s", version - 1, stays)
    elif count:
        log.warning(sentence("ledger-rebuilt", rows=count))


def _exported(archive: Archive, resource: str, staged: Sequence[Staged]) -> Iterator[dict[str, str]]:
    """Every row that was exported, whichever file it is in; some come twice."""
    stem = archive.aggregate(resource).stem
    dated = sorted(name for name, of in archive.dated_files().items() if of == stem)
    waiting = [archive.waiting(file) for file in staged if file.resource == resource]
    for path in (archive.aggregate(resource), *(archive.data / name for name in dated), *waiting):
        yield from _rows(path, resource)


def _rows(path: Path, resource: str) -> Iterator[dict[str, str]]:
    """The whole rows of a file of ours, as far as they can be read; what cannot is said."""
    try:
        if columns := aggregates.columns_of(path, resource):
            yield from aggregates.rows_behind(path, 0, aggregates.whole_until(path, columns, 0))
    except FileNotFoundError:
        return
    except (NotOurs, NotAFile) as error:
        log.warning(sentence("rows-behind-unknown", why=error))


def _know_strangers(archive: Archive, ledger: Ledger, now: datetime) -> None:
    """Dated files that the ledger does not know were written after it: an older `.collector` was put back."""
    there, staged = archive.dated_files(), {archive.dated(file).name: file for file in ledger.staged()}
    # In place already, and waiting: the older ledger is of a time in which they waited.
    placed = {name: file for name, file in staged.items() if name in there and archive.waits(file)}
    known = ledger.files() | placed.keys()
    strange = sorted(there.keys() - known - staged.keys())
    count = 0
    with ledger.transaction():
        ledger.published([*placed.values()], [*placed], {})
        for resource in RESOURCES:
            for name in strange:
                if there[name] == resource.stem:
                    count += know_rows(ledger, resource.name, _rows(archive.data / name, resource.name), now)
        ledger.know_files(strange)
        ledger.forget_files(known - there.keys())
    if count:
        ledger.doubt("files that the ledger did not know")
        log.warning(sentence("files-newer-than-ledger", files=len(strange), folder=archive.folder, rows=count))


def _settle(archive: Archive, ledger: Ledger, resource: Resource, now: datetime) -> None:
    """What was put behind an aggregate's end since it was last written: rows are known, a torn one is moved away."""
    name, path = resource.name, archive.aggregate(resource.name)
    if name in ledger.half_published():
        return  # what is behind the end is that
    try:
        behind = aggregates.end_whole(path, name, ledger.aggregate(name), archive.zone)
        if behind is None:
            return
        if resource in RESOURCES and 0 < behind[0] < behind[1]:
            count = know_rows(ledger, name, aggregates.rows_behind(path, *behind), now)
            if count:
                log.info("%s has %d rows that were not known; they count as collected", path.name, count)
        ledger.know_aggregate(name, aggregates.as_it_is(path))
    except NotOurs as error:
        with suppress(OSError):
            aggregates.set_aside(path, f"is damaged ({error})", archive.zone)
    except (NotAFile, FileNotFoundError, PermissionError):
        return  # publishing says so
