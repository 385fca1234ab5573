"""What an operator asks: check, status, health, crontab."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import __version__
from .archive import Archive
from .connection import describe, peer_certificate
from .errors import DONE, FAILED, QUOTED, CollectorError, Refused, TooLarge, explain, printable
from .folder import own, own_folder
from .ledger import SCHEMA_VERSION, Ledger
from .node import Node
from .notify import described, try_all
from .records import CONFERENCE, PARTICIPANT, PageReader, decode, format_time, parse_time
from .settings import IMAGE_DATA, Settings

CRON_PID = Path("/run/crond.pid")
CRON_COMMAND = "/app/entrypoint.sh scheduled >&3 2>&1"
GRACE, LONGEST_RUN = timedelta(minutes=2), timedelta(hours=6)


def say(text: str) -> None:
    """A line on the screen, whatever a node or a name in it holds."""
    print(printable(text))


def check(settings: Settings, notify: bool = False) -> int:
    """One line for each thing that must hold: ok, or how to fix it."""
    node = Node(settings)
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("settings", lambda: "all valid"),
        ("name", lambda: _check_name(settings)),
        ("TLS", lambda: describe(peer_certificate(settings, verify=True))),
        ("credentials", lambda: _check_credentials(settings, node)),
        ("history", lambda: _check_history(node)),
        ("clock", lambda: _check_clock(node)),
        ("data folder", lambda: _check_folder(settings)),
        ("schedule", lambda: _check_schedule(settings)),
        *((("told of failures", lambda: described(settings)),) if notify or _tells(settings) else ()),
    )
    failed, node_fails = False, False
    for label, look in checks:
        if node_fails and label in ("TLS", "credentials", "history", "clock"):
            continue
        try:
            _say(label, True, look())
        except Exception as error:  # noqa: BLE001 - whatever a stranger's answer brings, the other lines come too
            failed = True
            node_fails = node_fails or label in ("name", "TLS", "credentials")
            _say(label, False, explain(error, settings.data_dir))
    for label, taken, sentence in try_all(settings) if notify else ():
        failed = failed or not taken
        _say(label, taken, sentence)
    return FAILED if failed else DONE


def _tells(settings: Settings) -> bool:
    return bool(settings.ping_url or settings.notify_urls)


def _say(label: str, good: bool, text: str) -> None:
    mark = "ok  " if good else "FAIL"
    if sys.stdout.isatty():
        mark = f"\033[{32 if good else 31}m{mark}\033[0m"
    print(f"{mark} {label}: {printable(text)}")


def _check_name(settings: Settings) -> str:
    import socket

    host = urlsplit(f"https://{settings.address}").hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        raise CollectorError("the name is not known; check DEFAULT_MGR_ADDRESS and the container's DNS") from None
    return f"{host} is {', '.join(sorted(found))}"


def _check_credentials(settings: Settings, node: Node) -> str:
    for resource in (CONFERENCE, PARTICIPANT):
        node.ask(f"{node.root}{resource}/?limit=1", decode)
    return f"{node.describe()}; may read the history"


def _check_history(node: Node) -> str:
    try:
        meta, columns = node.ask(f"{node.root}conference/?limit=0", PageReader())
    except TooLarge:  # which is how many a page may have
        meta, columns = node.ask(f"{node.root}conference/?limit=1", PageReader())
        meta["limit"] = "more than one answer may have"
    ends = sorted(str(end) for end in columns.get("end_time", ()) if end)
    if not ends:
        return "the node has no conference yet"
    with suppress(Refused, IndexError):
        ends = [node.page(CONFERENCE, {"limit": "1", "order_by": f"{sign}end_time"}).ends[0] for sign in ("", "-")]
    count, most, first, last = (
        printable(str(text), QUOTED) for text in (meta.get("total_count"), meta.get("limit"), ends[0], ends[-1])
    )
    return f"{count} conferences, ended {first} to {last} UTC; at most {most} a page"


def _check_clock(node: Node) -> str:
    skew = node.clock_skew
    if skew is None:
        return "the node does not tell its time"
    seconds = round(skew.total_seconds())
    if not node.clocks_agree:
        raise CollectorError(f"the node's clock is {seconds} s off this machine's; set them alike (NTP)")
    return f"{abs(seconds)} s apart from the node's"


def _check_folder(settings: Settings) -> str:
    folder = settings.data_dir
    probe = folder / ".collector" / "probe"
    own_folder(probe.parent)
    open(probe, "wb", opener=own).close()
    probe.unlink()
    stat, usage = folder.stat(), shutil.disk_usage(folder)
    mount = "" if is_mount(folder) else "; NOT a mount: the files are deleted with the container"
    return f"{folder}, owner {stat.st_uid}:{stat.st_gid}, {usage.free / 1e9:.1f} GB free{mount}"


def is_mount(folder: Path) -> bool:
    """False where it is the image's folder and nothing is mounted there."""
    folder = Path(os.path.realpath(folder))
    if folder != IMAGE_DATA:
        return True
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        points = {line.split()[4] for line in mounts}
        return any(str(parent) in points for parent in (folder, *folder.parents) if str(parent) != "/")
    return True


def _check_schedule(settings: Settings) -> str:
    if settings.schedule is None:
        return "none (DATA_CRON_TIME is not set), which is right if another scheduler starts the runs"
    times, moment = [], datetime.now(UTC)
    for _ in range(3):
        moment = settings.schedule.next(moment)
        times.append(f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}")
    return f"{settings.schedule.in_words()}; next {', '.join(times)} ({settings.zone})"


def status(settings: Settings, as_json: bool) -> int:
    """Last runs, next run, the files, how complete they are, and what waits."""
    archive, found = Archive(settings), peek(settings)
    files = []
    for resource, rows, mark in found.pop("resources"):
        path = archive.aggregate(resource)
        size = path.stat().st_size if path.exists() else None
        if size is not None or rows:
            files.append({"file": path.name, "rows": rows, "bytes": size, "collected_to": mark})
    due = format_time(settings.schedule.next(datetime.now(UTC))) if settings.schedule else None
    report = {"version": __version__, "next_run": due, "files": files, **found}
    if as_json:
        print(json.dumps(report, indent=2))
        return DONE
    say("Last runs, newest first (UTC):")
    for run in report["runs"][:10]:
        say(f"  {str(run['started'])[:19]}  {run['outcome']:<8} {run['message'] or ''}")
        if run["window_start"]:
            say(f"  {'':19}  window   {run['window_start']} to {run['window_end']}")
    if not report["runs"]:
        say("  none yet")
    say(f"Next run: {due or 'none scheduled, DATA_CRON_TIME is not set'}{' UTC' if due else ''}")
    say("Files:")
    for file in files:
        held = "missing" if file["bytes"] is None else f"{file['bytes'] / 1e6:.1f} MB"
        until = f", complete up to {file['collected_to']}" if file["collected_to"] else ""
        say(f"  {file['file']:<22} {file['rows']:>10} rows collected, {held}{until}")
    say(f"History: {completeness(report)}")
    say(f"Waiting to be written: {report['staged']} rows")
    say(f"Participants still missing from collected conferences: {report['expected']}")
    return DONE


def completeness(report: Mapping[str, object]) -> str:
    """Since when the history is complete, when that was last compared with the node's own list, what is lost."""
    if not report["complete_since"]:
        return "no run has ended well yet"
    checked = report["reconciled"]
    text = f"complete since {report['complete_since']} UTC, "
    text += f"compared with the node's own list {checked} UTC" if checked else "not yet compared with the node's list"
    if report["lost"]:
        text += (
            f"; {report['lost']} participants were lost, the node forgot them before it showed them (noticed"
            f" {str(report['lost_from'])[:10]} to {str(report['lost_to'])[:10]})"
        )
    else:
        text += "; nothing is known to be lost"
    return text


def peek(settings: Settings) -> dict[str, Any]:
    """What the ledger says, read without changing it. Raises CollectorError, sqlite3.Error."""
    archive = Archive(settings)
    path = archive.folder / "ledger.sqlite"
    found: dict[str, Any] = {"runs": [], "resources": [], "staged": 0, "expected": 0, "complete_since": None}
    found |= {"reconciled": None, "lost": 0, "lost_from": None, "lost_to": None}
    if not path.exists():
        return found
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if not version:
                return found
            found["runs"] = Ledger(db).runs(30)
            found["resources"] = db.execute("SELECT name, rows, mark FROM resource ORDER BY name").fetchall()
            (found["staged"],) = db.execute("SELECT coalesce(sum(rows), 0) FROM staged").fetchone()
            current = version >= SCHEMA_VERSION
            where = " WHERE lost IS NULL" if current else ""
            (found["expected"],) = db.execute(f"SELECT count(DISTINCT participant) FROM expected{where}").fetchone()
            if current:
                facts = dict(db.execute("SELECT name, value FROM fact"))
                found |= {"complete_since": facts.get("complete"), "reconciled": facts.get("reconciled")}
                lost = db.execute("SELECT count(lost), min(lost), max(lost) FROM expected").fetchone()
                found |= dict(zip(("lost", "lost_from", "lost_to"), lost, strict=True))
    except sqlite3.OperationalError:
        journal = path.with_name(f"{path.name}-journal")
        if not journal.exists():
            raise
        if archive.locked():
            raise Writing("a run is under way and writes the ledger; ask again in a moment") from None
        raise CollectorError(
            "the last run was killed while it wrote the ledger; nothing is lost, the next run repairs it"
        ) from None
    return found


def report(
    settings: Settings,
    first: date | None = None,
    last: date | None = None,
    output: Path | None = None,
    hide_names: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the page on the history and return its path. Raises CollectorError, sqlite3.Error."""
    from .report import Facts, write_report

    found, target = peek(settings), output or settings.data_dir / "report.html"
    facts = Facts(
        version=__version__,
        complete_since=parse_time(found["complete_since"]),
        reconciled=parse_time(found["reconciled"]),
        waiting=found["staged"],
        lost=[(parse_time(found["lost_to"]), found["lost"])] if found["lost"] else [],
    )
    write_report(
        settings.data_dir,
        target,
        zone=settings.zone,
        first=first,
        last=last,
        hide_names=hide_names,
        facts=facts,
        progress=progress,
    )
    return target


class Writing(CollectorError):
    """A run is at its commit point."""


def health(settings: Settings) -> int:
    """For HEALTHCHECK: one line that says why, 0 healthy or 1."""
    try:
        good, text = _health(settings)
    except Writing as error:
        good, text = True, str(error)
    except CollectorError as error:
        good, text = False, str(error)
    say(f"{'healthy' if good else 'unhealthy'}: {text}")
    return DONE if good else FAILED


def _health(settings: Settings) -> tuple[bool, str]:
    now = datetime.now(UTC)
    runs: Sequence[dict[str, object]] = peek(settings)["runs"]
    last = runs[0] if runs else None
    if last and last["outcome"] == "running":
        since = f"the run of {last['started']} UTC"
        if not Archive(settings).locked():
            return False, f"{since} was killed before it ended; the next run covers its window"
        if now - (parse_time(str(last["started"])) or now) > LONGEST_RUN:
            return False, f"{since} has not ended; restart the container, no data is lost"
        return True, f"a run is under way since {last['started']} UTC"
    if last and last["outcome"] != "done":
        return False, f"the run of {last['started']} UTC failed: {last['message']}"
    if settings.schedule and CRON_PID.exists():
        since_start = datetime.fromtimestamp(CRON_PID.stat().st_mtime, UTC)
        due = settings.schedule.last(now - GRACE)
        ended = parse_time(str(last["finished"])) if last else None
        if due > since_start and (ended is None or ended < due):
            return False, f"the run of {due:%Y-%m-%d %H:%M} UTC did not happen; check the container's log"
    return True, f"{last['message']} at {last['started']} UTC" if last else "no run was due yet"


def crontab(settings: Settings) -> int:
    """The crontab on standard output; what it means, for the container's log, on standard error."""
    from crontab import CronTab

    # Read back by python-crontab, but printed as it was given: its own rendering makes `*` of 1-31,
    # and whether a field is a star decides how Debian's cron joins the two fields for days.
    assert settings.schedule
    line = f"{settings.schedule.line} {CRON_COMMAND}"
    jobs = list(CronTab(tab=f"{line}\n"))
    if [job.command for job in jobs if job.is_valid()] != [CRON_COMMAND]:
        raise CollectorError(f"DATA_CRON_TIME: {settings.schedule.line!r} does not make one line of a crontab")
    print(line)
    due = settings.schedule.next(datetime.now(UTC)).astimezone(settings.zone)
    who = f"as {os.geteuid()}:{os.getegid()}"
    print(f"{settings.schedule.in_words()} ({settings.zone}), next {due:%Y-%m-%d %H:%M}, {who}", file=sys.stderr)
    if not is_mount(settings.data_dir):
        print(
            f"WARNING {settings.data_dir} is not a mount: the files are deleted with the container;"
            f" start it with -v ./data:{settings.data_dir}",
            file=sys.stderr,
        )
    return DONE
