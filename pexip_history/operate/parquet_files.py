"""DATA_PARQUET: the files that are missing, made after a run in a process of its own, or by hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from pexip_history.archive.archive import Archive
from pexip_history.archive.parquet_rows import FOLDER, lacking
from pexip_history.errors import DONE, printable
from pexip_history.folder.opening import own_folder
from pexip_history.operate.apart import fork_apart
from pexip_history.run.saying import Progress
from pexip_history.settings.environment import Settings

ALL = 1 << 62
"""Bytes of dated files."""

log = logging.getLogger("collector")


def make_apart(settings: Settings) -> None:
    """Make some of what is missing, for the end of a run; the next one makes what cannot be made now."""
    if lacking(settings.data_dir):
        for line in fork_apart("Parquet", settings.data_dir, lambda: _some(settings)):
            log.warning("Parquet: %s", printable(line))


def _some(settings: Settings) -> list[str]:
    """Make some, and return the last lines of what there is to say. Raises as `_make`."""
    from pexip_history.export.parquet import A_RUN

    said: list[str] = []
    _make(settings, A_RUN, said.append)
    return said[-20:]


def make(settings: Settings) -> int:
    """Make what is missing. Raises Busy where a run is under way, CollectorError, OSError."""

    def tell(line: str) -> None:
        progress.close()
        print(printable(line), file=sys.stderr)

    progress = Progress()
    try:
        made = _make(settings, ALL, tell, progress.advance)
    finally:
        progress.close()
    print(f"{settings.data_dir / FOLDER}: {made} file{'' if made == 1 else 's'} made")
    return DONE


def _make(
    settings: Settings,
    most: int,
    tell: Callable[[str], None],
    progress: Callable[[str, int, int], None] = lambda what, done, every: None,
) -> int:
    """As `make_missing`, with the lock, and Busy where a run holds it."""
    from pexip_history.export.output import explained
    from pexip_history.export.parquet import make_missing

    archive = Archive(settings)
    own_folder(archive.folder)
    with archive.lock(), explained(archive.data / FOLDER):
        return make_missing(archive.data, most, tell, progress)
