"""The log, on the screen and in the data folder."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from pexip_history.errors import printable
from pexip_history.folder.mounts import CRON_PID
from pexip_history.folder.opening import NotAFile, own
from pexip_history.messages import sentence
from pexip_history.settings.environment import Settings

LOG_BYTES, LOG_FILES = 5_000_000, 4
FIRST = "/proc/1/fd"
"""What the container's first process writes to, which is its log."""

log = logging.getLogger("collector")


_container: list[TextIO] = []
"""The container's own log, where this process does not write to it anyway."""


def find_container_log() -> None:
    """A run by hand (`docker exec`) is in `docker logs` too. To be called while still root: it is process 1's.

    Cron's runs, and a container that is there for one run, write to it already.
    """
    if os.geteuid() or os.getpid() == 1 or not CRON_PID.exists():
        return
    with suppress(OSError):
        ours = os.fstat(sys.stderr.fileno())
        if not any(os.path.samestat(ours, Path(f"{FIRST}/{number}").stat()) for number in (1, 2)):
            _container.append(open(f"{FIRST}/2", "w", encoding="utf-8", errors="backslashreplace"))  # noqa: SIM115


class Formatter(logging.Formatter):
    """Times in the settings' zone; what a node says forges no line."""

    def __init__(self, zone: ZoneInfo) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.zone = zone

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return f"{datetime.fromtimestamp(record.created, self.zone):%Y-%m-%d %H:%M:%S}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class Screen(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard error, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if "tqdm" not in sys.modules:
            return super().emit(record)
        from tqdm import tqdm

        return tqdm.write(self.format(record), file=sys.stderr)


class LogFile(logging.handlers.RotatingFileHandler):
    """The log in the data folder, opened as every file there is."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=own)


def open_log(settings: Settings, to_file: bool) -> None:
    """Lines on standard error, and in the data folder's log where this process holds the lock.

    A log file that cannot be written is a warning: the rows matter more.
    """
    logging.raiseExceptions = False

    handlers: list[logging.Handler] = [Screen(), *map(logging.StreamHandler, _container)]
    trouble = ""
    if to_file:
        path = settings.data_dir / "data_collector.log"
        try:
            handlers.append(
                LogFile(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace")
            )
        except (OSError, NotAFile) as error:
            trouble = getattr(error, "strerror", None) or str(error)
    for handler in handlers:
        handler.setFormatter(Formatter(settings.zone))
    log.handlers = handlers
    log.setLevel(settings.log_level)
    if trouble:
        log.warning(sentence("log-not-written", why=trouble))
