"""The aggregates: made ready to take rows, whatever a user did to them; rows appended, whole or not at all."""

from __future__ import annotations

import csv
import io
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

from pexip_history.folder.cells import header_line
from pexip_history.folder.names import format_stem
from pexip_history.folder.opening import NotAFile, behind_link, own
from pexip_history.folder.reading import BOM, MOST, NotOurs, header, open_rows, place_of
from pexip_history.folder.rewriting import new_file, rewrite, sync_folder
from pexip_history.ledger.ledger import Known, Ledger, Staged
from pexip_history.ledger.rewritten import as_it_is
from pexip_history.messages import sentence
from pexip_history.resources import BY_NAME, RESOURCES, Resource

LOOKED_INTO = 50
"""Dated files, the newest, in which a torn row is looked for."""

log = logging.getLogger("collector")


def columns_of(path: Path, resource: str) -> list[str] | None:
    """The file's columns; None where there is none, or one that is not ours. Raises NotAFile for a folder, OSError."""
    try:
        found = header(path)
    except (NotOurs, NotAFile):
        if behind_link(path).is_dir():
            raise
        return None
    return found if found and BY_NAME[resource].key[0] in found else None


def why_not_ours(path: Path) -> str:
    if not path.is_file():
        return "is no regular file"
    with open(behind_link(path), "rb", opener=own) as file:
        first = file.readline(1 << 16)
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16, not UTF-8"
    if first.count(b";") > first.count(b","):
        return "was saved with semicolons"
    return "has no header with the columns of the history"


def set_aside(path: Path, why: str, zone: ZoneInfo) -> Path:
    """Give a file that we cannot go on with another name."""
    other = _free_name(path, "set-aside", zone)
    path.rename(other)
    sync_folder(path.parent)
    log.warning(sentence("set-aside", file=path.name, why=why, other=other.name))
    return other


def _free_name(path: Path, what: str, zone: ZoneInfo) -> Path:
    first = f"{path.name}.{what}-{format_stem(datetime.now(zone))}"
    names = itertools.chain([first], (f"{first}-{number}" for number in itertools.count(1)))
    return next(path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))


# What was put behind the place up to which the ledger knows the file


def rows_behind(path: Path, known: int, until: int) -> Iterator[dict[str, str]]:
    """The rows between two bytes where rows end, by column name. Raises NotOurs, OSError."""
    with open_rows(path, known) as rows:
        for row in rows:
            if rows.end > until:
                return
            yield dict(zip(rows.header, row, strict=False))


def whole_until(
    path: Path, columns: Sequence[str], start: int, is_whole: Callable[[Sequence[str]], bool] = lambda cells: True
) -> int:
    """The byte up to which the file's rows are whole: its size, or where a last row begins that is torn.

    A copy that was made while the file was written has such a row: it lacks cells, or the end of one. Whether one that
    has all of them lacks but its line end, as some programs leave it, `is_whole` tells from the cells. Only what is
    behind `start`, where a row begins, is looked at. Raises NotOurs where a quote was opened further back, NotAFile,
    OSError.
    """
    with open(behind_link(path), "rb", opener=own) as file:
        size = file.seek(0, os.SEEK_END)
        if start == size:
            return size
        file.seek(start)
        is_open = sum(piece.count(b'"') for piece in iter(lambda: file.read(1 << 20), b"")) % 2
        first = max(start, size - MOST)
        file.seek(first)
        tail = file.read()
    tail = tail.rstrip(b"\0")  # lost in a power cut: the line end
    if not is_open and (not tail or tail.endswith((b"\n", b"\r"))):
        return size
    begins = _row_begins(tail, len(tail), is_open, first == start)
    last = tail[begins:] if begins is not None else b""
    if begins is not None and not is_open and len(cells := _cells(last)) >= len(columns) and is_whole(cells):
        return size
    before = begins and _row_begins(tail, begins - 1, 0, first == start)
    if begins is None or (before is not None and begins and len(_cells(tail[before:begins])) not in (0, len(columns))):
        if not is_open:
            return size
        raise NotOurs(f"{path.name}: a quote is open that nothing closes")
    return first + begins


def _row_begins(tail: bytes, end: int, is_open: int, whole: bool) -> int | None:
    """Where the row begins that ends at `end`: behind a line break that no quotes enclose."""
    quotes, place = 0, end
    while (found := tail.rfind(b"\n", 0, place)) >= 0:
        quotes += tail.count(b'"', found, place)
        if quotes % 2 == is_open:
            return found + 1
        place = found
    quotes += tail.count(b'"', 0, place)
    return 0 if whole and quotes % 2 == is_open else None


def _cells(row: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(row.decode("utf-8-sig", "replace").rstrip("\r\n"), newline="")), [])


def unknown_part(path: Path, resource: Resource, known: Known | None) -> tuple[list[str], int] | None:
    """The aggregate's columns, and from which byte on it is not what is known of it: 0 where it does not begin so.

    None where all of it is known, and where it is not ours. Raises NotAFile, OSError.
    """
    if (columns := columns_of(path, resource.name)) is None:
        return None
    size = behind_link(path).stat().st_size
    start = known.size if known and known.size <= size and as_it_is(path, known.size) == known else 0
    return (columns, start) if start < size else None


def end_whole(path: Path, resource: Resource, ledger: Ledger, zone: ZoneInfo) -> None:
    """Have the aggregate end in a whole row: a torn one is written to its end where a dated file has it, or goes to a
    file of its own. What is not ours is set aside. Raises NotAFile, OSError.
    """
    part = unknown_part(path, resource, ledger.aggregate(resource.name))
    if part is None:
        return
    columns, start = part

    def is_whole(cells: Sequence[str]) -> bool:
        return resource not in RESOURCES or ledger.has(resource.name, cells[columns.index("id")])

    try:
        until = whole_until(path, columns, start, is_whole)
    except NotOurs as error:
        set_aside(path, f"is damaged ({error})", zone)
        return
    if not _complete(path, resource, columns, start, until) and until < behind_link(path).stat().st_size:
        move_torn_row(path, until, columns, zone)


def _complete(path: Path, resource: Resource, columns: Sequence[str], start: int, until: int) -> bool:
    """Write a last row that has no line end, or that is torn at `until`, as one of the newest dated files has it.

    Its key must be whole: rows of one call begin alike.
    """
    with open(behind_link(path), "r+b", opener=own) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if until == size and file.read(1) in b"\r\n":
            return False
        first = file.seek(until if until < size else max(start, size - MOST))
        tail = file.read().rstrip(b"\0")
        begins = 0 if until < size else _row_begins(tail, len(tail), 0, first == start) or 0
        torn = tail[begins:]
        if len(_cells(torn)) <= 1 + max(place_of(columns, name) for name in resource.key) or torn.endswith(b"\r"):
            return False
        dated = sorted(path.parent.glob(f"????-??-??_??-??-??_{path.name}"), reverse=True)[:LOOKED_INTO]
        if not (rest := next(filter(None, (_rest(one, columns, torn) for one in dated)), b"")):
            return False
        file.seek(first + len(tail))
        file.write(rest)
        file.truncate()
        os.fsync(file.fileno())
    log.info("the last row of %s was torn; it was completed from the dated file that has it", path.name)
    return True


def _rest(dated: Path, columns: Sequence[str], torn: bytes) -> bytes:
    """What follows `torn` in the row of a dated file that begins with it; nothing where none does."""
    place, held = 0, b""
    with suppress(NotOurs, NotAFile, OSError), open(dated, "rb", opener=own) as file:
        if header(dated) != list(columns):
            return b""
        while piece := file.read(1 << 20):
            held += piece
            if (found := held.find(b"\n" + torn)) >= 0:
                begins = place + found + 1
                with open_rows(dated, begins) as rows:
                    next(iter(rows))
                file.seek(begins + len(torn))
                return file.read(rows.end - begins - len(torn))
            place += max(0, len(held) - len(torn))
            held = held[-len(torn) :]
    return b""


def move_torn_row(path: Path, begins: int, columns: Sequence[str], zone: ZoneInfo) -> None:
    """Move what is behind the byte `begins` to a file of its own."""
    other = _free_name(path, "unfinished", zone)
    with open(behind_link(path), "r+b", opener=own) as file:
        file.seek(begins)
        with new_file(other) as kept:
            kept.write(header_line(columns, False))
            kept.write(file.read(MOST))
        file.truncate(begins)
        os.fsync(file.fileno())
    log.warning(sentence("torn-row-moved", file=path.name, other=other.name))


# Appending


def prepare(path: Path, file: Staged, columns: Sequence[str], bom: bool, zone: ZoneInfo) -> None:
    """Make the aggregate ready to take rows under these columns.

    Its own rows stay what they are, so this can be repeated: what is not ours is set aside, a missing file is begun
    (also where the user's link leads), missing columns are added, a last line gets its end.
    """
    there, real = columns_of(path, file.resource), behind_link(path)
    if there is None and os.path.lexists(real) and (not real.is_file() or real.stat().st_size):
        set_aside(path, why_not_ours(path), zone)
    if there is None:
        with new_file(path) as target:
            target.write(header_line(columns, bom))
        return
    has_bom = _end_last_line(path)
    new = [name for name in columns if name not in there]
    bom = has_bom or bom
    if not new and bom == has_bom:
        return
    what = [f"the new columns {', '.join(new)}"] if new else []
    what += ["a byte order mark (DATA_CSV_BOM)"] if bom != has_bom else []
    try:
        with new_file(path) as target:
            rewrite(path, target, there, there + new, bom)
    except NotOurs as error:
        set_aside(path, f"cannot be read to its end ({error})", zone)
        with new_file(path) as target:
            target.write(header_line(columns, bom))
        return
    log.info("%s got %s", path.name, " and ".join(what))


def _end_last_line(path: Path) -> bool:
    """Give the last line its end; whether the file begins with a byte order mark."""
    with open(behind_link(path), "r+b", opener=own) as target:
        has_bom = target.read(3) == BOM
        place = target.seek(-2, os.SEEK_END)
        last = target.read().rstrip(b"\0")  # zeros: the line end that is written here, lost in a power cut
        if not last.endswith(b"\n"):
            target.seek(place + len(last))
            target.write(b"\n" if last.endswith(b"\r") else b"\r\n")
            target.flush()
            os.fsync(target.fileno())
    return has_bom


def append(path: Path, source: Path, start: int, size: int) -> bool:
    """Append what `source` has from byte `start` on behind `size`, or what is still missing of it.

    False where something else is there by now: someone changed the file in mid-publishing.
    """
    # Unbuffered: what a full disk refused must not be tried again when the file is closed.
    with open(source, "rb", opener=own) as rows, open(behind_link(path), "r+b", buffering=0, opener=own) as target:
        rows.seek(start)
        end = target.seek(0, os.SEEK_END)
        target.seek(size)
        if end < size or not _is_prefix(target, rows):
            return False
        rows.seek(start)  # from the beginning: of what is there a power cut may have lost parts
        target.seek(size)
        try:
            while piece := memoryview(rows.read(1 << 20)):
                while piece:
                    piece = piece[target.write(piece) :]
            os.fsync(target.fileno())
        except BaseException:  # a full disk, SIGTERM: no half of a row stays
            with suppress(OSError):
                os.ftruncate(target.fileno(), end)
            raise
    return True


def _is_prefix(target: IO[bytes], rows: IO[bytes]) -> bool:
    """Whether the rest of `target` begins `rows`. Bytes that a power cut lost are zeros there: they count as equal."""
    while piece := target.read(1 << 20):
        wanted = rows.read(len(piece))
        if len(wanted) < len(piece) or (
            wanted != piece and any(byte not in (0, right) for byte, right in zip(piece, wanted, strict=True))
        ):
            return False
    return True


def keys(path: Path, resource: str) -> Iterator[tuple[str, ...]]:
    """The keys of the file's whole rows. Raises NotOurs, OSError."""
    with open_rows(path) as rows:
        columns = rows.header
        places = [columns.index(name) if name in columns else None for name in BY_NAME[resource].key]
        for row in rows:
            if len(row) >= len(columns):
                yield tuple("" if place is None else row[place] for place in places)
