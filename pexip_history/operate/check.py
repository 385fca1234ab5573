"""What must hold before a run can go well, a line each."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from pexip_history import __version__
from pexip_history.errors import DONE, FAILED, QUOTED, CollectorError, Refused, TooLarge, explain, printable
from pexip_history.folder.mounts import is_mount
from pexip_history.folder.opening import own, own_folder
from pexip_history.messages import counted, sentence
from pexip_history.node.answers import PageReader, decode
from pexip_history.node.api import Node
from pexip_history.node.certificates import describe
from pexip_history.node.connection import peer_certificate
from pexip_history.node.records import page_of
from pexip_history.operate import running
from pexip_history.operate.notify import described, host_of, try_all
from pexip_history.operate.status import peek, say
from pexip_history.resources import CONFERENCE
from pexip_history.settings.environment import Settings

PROBE = 1 << 16
"""Bytes that are written to see whether the data folder takes any."""
LEAST_FREE, LITTLE_FREE = 100_000_000, 1_000_000_000  # bytes: a run may need the first


OF_THE_NODE = ("name", "TLS", "credentials", "history", "clock")
OK, INFO, WARN, FAIL = "ok", "info", "warn", "FAIL"
"""Tried and found so; neither right nor wrong; what the runs can do with, and a person should know of; to be fixed."""
COLOURS = {OK: 32, INFO: 36, WARN: 33, FAIL: 31}
Found = tuple[str, str]  # mark, what is said


def check(settings: Settings, notify: bool = False) -> int:
    """One line for each thing that must hold: ok, or how to fix it."""
    failed = False
    for label, mark, said in rows(settings, notify):
        failed = failed or mark == FAIL
        _say(label, mark, said)
    return FAILED if failed else DONE


def at_start(settings: Settings) -> int:
    """The same in short, for the log of a container that begins: what is so, and what the first run will do.

    What it finds stops nothing. The settings are left in the data folder for a later `check`.
    """
    try:
        running.note(settings.data_dir, os.environ)
    except (CollectorError, OSError) as error:
        _say("container", WARN, explain(error, settings.data_dir), sys.stderr)
    say(f"Version {__version__} of the collector, for {settings.address}", sys.stderr)
    failed, history = "", ""
    for label, mark, said in rows(settings, notify=False):
        history = said if (label, mark) == ("history", OK) else history
        failed = failed or (f"{label}: {said}" if mark == FAIL else "")
        if mark in (WARN, FAIL):
            _say(label, mark, said, sys.stderr)
    with suppress(CollectorError, OSError):  # said above
        running.note_failure(settings.data_dir, failed)
    if failed:
        say("The container goes on, and its runs will try.", sys.stderr)
    else:
        say(f"The node has {history}" if history[:1].isdigit() else history.capitalize(), sys.stderr)
        say(_next_run(settings), sys.stderr)
    return DONE


def _next_run(settings: Settings) -> str:
    try:
        ledger = peek(settings)
    except (CollectorError, OSError, sqlite3.Error) as error:
        return f"What the next run collects is unknown: {explain(error, settings.data_dir)}"
    if covered := ledger["coverage"]:
        return f"The next run collects what is new since {covered[-1][1]} UTC, and what is missing before that"
    if ledger["runs"]:
        return "The next run collects what is new, and what is missing before that"
    return (
        "The first run collects the day before it as a pair of files of its own, then what the node still has of the"
        f" time before that{f', back to {settings.since:%Y-%m-%d %H:%M} UTC (DATA_SINCE)' if settings.since else ''}"
    )


def rows(settings: Settings, notify: bool) -> Iterator[tuple[str, str, str]]:
    """Of each thing that is looked at the label, the mark and what is said.

    Where the node does not answer, what depends on it is left out.
    """
    node = Node(settings)
    checks: tuple[tuple[str, Callable[[], Found | None]], ...] = (
        ("settings", lambda: _check_settings(settings)),
        ("name", lambda: _check_name(settings)),
        ("TLS", lambda: _check_tls(settings)),
        ("credentials", lambda: _check_credentials(settings, node)),
        ("history", lambda: _check_history(node)),
        ("clock", lambda: _check_clock(node)),
        ("data folder", lambda: _check_folder(settings)),
        ("schedule", lambda: _check_schedule(settings)),
        ("container", lambda: _check_container(settings)),
        ("told of failures", lambda: _check_told(settings, notify)),
    )
    node_fails = False
    for label, look in checks:
        if node_fails and label in OF_THE_NODE:
            continue
        try:
            if found := look():
                yield label, *found
        except Exception as error:  # noqa: BLE001 - whatever a stranger's answer brings, the other lines come too
            node_fails = label in ("name", "TLS", "credentials")
            yield label, FAIL, explain(error, settings.data_dir)
    for label, taken, said in try_all(settings) if notify else ():
        yield label, OK if taken else FAIL, said


def _say(label: str, mark: str, text: str, where: TextIO | None = None) -> None:
    shown = f"{mark:<4}"
    if (where or sys.stdout).isatty():
        shown = f"\033[{COLOURS[mark]}m{shown}\033[0m"
    print(f"{shown} {label}: {printable(text)}", file=where)


def _check_settings(settings: Settings) -> Found:
    return (WARN, f"valid, but {'; '.join(settings.unknown)}") if settings.unknown else (OK, "all valid")


def _check_name(settings: Settings) -> Found:
    import socket

    host = host_of(settings)
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        raise CollectorError(sentence("name-unknown", address=settings.address)) from None
    return OK, f"{host} is {', '.join(sorted(found))}"


def _check_tls(settings: Settings) -> Found:
    shown = describe(peer_certificate(settings))
    if settings.tls_verify:
        return OK, shown
    return WARN, f"not verified (DEFAULT_MGR_TLS_VERIFY=false): anyone in between can read the password; {shown}"


def _check_credentials(settings: Settings, node: Node) -> Found:
    for resource in ("conference", "participant"):
        node.ask(f"{node.root}{resource}/?limit=1", decode)
    return OK, f"{node.credentials.describe()}; may read the history"


def _check_history(node: Node) -> Found:
    try:
        meta, columns = node.ask(f"{node.root}conference/?limit=0", PageReader())
    except TooLarge:  # which is how many a page may have
        meta, columns = node.ask(f"{node.root}conference/?limit=1", PageReader())
        meta["limit"] = "more than one answer may have"
    if not columns:
        return OK, "the node has no conference yet"
    count = counted(page_of(CONFERENCE, meta, {}).total, "conference")
    most = printable(str(meta.get("limit")), QUOTED)
    ended = ""
    with suppress(Refused, IndexError):
        ends = (node.page("conference", {"limit": "1", "order_by": f"{sign}end_time"}).times[0] for sign in ("", "-"))
        ended = f", ended {' to '.join(printable(end, QUOTED) for end in ends)} UTC"
    return OK, f"{count}{ended}; at most {most} a page"


def _check_clock(node: Node) -> Found:
    skew = node.clock_skew
    if skew is None:
        return INFO, "the node does not tell its time"
    seconds = round(skew.total_seconds())
    if not node.clocks_agree:
        raise CollectorError(sentence("clock-off", seconds=seconds))
    return OK, f"{abs(seconds)} s apart from the node's"


def _check_folder(settings: Settings) -> Found:
    folder = settings.data_dir
    probe = folder / ".collector" / "probe"
    own_folder(probe.parent)
    with open(probe, "wb", 0, opener=own) as file:
        try:
            file.write(bytes(PROBE))
            os.fsync(file.fileno())
        finally:
            probe.unlink()
    stat, free = folder.stat(), shutil.disk_usage(folder).free
    whose, room = f"{folder}, owner {stat.st_uid}:{stat.st_gid}", f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE:
        raise CollectorError(sentence("little-space", folder=whose, megabytes=free / 1000000.0))
    if not is_mount(folder):
        return WARN, f"{whose}, {room}; NOT a mount: the files are deleted with the container"
    if free < LITTLE_FREE:
        return WARN, f"{whose}, only {free / 1e6:.0f} MB free; free some space before it is needed"
    return OK, f"{whose}, {room}"


def _check_schedule(settings: Settings) -> Found:
    if settings.schedule is None:
        return INFO, "none (DATA_CRON_TIME is not set), which is right if another scheduler starts the runs"
    times, moment = [], datetime.now(UTC)
    for _ in range(3):
        moment = settings.schedule.next(moment)
        times.append(f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}")
    return OK, f"{settings.schedule.in_words()}; next {', '.join(times)} ({settings.zone})"


def _check_container(settings: Settings) -> Found | None:
    if (found := running.differences(settings.data_dir, os.environ)) is None:
        return None
    since, others, hidden = found
    said = f"the one that was started {since}"
    if others:
        return WARN, f"{said} runs with other settings: {'; '.join(others)}. docker compose up -d applies these"
    said += " has these settings"
    if hidden:
        unseen = f"{' and '.join(hidden)} cannot be seen from here: docker compose up -d makes sure of it"
        return INFO, f"{said}; {unseen}"
    return OK, said


def _check_told(settings: Settings, notify: bool) -> Found | None:
    if settings.ping_url or settings.notify_urls:
        return None if notify else (INFO, f"{described(settings)}; not tried, check --notify sends a test")
    if notify:
        raise CollectorError(sentence("nobody-told"))
    return None
