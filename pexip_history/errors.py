"""What can go wrong, and the sentence for it that a user reads."""

from __future__ import annotations

import errno
import os
import sqlite3
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pexip_history import __version__
from pexip_history.messages import sentence

DONE, FAILED, MISUSED, BUSY = 0, 1, 2, 75
"""Exit codes."""
LONGEST_LINE, QUOTED = 4000, 300
"""Characters: of a line, and of what a line repeats of a stranger's words."""


class CollectorError(Exception):
    """A run cannot go on; the text is one line for the user, with the fix in it."""


class NodeError(CollectorError):
    """The Management Node cannot be used as it answers now."""


class Refused(NodeError):
    """The node answered 400: it does not do what the query asks."""


class NotFound(NodeError):
    """The node answered 404."""


class TooLarge(NodeError):
    """The answer is larger than one answer may be."""


class Passing(NodeError):
    """A fault that may be over in a moment; `retry_after` (seconds) is the node's own advice."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class TooMany(Passing):
    """The node answered 429: its limit of requests is used up."""


class Busy(CollectorError):
    """Another run holds the lock."""


class Stopped(BaseException):
    """SIGTERM or SIGINT came."""


class SettingsError(Exception):
    """Every problem of every setting, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def explain(error: Exception, folder: Path) -> str:
    """One line for the user, with the fix in it; `folder` is the data folder."""
    if isinstance(error, CollectorError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        if "disk is full" in str(error):
            return sentence("disk-full", where=folder)
        return sentence("ledger-unusable", folder=folder, why=error)
    if isinstance(error, OSError):
        where = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return sentence("disk-full", where=where)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return sentence("not-allowed", where=where, why=error.strerror, user=os.geteuid())
        return sentence("file-fault", where=where, why=error.strerror or error, folder=folder)
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "nowhere"
    return sentence("unexpected", kind=type(error).__name__, place=place, version=__version__)


def printable(text: str, most: int = LONGEST_LINE) -> str:
    """The text for a line of a screen or a log: what would move the cursor or forge a line is shown as a code.

    The controls of ASCII and of Latin-1 (C1), separators of lines, and what turns the direction of writing.
    Of more than `most` characters the beginning.
    """
    if len(text) > most:
        text = f"{text[:most]}... ({len(text)} characters)"
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


@lru_cache(4096)
def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"):
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
