"""DATA_PARQUET: the files that are missing, made after a run in a process of its own, or by hand."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from pexip_history.archive.archive import Archive
from pexip_history.errors import DONE, CollectorError, printable
from pexip_history.run.progress import Progress
from pexip_history.settings.environment import SECRETS, Settings

LONGEST = 600.0
"""Seconds for those after a run."""
ALL = 1 << 62
"""Bytes of dated files."""

log = logging.getLogger("collector")


def make_apart(settings: Settings) -> None:
    """Make some of what is missing, in a process that gets no secret and ends with its time; for the end of a run.

    That it cannot be made is no reason for a run to fail: the next one tries again.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    program = [sys.executable, str(Path(sys.argv[0]).resolve()), "parquet", "--some"]
    try:
        done = subprocess.run(program, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST)
    except (subprocess.TimeoutExpired, OSError) as error:
        log.warning("Parquet files were not made: %s", printable(str(error)))
        return
    for line in done.stderr.decode(errors="replace").strip().splitlines()[-20:]:
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
        said = printable(str(error).partition("\n")[0], 300)
        full = "No space" in said
        raise CollectorError(
            f"{archive.data / 'parquet'}: {'the disk is full; free some space' if full else said}"
        ) from None
    finally:
        progress.close()
    if not some:
        print(f"{archive.data / 'parquet'}: {made} file{'' if made == 1 else 's'} made")
    return DONE
