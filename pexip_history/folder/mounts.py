"""What is mounted in the container: whether the data folder outlives it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pexip_history.errors import SettingsError
from pexip_history.messages import sentence
from pexip_history.settings.environment import IMAGE_DATA

CRON_PID = Path("/run/crond.pid")
"""Cron's own file: there while the container schedules runs."""


def mount_points() -> set[str]:
    """The absolute paths at which something is mounted; empty where that cannot be known."""
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        return {line.split()[4] for line in mounts}
    return set()


def is_mount(folder: Path) -> bool:
    """False where it is the image's folder and nothing is mounted there."""
    folder = Path(os.path.realpath(folder))
    if folder != IMAGE_DATA or not (points := mount_points()):
        return True
    return any(str(parent) in points for parent in (folder, *folder.parents) if str(parent) != "/")


def refuse_to_lose(folder: Path) -> None:
    """Raise SettingsError where the container is there for this run alone, and its files would go with it."""
    if not CRON_PID.exists() and not is_mount(folder):
        raise SettingsError([sentence("not-a-mount", folder=folder)])
