"""DATA_PARQUET: the files that are missing, made after a run in a process of its own, or by hand."""

from __future__ import annotations

import logging
import sys

from pexip_history.archive.archive import Archive
from pexip_history.errors import DONE, CollectorError, printable
from pexip_history.messages import sentence
from pexip_history.operate.apart import run_apart
from pexip_history.run.saying import Progress
from pexip_history.settings.environment import Settings

ALL = 1 << 62
"""Bytes of dated files."""

log = logging.getLogger("collector")


def make_apart() -> None:
    """Make some of what is missing, for the end of a run; the next one makes what cannot be made now."""
    if done := run_apart("Parquet", "parquet", "--some"):
        for line in done[1][-20:]:
            log.warning("Parquet: %s", printable(line))


def make(settings: Settings, some: bool) -> int:
    """Make what is missing, or `some` of it. Raises Busy where a run is under way, CollectorError, OSError."""
    import duckdb

    from pexip_history.export.parquet import A_RUN, make_missing

    def tell(line: str) -> None:
        progress.close()
        print(printable(line), file=sys.stderr)

    progress, archive = Progress(), Archive(settings)
    try:
        with archive.lock():
            made = make_missing(archive.data, A_RUN if some else ALL, tell, progress.advance)
    except duckdb.Error as error:
        said, where = printable(str(error).partition("\n")[0], 300), archive.data / "parquet"
        full = "No space" in said
        raise CollectorError(
            sentence("disk-full", where=where) if full else sentence("export-fails", file=where, why=said)
        ) from None
    finally:
        progress.close()
    if not some:
        print(f"{archive.data / 'parquet'}: {made} file{'' if made == 1 else 's'} made")
    return DONE
