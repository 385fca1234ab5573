"""What follows a run, in a process of its own that has an end: a command, without a secret; or a copy of the run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from pexip_history.errors import explain, printable
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


def fork_apart(what: str, folder: Path, make: Callable[[], list[str]]) -> list[str]:
    """The lines that `make` returns, called in a copy of this process; none where it failed, which is a warning.

    For what takes less than an interpreter takes to start, and would leave its memory with the run. `what` is what it
    was to write, `folder` the data folder.
    """
    forking = get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)
    process = forking.Process(target=_answer, args=(sender, folder, make))
    with receiver:
        process.start()
        sender.close()
        try:
            said, why = (
                receiver.recv() if receiver.poll(TIME_LIMIT) else ([], f"it took longer than {TIME_LIMIT:.0f} s")
            )
        except EOFError:
            process.join()
            said, why = [], f"it ended with {process.exitcode}"
        finally:
            process.kill()
            process.join()
    if why:
        log.warning(sentence("not-written", file=what, why=printable(why)))
    return list(said)


def _answer(sender: Connection, folder: Path, make: Callable[[], list[str]]) -> None:
    """Send what `make` returned, and why it failed."""
    try:
        answer = (make(), "")
    except Exception as error:  # noqa: BLE001 - the run itself went well, whatever it is
        answer = ([], explain(error, folder))
    sender.send(answer)
