"""Where an export may be written: whole or not at all, and over nothing but an earlier export of ours.

Which files are exports of ours is noted in `.collector/export/written.jsonl`, by path and SHA-256: one that somebody
has changed since is theirs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pexip_history.errors import CollectorError, printable
from pexip_history.export.wanted import Misused
from pexip_history.folder.opening import KINDS, own, own_folder
from pexip_history.folder.rewriting import new_file, sync_folder
from pexip_history.messages import sentence

OURS = re.compile(
    r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_)?pexHistory.*|manifest\.jsonl.*|data_collector\.log.*|report.*\.html.*|\.collector"
    r"|parquet",
    re.IGNORECASE | re.DOTALL,
)
"""Names in the data folder that are the history's own."""
MOST, LONGEST = 1000, 1 << 16
PIECE = 1 << 20


@contextmanager
def explained(output: Path) -> Iterator[None]:
    """Raises CollectorError in place of what the disk and DuckDB say."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        said = printable(str(error).partition("\n")[0], 300)
        if "space" in said:
            raise CollectorError(sentence("disk-full", where=output)) from None
        raise CollectorError(sentence("export-fails", file=output, why=said)) from None
    except OSError as error:
        where = error.filename or output
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise CollectorError(sentence("disk-full", where=where)) from None
        raise CollectorError(sentence("export-not-written", file=output, where=where, why=error.strerror)) from None


def refuse(data: Path, output: Path) -> None:
    """Raises Misused where the output would be one of the history's own, CollectorError where it is not ours."""
    folder, own_folder_ = output.parent.resolve(), data.resolve()
    inside = folder == own_folder_ and OURS.fullmatch(output.name)
    if inside or any(own_folder_ / name in (folder, *folder.parents) for name in (".collector", "parquet")):
        raise Misused(sentence("output-is-the-historys", file=printable(str(output))))
    try:
        found = output.lstat()
    except FileNotFoundError:
        return
    kind = stat.S_IFMT(found.st_mode)
    if not stat.S_ISREG(kind):
        raise CollectorError(
            sentence("output-is-no-file", file=printable(str(output)), kind=KINDS.get(kind, "no file"))
        )
    if {"path": str(folder / output.name), "sha256": _digest(output)} not in _written(data):
        raise CollectorError(sentence("output-not-ours", file=printable(str(output))))


@contextmanager
def draft(data: Path, output: Path) -> Iterator[IO[bytes]]:
    """A file beside the output that takes its place at the end, synced; after an error nothing is left of it."""
    folder = output.parent.resolve()
    path = folder / f".{output.name}.{os.getpid()}.new"
    try:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _note(data, folder / output.name, _digest(path))
        refuse(data, output)  # somebody may have put something there meanwhile
        path.replace(folder / output.name)
        with suppress(OSError):  # a folder that can be written to and not be read
            sync_folder(folder)
    finally:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", opener=own) as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _list(data: Path) -> Path:
    own_folder(data / ".collector")
    own_folder(data / ".collector" / "export")
    return data / ".collector" / "export" / "written.jsonl"


def _written(data: Path) -> list[object]:
    found: list[object] = []
    with suppress(FileNotFoundError), open(_list(data), "rb", opener=own) as file:
        while len(found) < MOST and (line := file.readline(LONGEST)):
            with suppress(ValueError):
                found.append(json.loads(line))
    return found


def _note(data: Path, path: Path, digest: str) -> None:
    entries = [{"path": str(path), "sha256": digest}, *_written(data)][:MOST]
    with new_file(_list(data)) as file:
        file.write(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
