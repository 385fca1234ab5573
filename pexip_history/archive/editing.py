"""Rows of a CSV file of ours changed or left out, and every other byte as it was: the whole file, or nothing of it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pexip_history.errors import CollectorError
from pexip_history.folder.opening import behind_link, own
from pexip_history.folder.reading import MOST, NotOurs, Rows, open_rows
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


class OtherRows:
    """The rows of a file that a spreadsheet saved, with semicolons or tabs or in UTF-16, as `reading.Rows` has them.

    `begin` and `end` are the bytes of the row that is looked at. Raises NotOurs where it cannot be read.
    """

    def __init__(self, path: Path, file: IO[bytes], encoding: str, delimiter: str, start: int) -> None:
        self.encoding, self.delimiter, self._path = encoding, delimiter, path
        self.begin = self.end = self._row = start
        file.seek(start)
        self._text = io.TextIOWrapper(file, encoding, _errors(encoding), newline="")
        self._rows = self._parsed()
        self.header = next(self._rows, [])

    def __iter__(self) -> Iterator[list[str]]:
        return filter(None, self._rows)

    def _parsed(self) -> Iterator[list[str]]:
        try:
            for row in csv.reader(self._lines(), delimiter=self.delimiter):
                self.begin, self._row = self._row, self.end
                yield row
        except (csv.Error, UnicodeError) as error:
            raise NotOurs(f"{self._path} cannot be read ({error})") from None

    def _lines(self) -> Iterator[str]:
        while line := self._text.readline(MOST):
            self.end += len(line.encode(self.encoding, _errors(self.encoding)))
            if self.end - self._row > MOST:
                raise NotOurs(f"{self._path} cannot be read (a row of more than {MOST >> 20} MB)")
            yield line


def _errors(encoding: str) -> str:
    return "surrogateescape" if encoding == "utf-8" else "surrogatepass"


@contextmanager
def open_table(path: Path) -> Iterator[Rows | OtherRows]:
    """The rows of a file of ours, also of one that was saved in a spreadsheet's own form.

    Raises NotOurs, NotAFile, OSError.
    """
    with open(behind_link(path), "rb", opener=own) as file:
        first = file.readline(1 << 16)
        encoding, delimiter, start = "utf-8", max(b",", b";", b"\t", key=first.count).decode(), 0
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding, start = "utf-16-le" if first[0] == 0xFF else "utf-16-be", 2
            text = first[2:].decode(encoding, "replace")
            delimiter = max(",", ";", "\t", key=text.count)
        if (encoding, delimiter) != ("utf-8", ","):
            start = start or 3 * first.startswith(b"\xef\xbb\xbf")
            yield OtherRows(path, file, encoding, delimiter, start)
            return
    with open_rows(path, errors="surrogateescape") as rows:
        yield rows


def emptied(row: list[str], places: Collection[int]) -> list[str]:
    """The row with these cells empty; the very list where they are."""
    full = any(place < len(row) and row[place] for place in places)
    return ["" if place in places else text for place, text in enumerate(row)] if full else row


def would_change(path: Path, changing: Changing) -> bool:
    """Whether any row would; reads as far as the first. Raises what `open_table` does."""
    with open_table(path) as table:
        change = changing(table.header)
        return any(change(row) is not row for row in table)


def edit(path: Path, changing: Changing, ready: Callable[[Edited], None] = lambda edited: None) -> Edited:
    """Rewrite the file. `ready` is told when the new one is written and the old one still has its name.

    Raises Moved, NotOurs, NotAFile and OSError (a program has the file open, the disk is full); the file is as it was
    then.
    """
    edited, real = Edited(), behind_link(path)
    open(real, "r+b", opener=own).close()  # where a spreadsheet has it open, that is found out before the work
    with open(real, "rb", opener=own) as source, open_table(path) as table, new_file(path) as target:
        before, change, done = os.fstat(source.fileno()), changing(table.header), 0
        for row in table:
            new = change(row)
            if new is row:
                continue
            _copy(source, target, done, table.begin)
            if new is None:
                edited.gone += 1
            else:
                edited.changed += 1
                target.write(_line(source, table, new))
            done = table.end
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


def _line(source: IO[bytes], table: Rows | OtherRows, row: Sequence[str]) -> bytes:
    """The row as the file has its rows: with its separator, its encoding and its own line end."""
    encoding, delimiter = ("utf-8", ",") if isinstance(table, Rows) else (table.encoding, table.delimiter)
    source.seek(max(table.begin, table.end - 4))
    end = source.read(table.end - source.tell()).decode(encoding, "replace")
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(row)
    ended = text.getvalue().removesuffix("\r\n") + end[len(end.rstrip("\r\n")) :][-2:]
    return ended.encode(encoding, _errors(encoding))
