"""Rows of a CSV file of ours changed or left out, and every other byte as it was: the whole file, or nothing of it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pexip_history.errors import CollectorError
from pexip_history.folder.opening import behind_link, own
from pexip_history.folder.reading import Rows
from pexip_history.folder.rewriting import new_file

PIECE = 1 << 20
Change = Callable[[list[str]], Sequence[str] | None]
"""What becomes of a row: the very list where it stays as it is, another one, or None where it goes."""
Changing = Callable[[list[str]], Change]
"""The change for a file with these columns."""


@dataclass
class Edited:
    """How many rows were changed and left out, and what the file has now (bytes)."""

    changed: int = 0
    gone: int = 0
    size: int = 0


class Moved(CollectorError):
    """The file was written to while it was being rewritten."""


@contextmanager
def open_table(path: Path) -> Iterator[Rows]:
    """The rows of a file of ours, also of one that a spreadsheet saved with semicolons or tabs or in UTF-16.

    Raises NotOurs, NotAFile, OSError.
    """
    with open(behind_link(path), "rb", opener=own) as file:
        first, encoding, errors = file.readline(1 << 16), "utf-8", "surrogateescape"
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding, errors = "utf-16-le" if first[0] == 0xFF else "utf-16-be", "surrogatepass"
        delimiter = max(",", ";", "\t", key=first.decode(encoding, "replace").count)
        yield Rows(path, file, 0, errors, encoding, delimiter)


def emptied(row: list[str], places: Collection[int]) -> list[str]:
    """The row with these cells empty; the very list where they are."""
    full = any(place < len(row) and row[place] for place in places)
    return ["" if place in places else text for place, text in enumerate(row)] if full else row


def edit(path: Path, changing: Changing, ready: Callable[[Edited], None] = lambda edited: None) -> Edited:
    """Rewrite the file, if any row is another one then.

    `ready` is told when the new file is written and the old one still has its name. Raises Moved, NotOurs, NotAFile and
    OSError (a program has the file open, the disk is full); the file is as it was then.
    """
    edited, real, done = Edited(), behind_link(path), 0
    with ExitStack() as stack:
        source, table = stack.enter_context(open(real, "rb", opener=own)), stack.enter_context(open_table(path))
        before, change, target = os.fstat(source.fileno()), changing(table.header), None
        for row in table:
            new = change(row)
            if new is row:
                continue
            if not target:
                open(real, "r+b", opener=own).close()  # where a spreadsheet has it open, that is found out first
                target = stack.enter_context(new_file(path))
            _copy(source, target, done, table.begin)
            if new is None:
                edited.gone += 1
            else:
                edited.changed += 1
                target.write(_line(source, table, new))
            done = table.end
        if not target:
            return edited
        _copy(source, target, done, before.st_size)
        edited.size, now = target.tell(), real.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise Moved(f"{path.name} was written to meanwhile; close the program that has it open")
        ready(edited)
    return edited


def _copy(source: IO[bytes], target: IO[bytes], start: int, end: int) -> None:
    source.seek(start)
    while start < end and (piece := source.read(min(PIECE, end - start))):
        target.write(piece)
        start += len(piece)


def _line(source: IO[bytes], table: Rows, row: Sequence[str]) -> bytes:
    """The row as the file has its rows: with its separator, its encoding and its own line end."""
    source.seek(max(table.begin, table.end - 4))
    end = source.read(table.end - source.tell()).decode(table.encoding, "replace")
    text = io.StringIO()
    csv.writer(text, delimiter=table.delimiter, lineterminator="\r\n").writerow(row)
    ended = text.getvalue().removesuffix("\r\n") + end[len(end.rstrip("\r\n")) :][-2:]
    return ended.encode(table.encoding, table.errors)
