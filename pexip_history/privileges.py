"""Root never writes into another's folder."""

from __future__ import annotations

import os
from pathlib import Path

from .settings import Settings

IMAGE_DATA = Path("/app/data")


def owner_of(settings: Settings) -> tuple[int, int] | None:
    """Who a run of root's becomes: PUID:PGID, else the data folder's owner; None to stay root. Raises OSError."""
    folder, (uid, gid) = settings.data_dir, settings.owner
    stat = folder.stat() if folder.exists() else None
    if uid is None:
        uid = stat.st_uid if stat else 0
    if gid is None:
        gid = stat.st_gid if stat and stat.st_uid == uid else uid
    return (uid, gid) if uid else None


def become_owner(settings: Settings) -> None:
    """Start again as the data folder's owner, without any capability."""
    if os.geteuid() != 0:
        return
    owner = owner_of(settings)
    if owner is None:
        return
    os.setgroups([])
    os.setresgid(owner[1], owner[1], owner[1])
    os.setresuid(owner[0], owner[0], owner[0])
