"""DuckDB, bounded in memory, and a folder for what it has no room for."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.folder.opening import own_folder
from pexip_history.history.schema import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "256MB"
THREADS = 2
GROUP = 1 << 14
"""Rows."""
EACH = 1
"""Seconds after which it is told again how far something is."""
KEPT = 86_400
"""Seconds that the folder of a process which was killed stays: it may be another's that still runs."""


@contextmanager
def workshop(data: Path, purpose: str) -> Iterator[Path]:
    """A folder `PURPOSE-...` in `.collector`, which has the room that the files have; gone afterwards.

    Raises NotAFile where something else has the name `.collector`, OSError.
    """
    hidden = data / ".collector"
    if data.is_dir():
        own_folder(hidden)
    clear(hidden.glob(f"{purpose}-*"))
    folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=hidden))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(folder: Path, memory: str = MEMORY, group: int = GROUP) -> Iterator[DuckDBPyConnection]:
    """DuckDB on disk in that folder, its clock UTC; it neither installs nor loads what did not come with it.

    `group` is how many rows are held in memory until they are written.
    """
    import duckdb

    # By its descriptor: DuckDB takes a \\ in a path for a /. And what follows a ? for options: there, tables are in
    # memory, and what has no room in it is beside.
    file = ":memory:" if "?" in str(folder.resolve()) else "history.duckdb"
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    by_descriptor = Path(f"/proc/self/fd/{held}")
    folder = by_descriptor if by_descriptor.is_dir() else folder
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "threads": THREADS,
        "temp_directory": str(folder),
        "extension_directory": str(folder),
        "home_directory": str(folder),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }
    with closing_descriptor(held), duckdb.connect(":memory:", config=settings) as db:
        # Rows are held in memory until a group is whole, and a row with its streams can have some kilobytes.
        path = quoted(file if file == ":memory:" else str(folder / file))
        db.execute(f"ATTACH {path} AS history (ROW_GROUP_SIZE {group}); USE history")
        db.execute("SET GLOBAL TimeZone = 'UTC'")
        db.execute("SET lock_configuration = true")
        yield db


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def told(progress: Callable[[str], None], what: str, share: Callable[[], float]) -> Iterator[None]:
    """Tells what is done, and while that takes longer than a second what share of it, 0 to 1, is; from a thread."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(EACH):
            if (percent := min(share() * 100, 100)) > 0:
                progress(f"{what}, {percent:.0f} %")

    progress(what)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def clear(paths: Iterable[Path]) -> None:
    """Remove what processes that were killed have left, KEPT seconds ago or longer; a link itself, not its target."""
    for path in paths:
        with suppress(FileNotFoundError):
            found = path.lstat()
            if found.st_mtime < time.time() - KEPT:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
