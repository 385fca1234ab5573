"""Which files make up a table, what kind each is, and how DuckDB gets to them.

The folder is not ours alone: a name may be a FIFO's, a link's or a folder's, and a header may be of any length. What
is no file of the history is named, and left out.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import BinaryIO, TypeVar

from pexip_history.errors import printable
from pexip_history.folder.names import AGGREGATES, DATED
from pexip_history.folder.opening import NotAFile, behind_link, own
from pexip_history.history.schema import quoted
from pexip_history.messages import sentence
from pexip_history.resources import BY_NAME

T = TypeVar("T")
HEADER, LONGEST_HEADER = 1 << 13, 1 << 20
"""Bytes: as long as most are, and as long as one may be."""
MOST_COLUMNS = 1000
SPARE = 24
"""Cells beyond the header that a row may have where a user edited the file."""
BLOCK, PIECE = 1 << 20, 1 << 25
"""Bytes."""
LONGEST = 1 << 23
"""Of a row, in bytes: a conference of ten thousand lists the address of each."""
ALSO = {"conference": ("start_time",), "participant": ("start_time",), "stream": ("stream_type",)}
"""Columns besides the key and the time that a file of ours has."""


@dataclass(frozen=True)
class Remark:
    """Something that could not be read, for a person: the file's name, and what about it."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True)
class File:
    """A file of the history: its path (behind a link of the user's), its name, the columns of its header.

    `line_end` is what the header ends with.
    """

    path: Path
    name: str
    header: tuple[str, ...]
    line_end: str = "\r\n"


@dataclass
class Found:
    """The files of one table, dated ones oldest first, and what was left out."""

    aggregate: File | None = None
    dated: list[File] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def find(data: Path, resource: str) -> Found:
    """The files of a resource (`conference`, `stream` and so on). Raises OSError where the folder cannot be read."""
    found = Found()
    stem = BY_NAME[resource].stem
    found.aggregate = _look(data / AGGREGATES[resource], resource, found.remarks)
    dated = [path for path in data.iterdir() if (match := DATED.fullmatch(path.name)) and match[2] == stem]
    found.dated = look(dated, resource, found.remarks)
    return found


def look(dated: Iterable[Path], resource: str, remarks: list[Remark]) -> list[File]:
    """Those of these dated files that are the resource's, oldest first."""
    looked = (_look(path, resource, remarks) for path in sorted(dated))
    return [file for file in looked if file]


def _look(path: Path, resource: str, remarks: list[Remark]) -> File | None:
    """The file, if it is one of the history; a remark where something else is there."""
    name = printable(path.name)
    try:
        real = behind_link(path) if path.name == AGGREGATES[resource] else path
        with open(real, "rb", opener=own) as file:
            start = file.read(HEADER)
            if _after_header(start) == len(start):
                start += file.read(LONGEST_HEADER - len(start))
    except FileNotFoundError:
        return None
    except NotAFile as error:
        remarks.append(Remark(name, f"not read: {str(error).replace(f'{path} ', 'it ', 1)}"))
        return None
    except OSError as error:
        remarks.append(Remark(name, f"not read: {error.strerror}; make it readable"))
        return None
    if not start:
        return None  # nothing was ever written to it
    header = _header(start)
    if lack := _why_not(start, header, resource):
        remarks.append(Remark(name, f"not read: {lack}"))
        return None
    line = start.split(b"\n", 1)[0]
    return File(real, path.name, header, "\r\n" if line.endswith(b"\r") else "\n")


def _header(start: bytes) -> tuple[str, ...]:
    """The first row's cells; empty where it is none, or longer than any of ours."""
    text = start.decode("utf-8-sig", "replace")
    try:
        return tuple(cell.strip() for cell in next(csv.reader(io.StringIO(text, newline="")), []))
    except csv.Error:
        return ()


def _why_not(start: bytes, header: Sequence[str], resource: str) -> str:
    """Why it is no file of the history, and the fix; empty where it is one."""
    kind = BY_NAME[resource]
    needed = [*(name for name in kind.key if name != "id"), *ALSO.get(resource, ()), kind.time]
    missing = [name for name in needed if name not in header]
    if not missing and len(header) <= MOST_COLUMNS:
        return ""
    line = start.split(b"\n", 1)[0]
    if b"\0" in line:  # as half of each letter
        return sentence("saved-as-utf-16")
    for sign, word in ((b";", "semicolons"), (b"\t", "tabs")):
        if line.count(sign) > line.count(b","):
            return sentence("saved-with-separator", sign=word)
    if missing:
        return sentence("columns-missing", columns=", ".join(missing))
    return sentence("header-too-wide", columns=len(header))


@contextmanager
def opened(files: Sequence[File]) -> Iterator[list[str]]:
    """Paths under which DuckDB reads these very files: no globs, no link or FIFO that took a name since.

    Raises NotAFile, OSError. Some hundred files at once at most: each takes a descriptor.
    """
    with ExitStack() as stack:
        paths = []
        for file in files:
            descriptor = own(file.path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            paths.append(f"/dev/fd/{descriptor}")
        yield paths


def csv_options(width: int, tolerant: bool, line_end: str = "", types: Mapping[str, str] | None = None) -> str:
    """Of read_csv: every cell as text, those of the columns in `types` as that, and it fails where one is not.

    `line_end` is that of a piece, which has no header to learn it from.
    """
    header = f"false, new_line = {quoted(line_end.encode('unicode_escape').decode())}" if line_end else "true"
    names = (f"c{place}" for place in range(width + (SPARE if tolerant else 0)))
    columns = ", ".join(f"'{name}': '{(types or {}).get(name, 'VARCHAR')}'" for name in names)
    options = (
        f"header = {header}, delim = ',', quote = '\"', escape = '\"', auto_detect = false, parallel = false, "
        f"compression = 'none', max_line_size = {LONGEST}, buffer_size = {2 * LONGEST}, "
        f"columns = {{{columns}}}"
    )
    lenient = ", strict_mode = false, null_padding = true, store_rejects = true, rejects_limit = 0"
    return options + (lenient if tolerant else "")


def as_utf8(file: File, folder: Path) -> tuple[File, int]:
    """The file, or a copy in `folder` with each line that is no UTF-8 taken for Windows-1252; and how many were.

    Excel saves so ("CSV"), and the collector appends UTF-8 to it. Raises NotAFile, OSError.
    """
    with open(file.path, "rb", opener=own) as source:
        if all(map(_is_utf8, _lines(source))):
            return file, 0
        source.seek(0)
        copy, changed = folder / f"utf8-{file.name}", 0
        with open(copy, "wb") as target:
            for line in _lines(source):
                whole = _is_utf8(line)
                target.write(line if whole else _from_windows(line))
                changed += not whole
    return replace(file, path=copy), changed


def pieces(file: File, folder: Path, together: int) -> Iterator[list[File]]:
    """The file without its header, in pieces of PIECE bytes or a little more that end where a row does.

    So many at a time, which are there until the next but one are asked for. DuckDB's reader keeps the text of each cell
    that has quotes in it until it is through with a file, and takes a thread for each. Where a row ends is told by the
    quotes before it, as in all files that the collector writes. Raises NotAFile, OSError.
    """
    rest, more = b"", True
    with open(file.path, "rb", opener=own) as source:
        source.seek(_after_header(source.read(LONGEST_HEADER)))
        for turn in cycle((0, 1)):
            held = []
            for number in range(together if more else 0):
                path = folder / f"piece-{turn}-{number}-{file.name}"
                rest, more = _write_piece(source, path, rest)
                held.append(replace(file, path=path))
                if not more:
                    break
            if not held:
                return
            yield held


def ahead(each: Iterator[T]) -> Iterator[T]:
    """The same, each next one made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, each, None)
        while (one := following.result()) is not None:
            following = thread.submit(next, each, None)
            yield one


def _write_piece(source: BinaryIO, path: Path, rest: bytes) -> tuple[bytes, bool]:
    """Write the rest of the block before, and blocks up to the end of a row; the rest of that, and whether more is."""
    with open(path, "r+b" if path.exists() else "wb", opener=own) as target:  # over the old: its memory stays
        size, quotes = target.write(rest), rest.count(b'"')
        while block := source.read(BLOCK):
            size += len(block)
            quotes += block.count(b'"')
            cut = _last_end(block, quotes) if size > PIECE else 0
            target.write(block[:cut] if cut else block)
            if cut:
                break
        target.truncate()
    return (block[cut:], True) if block else (b"", False)


def _after_header(start: bytes) -> int:
    """Where the second row begins."""
    begin, quotes = 0, 0
    while end := start.find(b"\n", begin) + 1:
        quotes += start.count(b'"', begin, end)
        if quotes % 2 == 0:
            return end
        begin = end
    return len(start)


def _last_end(block: bytes, quotes: int) -> int:
    """Where the last row in the block ends, 0 for nowhere; `quotes` is how many there are up to the block's end."""
    end = len(block)
    while (place := block.rfind(b"\n", 0, end)) >= 0:
        quotes -= block.count(b'"', place, end)
        if quotes % 2 == 0:
            return place + 1
        end = place
    return 0


def _lines(source: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: source.readline(LONGEST), b"")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_windows(line: bytes) -> bytes:
    try:
        return line.decode("cp1252").encode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
