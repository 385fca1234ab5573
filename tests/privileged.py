"""What tests of privileges share: a child process that may become another user."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user; tests/image holds the same")


def in_child(function: Callable[[], T], uid: int | None = None) -> T:
    """What the function gives, or raises, in a forked child; as that user, where one is named."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            answer: object = (True, function())
        except BaseException as error:  # noqa: BLE001
            error.__notes__ = [traceback.format_exc()]
            answer = (False, error)
        os.write(into, pickle.dumps(answer))
        os._exit(0)
    os.close(into)
    with open(out, "rb") as pipe:
        came, value = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    if not came:
        raise value
    return value  # type: ignore[no-any-return]


def others_may_enter(*paths: Path) -> bool:
    return all(place.stat().st_mode & 0o001 for path in paths for place in (path, *path.parents))


def open_to_all(folder: Path) -> Path:
    """The test's folder, which pytest makes for root alone, with a way to it for others."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == 0 and place != Path("/") and not place.stat().st_mode & 0o1000:
            place.chmod(place.stat().st_mode | 0o055)
    return folder
