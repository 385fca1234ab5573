"""DATA_PARQUET: the files that are missing, made after a run in a process of its own, or by hand."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from pexip_history.archive.archive import Archive
from pexip_history.archive.parquet_rows import FOLDER, lacking
from pexip_history.errors import DONE, printable
from pexip_history.folder.opening import own_folder
from pexip_history.messages import counted
from pexip_history.operate.process import run_apart
from pexip_history.run.saying import Progress
from pexip_history.settings.environment import Settings

ALL = 1 << 62
"""Bytes of dated files."""

log = logging.getLogger("collector")


def make_apart(data: Path) -> None:
    """Make some of what is missing, for the end of a run; the next one makes what cannot be made now."""
    if lacking(data) and (done := run_apart("Parquet", "parquet", "--some")):
        for line in done[1][-20:]:
            log.warning("Parquet: %s", printable(line))


def make(settings: Settings, some: bool) -> int:
    """Make what is missing, or `some` of it. Raises Busy where a run is under way, CollectorError, OSError."""
    from pexip_history.export.output import explained
    from pexip_history.export.parquet import A_RUN, make_missing

    def tell(line: str) -> None:
        progress.close()
        print(printable(line), file=sys.stderr)

    progress, archive = Progress(), Archive(settings)
    folder = archive.data / FOLDER
    own_folder(archive.folder)
    try:
        with archive.lock(), explained(folder):
            made = make_missing(archive.data, A_RUN if some else ALL, tell, progress.advance)
    finally:
        progress.close()
    if not some:
        print(f"{folder}: {counted(made, 'file')} made")
    return DONE
