"""`erase`: shows which rows are a person's and, with --yes, empties them in every file."""

from __future__ import annotations

import html
import logging
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from pexip_history.archive.archive import Archive
from pexip_history.archive.belonging import open_ledger
from pexip_history.archive.erasing import Found, find, go_on, resume
from pexip_history.archive.holdings import strange_files
from pexip_history.archive.journal import Result, exists, open_journal, scratch_journal
from pexip_history.errors import BUSY, DONE, FAILED, QUOTED, Busy, CollectorError, Stopped, printable
from pexip_history.folder.opening import own, own_folder
from pexip_history.folder.people import Person
from pexip_history.messages import counted, sentence
from pexip_history.operate.log import open_log
from pexip_history.operate.process import stop_on_signals
from pexip_history.operate.status import say
from pexip_history.settings.environment import Settings

NAMES_SHOWN = 20
"""Names, and files, that are listed."""
LARGEST_PAGE = 32 << 20

log = logging.getLogger("collector")


def erase(settings: Settings, person: Person, yes: bool) -> int:
    """Find the person's rows, and empty them if `yes`. The exit code. Raises CollectorError, OSError, sqlite3.Error."""
    archive, now = Archive(settings), datetime.now(UTC)
    open_log(settings, to_file=False)
    stop_on_signals()
    try:
        own_folder(archive.folder)
        with archive.lock():
            open_log(settings, to_file=yes)
            return _erase(archive, person, now) if yes else _show(archive, person)
    except Busy as error:
        log.warning("%s", error)
        return BUSY
    except Stopped:
        went_on = exists(archive.folder)
        log.warning(sentence("erasure-stopped" if went_on else "nothing-erased"))
        return FAILED


def _show(archive: Archive, person: Person) -> int:
    with scratch_journal() as journal:
        found = find(archive.data, person, journal, _tell)
        _say_found(archive.data, found, journal.rows(), person)
    if found.rows:
        say("Nothing was changed. With --yes the personal columns of these rows are emptied; the rows stay.")
    return DONE


def _erase(archive: Archive, person: Person, now: datetime) -> int:
    ledger = open_ledger(archive, now)
    with closing(ledger.db):
        archive.discard(ledger)
        with suppress(OSError, CollectorError):
            archive.publish(ledger)  # rows that still cannot be are emptied where they wait
        resume(archive, ledger)
        with open_journal(archive.folder) as journal:
            with journal.deciding():
                found = find(archive.data, person, journal, _tell)
            _say_found(archive.data, found, journal.rows(), person)
            done = go_on(archive, ledger, journal)
    return _say_done(found, done)


def _say_done(found: Found, done: Result) -> int:
    first, last = (_shown(time) for time in found.span)
    if found.rows:
        span = f", {first} to {last} UTC" if first else ""
        log.info("erased: %s in %s%s", counted(done.rows, "row"), counted(done.files, "file"), span)
    for reason in done.waits:
        log.warning(sentence("erasure-waits", why=reason))
    left_out = [reason for reason in done.unreadable if reason not in found.unreadable]
    for reason in left_out:
        log.warning(sentence("erasure-left-out", why=reason))
    if done.waits:
        log.warning(sentence("erasure-unfinished"))
        return FAILED
    return FAILED if left_out else DONE


def _say_found(data: Path, found: Found, rows: int, person: Person) -> None:
    _tell("")
    say(f"Rows of the person with this {person.option}, by file:")
    for file in found.files:
        span = f"{_shown(file.first)} to {_shown(file.last)} UTC" if file.first else ""
        say(f"  {file.name:<46} {counted(file.rows, 'row'):>13}  {span}")
    in_all = f"{counted(rows, 'connection')}, {counted(found.rows, 'row')} in {counted(len(found.files), 'file')}"
    say(f"  {in_all if found.rows else 'none'}")
    if found.names and sys.stdout.isatty():
        names = sorted(found.names)
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        say(f"What they hold: {', '.join(printable(name, QUOTED) for name in names[:NAMES_SHOWN])}{more}")
    if found.similar:
        others = counted(found.similar, "other row holds", "other rows hold")
        say(f"{others} the text within a longer value; * stands for any text, as in '*TEXT*'.")
    _say_out_of_reach(data, found, person)


def _say_out_of_reach(data: Path, found: Found, person: Person) -> None:
    say("Out of reach:")
    if found.rooms:
        rows = counted(found.rooms, "row")
        say(f"  {rows} whose room has the text in its name (conference_name, name): rooms keep their names")
    for reason in found.unreadable:
        say(f"  cannot be read, look into it yourself: {reason}")
    for page in pages_with(data, person):
        say(f"  {page} still shows the text, as a room's name: write it again, or remove it")
    if strange := strange_files(data):
        more = f" and {len(strange) - NAMES_SHOWN} more" if len(strange) > NAMES_SHOWN else ""
        say(f"  files that are not the collector's own: {', '.join(strange[:NAMES_SHOWN])}{more}")
    say("  the node itself, backups, exports and copies of the files, mails that were sent")


def pages_with(data: Path, person: Person) -> list[str]:
    """The report pages in the data folder that hold the text."""
    found = []
    for path in sorted(data.glob("report*.html")):
        try:
            with open(path, "rb", opener=own) as file:
                text = html.unescape(file.read(LARGEST_PAGE).decode("utf-8", "replace"))
        except (OSError, CollectorError):
            continue
        if person.is_in(text):
            found.append(path.name)
    return found


def _shown(time: str) -> str:
    return time[:16].replace("T", " ")


def _tell(name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{printable(name)}", end="", file=sys.stderr, flush=True)
