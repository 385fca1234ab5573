"""For HEALTHCHECK."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pexip_history.archive.archive import Archive
from pexip_history.errors import DONE, FAILED, CollectorError
from pexip_history.folder.mounts import CRON_PID
from pexip_history.messages import sentence
from pexip_history.operate.running import failure
from pexip_history.operate.status import Writing, peek, say
from pexip_history.settings.environment import Settings
from pexip_history.values import parse_time

GRACE, TOO_LONG = timedelta(minutes=2), timedelta(hours=6)
NEARLY_FULL = 20_000_000
"""Bytes of disk: a run of a thousand calls writes a few."""


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
            return False, sentence("run-killed", run=since)
        if now - (parse_time(str(last["started"])) or now) > TOO_LONG:
            return False, sentence("run-hangs", run=since)
        return True, f"a run is under way since {last['started']} UTC"
    found = failure(settings.data_dir)
    if found and (not last or (parse_time(str(last["started"])) or now) < found[0]):
        return False, sentence("start-check-failed", why=found[1])
    if last and last["outcome"] != "done":
        return False, sentence("run-failed", started=last["started"], why=last["message"])
    if (free := shutil.disk_usage(settings.data_dir).free) < NEARLY_FULL:
        return False, sentence("disk-nearly-full", folder=settings.data_dir, megabytes=free / 1000000.0)
    if settings.schedule and CRON_PID.exists():
        since_start = datetime.fromtimestamp(CRON_PID.stat().st_mtime, UTC)
        due = settings.schedule.last(now - GRACE)
        if due > since_start and not any(_serves(run, due, now) for run in runs):
            return False, sentence("run-missed", due=due)
    if last and (parse_time(str(last["started"])) or now) > now + GRACE:
        return (
            False,
            sentence("run-ahead", started=last["started"]),
        )
    return True, f"{last['message']} at {last['started']} UTC" if last else "no run was due yet"


def _serves(run: Mapping[str, object], due: datetime, now: datetime) -> bool:
    """Whether a run is the one that was due then, or a later one; one ahead of now is of another clock."""
    started = parse_time(str(run["started"])) or now
    return due <= started <= now + GRACE and not run["by_hand"]
