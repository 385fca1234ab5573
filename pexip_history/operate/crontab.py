"""The crontab that DATA_CRON_TIME stands for."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from pexip_history.errors import DONE, CollectorError
from pexip_history.folder.mounts import is_mount
from pexip_history.messages import sentence
from pexip_history.settings.environment import Settings

CRON_COMMAND = "/app/entrypoint.sh scheduled >&3 2>&1"


def crontab(settings: Settings) -> int:
    """The crontab on standard output; what it means, for the container's log, on standard error."""
    from crontab import CronTab

    # Read back by python-crontab, but printed as it was given: its own rendering makes `*` of 1-31,
    # and whether a field is a star decides how Debian's cron joins the two fields for days.
    assert settings.schedule
    line = f"{settings.schedule.line} {CRON_COMMAND}"
    jobs = list(CronTab(tab=f"{line}\n"))
    if [job.command for job in jobs if job.is_valid()] != [CRON_COMMAND]:
        raise CollectorError(sentence("not-a-crontab", value=settings.schedule.line))
    print(line)
    due = settings.schedule.next(datetime.now(UTC)).astimezone(settings.zone)
    who = f"as {os.geteuid()}:{os.getegid()}"
    print(f"{settings.schedule.in_words()} ({settings.zone}), next {due:%Y-%m-%d %H:%M}, {who}", file=sys.stderr)
    if not is_mount(settings.data_dir):
        print(sentence("started-without-mount", folder=settings.data_dir), file=sys.stderr)
    return DONE
