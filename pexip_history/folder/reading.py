"""CSV files of ours, whatever somebody made of them: read in bounded pieces, with the place where each row ends.

A row takes memory as far as it is one that the collector may have written. A stray quote, a line without end and the
zeros that a power cut left are found out at `MOST` bytes, and the file is refused by name.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pexip_history.errors import CollectorError
from pexip_history.folder.opening import behind_link, own
from pexip_history.messages import sentence

MOST = 8 << 20
"""Bytes of a row, and so of a cell: no answer of the node has more than 6 MB."""
MOST_CELLS = 10_000
"""Of a row: an aggregate has hundreds at most."""
UNCOUNTED = 1 << 16
"""Bytes of a row whose cells need no counting, for so few cannot be too many."""
BOM = b"\xef\xbb\xbf"
csv.field_size_limit(MOST)  # characters, of which a row has no more than bytes


def place_of(columns: Sequence[str], *names: str) -> int:
    """Where the first of these columns is that is there; -1 where none is."""
    return next((columns.index(name) for name in names if name in columns), -1)


def cell_of(row: Sequence[str], place: int) -> str:
    """The cell; empty in a file without the column, and in a row that is shorter than its header."""
    return row[place] if 0 <= place < len(row) else ""


class NotOurs(CollectorError):
    """A file has a name of ours and holds what the collector never writes."""


class Rows:
    """The rows behind the header of an open file, as lists of text; lines with nothing in them are passed over.

    Iterating raises NotOurs and OSError. While a row is looked at, `begin` and `end` are the bytes in the file where it
    begins and where it ends, its line end included. After the last row `end` is the length of the file.
    `open_rows(path, start=...)` goes on at either. `header` are the columns; [] where the file is empty. `encoding`,
    `errors` and `delimiter` are how it is written.
    """

    def __init__(
        self, path: Path, file: IO[bytes], start: int, errors: str, encoding: str = "utf-8", delimiter: str = ","
    ) -> None:
        self._path, self._file, self.errors, self.encoding, self.delimiter = path, file, errors, encoding, delimiter
        # As csv reads it: a quote opens where a cell begins, two in it are one of the text. It takes no memory.
        self._quoted = re.compile(f'(?:(?<={delimiter})|^)"[^"]*+(?:""[^"]*+)*+"?')
        self.begin = self.end = self._row = self._cells = 0
        self._open = False
        self.header = next(self._parsed(), [])
        self.begin = self.end = self._row = max(start, self.end)

    def __iter__(self) -> Iterator[list[str]]:
        return filter(None, self._parsed())

    def _parsed(self) -> Iterator[list[str]]:
        try:
            for row in csv.reader(self._lines(), delimiter=self.delimiter):
                self.begin, self._row = self._row, self.end
                self._open, self._cells = False, 0
                yield row
        except (csv.Error, UnicodeError) as error:
            raise self._not_ours(f"what cannot be read ({error})") from None

    def _lines(self) -> Iterator[str]:
        """Each line as text, counted; csv asks for the next one only in mid-row, or when the row was taken."""
        self._file.seek(self.end)
        kept = "surrogateescape" if self.encoding == "utf-8" else self.errors  # with it bytes are counted right
        text = io.TextIOWrapper(self._file, self.encoding, kept, newline="")
        try:
            while line := text.readline(MOST + 1):
                first = not self.end
                if self.encoding == "utf-8" and line.isascii():
                    self.end += len(line)
                else:
                    content = line.encode(self.encoding, kept)
                    self.end += len(content)
                    line = content.decode(self.encoding, self.errors)
                if self.end - self._row > UNCOUNTED:
                    self._check(line)
                self._open = True
                yield line.removeprefix("\ufeff") if first else line
        finally:
            with suppress(ValueError):  # the file is closed
                text.detach()

    def _check(self, line: str) -> None:
        """Refuse a row that has become larger than one of ours is."""
        if self.end - self._row > MOST:
            raise self._not_ours(f"a row of more than {MOST >> 20} MB: a quote is open, or lines have no end")
        sign = self.delimiter
        line = '"' + line if self._open else line
        self._cells += line.count(sign) - sum(line.count(sign, *q.span()) for q in self._quoted.finditer(line))
        if self._cells > MOST_CELLS:
            raise self._not_ours(f"a row of more than {MOST_CELLS} cells")

    def _not_ours(self, what: str) -> NotOurs:
        return NotOurs(sentence("never-written", file=self._path, byte=self._row, what=what))


@contextmanager
def open_rows(path: Path, start: int = 0, errors: str = "replace") -> Iterator[Rows]:
    """The rows of an aggregate or a dated file, opened as our own.

    With `start`, the rows from that byte on, where a row begins (or ends), behind the header in any case. `errors`
    is what is done with bytes that are not UTF-8: "replace", or "surrogateescape" to write them again as they were.
    Raises NotOurs, NotAFile, FileNotFoundError, other OSErrors.
    """
    with open(behind_link(path), "rb", opener=own) as file:
        yield Rows(path, file, start, errors)


def header(path: Path) -> list[str] | None:
    """The columns of a file of ours; [] of an empty one, None where there is none. Raises what `open_rows` does."""
    try:
        with open_rows(path) as rows:
            return rows.header
    except FileNotFoundError:
        return None
