"""A file of ours that takes another's place: whole and synced, or not at all."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pexip_history.folder.cells import header_line
from pexip_history.folder.opening import behind_link, own
from pexip_history.folder.reading import open_rows


def rewrite(
    source: Path,
    target: IO[bytes],
    header: Sequence[str],
    columns: Sequence[str],
    bom: bool,
    drop: Callable[[dict[str, str]], object] | None = None,
) -> None:
    """Copy a file of ours under other columns, by name, in bounded memory.

    `header` are the source's columns. `drop` is shown rows by column name, and is true of those to leave out. Short
    rows are padded, cells beyond the header stay last, bytes that are not UTF-8 stay what they are. Raises NotOurs,
    NotAFile, OSError.
    """
    picks, width = _picks(header, columns), len(header)
    text = io.TextIOWrapper(target, "utf-8", "surrogateescape", newline="")
    text.write(header_line(columns, bom).decode())
    writer = csv.writer(text, lineterminator="\r\n")
    with open_rows(source, errors="surrogateescape") as rows:
        for row in rows:
            if drop and drop(dict(zip(header, row, strict=False))):
                continue
            have = len(row)
            writer.writerow([row[pick] if pick is not None and pick < have else "" for pick in picks] + row[width:])
    text.detach()


def _picks(header: Sequence[str], columns: Sequence[str]) -> list[int | None]:
    """Where each column is in the header; of one that is there twice the first, then the second."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(header):
        places.setdefault(name, []).append(place)
    return [places[name].pop(0) if places.get(name) else None for name in columns]


def draft_of(path: Path) -> Path:
    """Where the next `path` is written: beside the real file, which may be on another volume."""
    real = behind_link(path)
    return real.with_name(f"{real.name}.new")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` whole and synced, or not at all: where it fails, the draft is removed."""
    path, draft = behind_link(path), draft_of(path)
    try:
        with open(draft, "wb", opener=own) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if path.exists():
        shutil.copymode(path, draft)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames durable; some network shares know no such thing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
