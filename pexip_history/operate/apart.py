"""A command of the collector's in a process of its own: without a secret, and with an end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

from pexip_history.errors import printable
from pexip_history.messages import sentence
from pexip_history.settings.environment import SECRETS

TIME_LIMIT = 600.0
"""Seconds: a report of a million rows takes ten."""

log = logging.getLogger("collector")


def run_apart(what: str, *arguments: str) -> tuple[list[str], list[str]] | None:
    """What the command printed, and what it said on standard error; None where it failed, which is a warning.

    `what` is what it was to write.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    program = [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments]
    try:
        done = subprocess.run(program, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT)
    except (subprocess.TimeoutExpired, OSError) as error:
        log.warning(sentence("not-written", file=what, why=printable(str(error))))
        return None
    printed, said = (text.decode(errors="replace").strip().splitlines() for text in (done.stdout, done.stderr))
    if done.returncode:
        why = printable(said[-1]) if said else f"it ended with {done.returncode}"
        log.warning(sentence("not-written", file=what, why=why))
        return None
    return printed, said
