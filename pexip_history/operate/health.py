"""For HEALTHCHECK."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pexip_history.archive.archive import Archive
from pexip_history.errors import DONE, FAILED, CollectorError
from pexip_history.folder.mounts import CRON_PID
from pexip_history.operate.check import say
from pexip_history.operate.status import Writing, peek
from pexip_history.settings.environment import Settings
from pexip_history.values import parse_time

GRACE, LONGEST_RUN = timedelta(minutes=2), timedelta(hours=6)


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
