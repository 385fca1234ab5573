"""A file of ours that takes another's place: whole and synced, or not at all."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pexip_history.folder.cells import header_line
from pexip_history.folder.opening import behind_link, own


def rewrite(
    source: Path,
    target: IO[bytes],
    header: Sequence[str],
    columns: Sequence[str],
    bom: bool,
    drop: Callable[[dict[str, str]], bool] | None = None,
) -> None:
    """Copy a file of ours under other columns, by name, but for rows to drop.

    `header` are the source's columns; short rows are padded, cells beyond the header stay last.
    """
    picks = [header.index(name) if name in header else None for name in columns]
    text = io.TextIOWrapper(target, "utf-8", "surrogateescape", newline="", write_through=True)
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        text.write(header_line(columns, bom).decode())
        reader, writer = csv.reader(lines), csv.writer(text, lineterminator="\r\n")
        next(reader, None)
        for row in reader:
            if not row or (drop and drop(dict(zip(header, row, strict=False)))):
                continue
            width = len(row)
            writer.writerow(
                [row[pick] if pick is not None and pick < width else "" for pick in picks] + row[len(header) :]
            )
    text.detach()


def draft_of(path: Path) -> Path:
    """Where the next `path` is written: beside the real file, which may be on another volume."""
    real = behind_link(path)
    return real.with_name(f"{real.name}.new")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` whole and synced, or not at all."""
    path, draft = behind_link(path), draft_of(path)
    with open(draft, "wb", opener=own) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, draft)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames durable; some network shares know no such thing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
