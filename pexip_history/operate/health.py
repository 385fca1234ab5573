"""For HEALTHCHECK."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pexip_history.errors import DONE, FAILED, CollectorError
from pexip_history.folder.mounts import CRON_PID
from pexip_history.ledger.spans import BEGINNING
from pexip_history.messages import sentence
from pexip_history.operate.running import failure
from pexip_history.operate.status import Writing, peek, say
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time, parse_time

GRACE, TOO_LONG = timedelta(minutes=2), timedelta(hours=6)
NEARLY_FULL = 20_000_000
"""Bytes of disk: a run of a thousand calls writes a few."""


def health(settings: Settings) -> int:
    """For HEALTHCHECK: one line that says why, 0 healthy or 1."""
    try:
        good, text = True, _why_healthy(settings)
    except CollectorError as error:
        good, text = isinstance(error, Writing), str(error)
    say(f"{'healthy' if good else 'unhealthy'}: {text}")
    return DONE if good else FAILED


def _why_healthy(settings: Settings) -> str:
    """Raises CollectorError where it is not, Writing where that cannot be seen for a moment."""
    now, runs = datetime.now(UTC), peek(settings)["runs"]
    last, started = (runs[0], _started(runs[0])) if runs else (None, BEGINNING)
    since = f"the run of {format_time(started)} UTC"
    if last and last["outcome"] == "killed":
        raise CollectorError(sentence("run-killed", run=since))
    if last and last["outcome"] == "running":
        if now - started > TOO_LONG:
            raise CollectorError(sentence("run-hangs", run=since))
        return f"a run is under way since {last['started']} UTC"
    if (found := failure(settings.data_dir)) and started < found[0]:
        raise CollectorError(sentence("start-check-failed", why=found[1]))
    if last and last["outcome"] != "done":
        raise CollectorError(sentence("run-failed", started=last["started"], why=last["message"]))
    if (free := shutil.disk_usage(settings.data_dir).free) < NEARLY_FULL:
        raise CollectorError(sentence("disk-nearly-full", folder=settings.data_dir, megabytes=free / 1000000.0))
    if settings.schedule and CRON_PID.exists():
        since_start = datetime.fromtimestamp(CRON_PID.stat().st_mtime, UTC)
        due = settings.schedule.last(now - GRACE)
        # A run by hand is not the one that was due, and one ahead of now is of another clock.
        served = any(due <= _started(run) <= now + GRACE and not run["by_hand"] for run in runs)
        if due > since_start and not served:
            raise CollectorError(sentence("run-missed", due=due))
    if started > now + GRACE:
        raise CollectorError(sentence("run-ahead", started=format_time(started)))
    return f"{last['message']} at {last['started']} UTC" if last else "no run was due yet"


def _started(run: Mapping[str, Any]) -> datetime:
    return parse_time(run["started"]) or BEGINNING
