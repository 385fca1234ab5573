"""`manifest.jsonl`: a line for each dated file once it is in place, for those who load the files elsewhere.

A line is a JSON object: `name`, `rows`, `bytes`, `sha256`, and `spans`, the spans [[start, end], ...] that the file's
run added to coverage (UTC, as `status --json` writes them; null where the file is older than the manifest). A loader
takes each name once. What the collector does to a file later is a further line of the same name, with `change`:
`erased` (cells were emptied or rows removed; the figures are the new ones) or `removed` (the file is gone, as
DATA_KEEP_DAYS asks).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pexip_history.errors import CollectorError
from pexip_history.folder.names import DATED
from pexip_history.folder.opening import other_kind, own
from pexip_history.folder.rewriting import sync_folder
from pexip_history.messages import sentence

NAME = "manifest.jsonl"
ERASED, REMOVED = "erased", "removed"
LARGEST, LONGEST = 1 << 30, 1 << 20
"""Bytes: of the manifest, whose lines for a hundred years come to 40 MB, and of a line."""
PIECE = 1 << 20
A_RUN = 1 << 32
"""Bytes of files without a line that one call reads: a folder of years gets its lines over some runs."""

Spans = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Written:
    """What a run knows of a dated file that it has published."""

    rows: int
    spans: Spans


@dataclass(frozen=True)
class Entry:
    """What the manifest says of a file; `change` is empty for one as it was written."""

    name: str
    rows: int = 0
    size: int = 0
    sha256: str = ""
    spans: Spans | None = None
    change: str = ""

    def line(self) -> bytes:
        fields: dict[str, object] = {"name": self.name}
        if self.change:
            fields["change"] = self.change
        if self.change != REMOVED:
            fields |= {"rows": self.rows, "bytes": self.size, "sha256": self.sha256}
        if not self.change:
            fields["spans"] = None if self.spans is None else [list(span) for span in self.spans]
        return json.dumps(fields).encode() + b"\n"


def note(data: Path, written: Mapping[str, Written] | None = None, most: int = A_RUN) -> int:
    """Add a line for each dated file that has none, and return how many were added.

    `written` are the files that the run has just published, by their names; these come first, then the oldest.
    Of the others as many as have `most` bytes together. Can be cut anywhere and repeated. For the
    process that holds the lock. Raises CollectorError, OSError.
    """
    given = written or {}
    known = {entry.name for entry in entries(data)}
    there = [path.name for path in sorted(data.glob("*_pexHistory*.csv")) if DATED.fullmatch(path.name)]
    lacking = [name for name in there if name not in known and not other_kind(data / name)]
    names = [name for name in lacking if name in given]
    for name in lacking:
        most -= 0 if name in given else (data / name).lstat().st_size
        names += [name] if name not in given and most >= 0 else []
    if names:
        _append(data, (measure(data / name, given.get(name)) for name in names))
    return len(names)


def note_change(data: Path, change: str, names: Iterable[str]) -> None:
    """Add a line for each of the dated files that were rewritten (ERASED) or are gone (REMOVED), if they had one.

    For the process that holds the lock. Raises CollectorError, OSError.
    """
    now = latest(data)
    gone = change == REMOVED
    changed = (Entry(name, change=change) if gone else measure(data / name, change=change) for name in names)
    _append(data, (entry for entry in changed if entry.name in now and entry != now[entry.name]))


def latest(data: Path) -> dict[str, Entry]:
    """What the manifest says last of each file, in its own order. Raises CollectorError, OSError."""
    return {entry.name: entry for entry in entries(data)}


def entries(data: Path) -> Iterator[Entry]:
    """The lines, in their order, but for those that nobody can read. Raises CollectorError, OSError."""
    with suppress(FileNotFoundError), open(data / NAME, "rb", opener=own) as file:
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise CollectorError(sentence("manifest-too-large", file=data / NAME))
        while line := file.readline(LONGEST):
            if entry := _read(line):
                yield entry


def _read(line: bytes) -> Entry | None:
    try:
        fields = json.loads(line)
        spans = fields.get("spans")
        entry = Entry(
            str(fields["name"]),
            int(fields.get("rows", 0)),
            int(fields.get("bytes", 0)),
            str(fields.get("sha256", "")),
            None if spans is None else tuple((str(start), str(end)) for start, end in spans),
            str(fields.get("change", "")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return entry if DATED.fullmatch(entry.name) and entry.change in ("", ERASED, REMOVED) else None


def measure(path: Path, written: Written | None = None, change: str = "") -> Entry:
    """A file's line, read in pieces. A row ends at a line break that is not within quotes."""
    digest, size, breaks, quotes, last = hashlib.sha256(), 0, 0, 0, b"\n"
    with open(path, "rb", opener=own) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
            if written:
                continue  # a seventh of a run's time: it knows how many rows it wrote
            parts = piece.split(b'"')
            breaks += b"".join(parts[quotes % 2 :: 2]).count(b"\n")
            quotes += len(parts) - 1
            last = piece[-1:]
    rows = written.rows if written else max(breaks + (last != b"\n") - 1, 0)
    return Entry(path.name, rows, size, digest.hexdigest(), written.spans if written else None, change)


def _append(data: Path, new: Iterable[Entry]) -> None:
    """Write each line whole, and sync them; of one that a full disk cuts, nothing stays."""
    path = data / NAME
    fresh = not path.exists()
    with open(path, "w+b" if fresh else "r+b", buffering=0, opener=own) as file:
        end = _end(file)
        for entry in new:
            line = memoryview(entry.line())
            try:
                while line:
                    line = line[file.write(line) :]
            except BaseException:
                with suppress(OSError):
                    file.truncate(end)
                raise
            end = file.tell()
        os.fsync(file.fileno())
    if fresh:
        sync_folder(data)


def _end(file: IO[bytes]) -> int:
    """Where the next line begins. A last line that a crash cut is removed: its file gets another one."""
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(size - LONGEST, 0))
    tail = file.read(LONGEST)
    whole = tail.rfind(b"\n") + 1
    if whole == len(tail):
        return size
    if _read(tail[whole:]):  # an editor took the line break
        return size + file.write(b"\n")
    file.truncate(begin + whole)
    return file.seek(begin + whole)
