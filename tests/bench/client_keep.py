"""DATA_KEEP_HISTORY_DAYS applied to a data folder as a run does: `python -m tests.bench.client_keep FOLDER DAYS`."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC

from pexip_history.archive.archive import Archive
from pexip_history.archive.belonging import open_ledger
from pexip_history.archive.keeping import forget_old
from pexip_history.settings.environment import read_settings

from .records import LAST

environment = {"DATA_DIR": sys.argv[1], "DATA_KEEP_HISTORY_DAYS": sys.argv[2]}
archive, now = Archive(read_settings(environment, node=False)), LAST.replace(tzinfo=UTC)
with archive.lock(), closing((ledger := open_ledger(archive, now)).db):
    forget_old(archive, ledger, now)
