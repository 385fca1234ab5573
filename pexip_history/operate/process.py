"""The process of a run: its signals and its memory, and another process beside it."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pexip_history.errors import Stopped, printable
from pexip_history.messages import sentence
from pexip_history.settings.environment import SECRETS

SIGNALS = (signal.SIGTERM, signal.SIGINT)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT = 16 << 20
"""Bytes: what a page's answer and its rows take. What is freed of so many is used again by the next page."""
TIME_LIMIT = 600.0
"""Seconds: a report of a million rows takes ten."""

log = logging.getLogger("collector")


def stop_on_signals() -> None:
    """From now on the first SIGTERM or SIGINT raises Stopped, and no other comes in between."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    ignore_signals()
    raise Stopped


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: by itself it returns a page's memory to the system, and gets it again.

    That takes a tenth of a run's CPU. One arena for all threads, of which one works at a time. Elsewhere nothing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, KEPT)):
            mallopt(name, value)


def run_apart(what: str, *arguments: str) -> tuple[list[str], list[str]] | None:
    """Run a command of the collector's in a process of its own: without a secret, and with an end.

    What it printed, and what it said on standard error; None where it failed, which is a warning. `what` is what it
    was to write.
    """
    import subprocess

    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    program = [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments]
    try:
        done = subprocess.run(program, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT)
        printed, said = (text.decode(errors="replace").strip().splitlines() for text in (done.stdout, done.stderr))
        if not done.returncode:
            return printed, said
        why = said[-1] if said else f"it ended with {done.returncode}"
    except (subprocess.TimeoutExpired, OSError) as error:
        why = str(error)
    log.warning(sentence("not-written", file=what, why=printable(why)))
    return None
