"""The errands of the image's entrypoint in the data folder, as the user whose it is.

`python3 -m pexip_history.container.errands take-over|stop`, with PUID, PGID and DATA_DIR in the environment and
nothing else: what the folder's owner could look into here holds no secret.
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pexip_history.container.privileges import (
    Asked,
    Owner,
    become_with_chown,
    give_up_capabilities,
    go_on_as,
    owner_of,
    protect_memory,
    refuse_links,
    whose,
)
from pexip_history.errors import MISUSED, CollectorError, SettingsError, printable
from pexip_history.folder import opening as files
from pexip_history.messages import sentence
from pexip_history.operate.running import forget
from pexip_history.settings.environment import IMAGE_DATA

WRITTEN = ("*pexHistory*.csv*", "data_collector.log*", "report*.html", "manifest.jsonl*")
FOLDERS = (".collector", "parquet")
WAIT_FOR_NUMBER, WAIT_FOR_RUN = 0.5, 4.0  # seconds: for a run to write its number, and for it to end


def main(errand: str, environ: Mapping[str, str]) -> int:
    """Carry out an errand and tell the exit code."""
    protect_memory()
    try:
        folder, asked = whose(environ)
        if errand == "stop":
            stop(folder, asked)
        else:
            take_over(folder, asked)
    except SettingsError:
        return 0  # collector.py says so, with all that is wrong besides
    except (CollectorError, OSError) as error:
        if errand == "stop":
            return 0
        print(f"entrypoint: {printable(str(error))}", file=sys.stderr)
        return MISUSED
    return 0


def take_over(folder: Path, asked: Asked) -> None:
    """The folder, and what the collector wrote in it, may be root's: made by Docker, or by an older version.

    Root has no more here than CHOWN, SETGID and SETUID, and uses CHOWN as the owner: on what the owner can reach,
    and never through a link or on a file that has another name besides. Raises CollectorError, OSError.
    """
    if os.geteuid() != 0:
        return
    refuse_links(folder)
    owner = owner_of(folder, asked)
    if owner is None:
        return
    made = not folder.exists()
    if made:
        _make(folder, owner)
    # Held on to from here: the folder's name may come to mean another one.
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    refuse_links(folder, descriptor)
    # A folder that the image brought is not the user's to give away, whatever DATA_DIR says.
    if made or folder == IMAGE_DATA or os.fstat(descriptor).st_dev != Path("/").stat().st_dev:
        hand_over(descriptor, owner)
    become_with_chown(owner)
    _refuse_closed(folder, owner, descriptor)
    for place, name in ours(descriptor):
        with suppress(OSError):
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place)
            try:
                hand_over(entry, owner)
            finally:
                os.close(entry)
    give_up_capabilities()
    for place, name in ours(descriptor):
        with suppress(FileNotFoundError):  # a log that was just rotated
            _refuse_unwritable(place, name, owner)


def _make(folder: Path, owner: Owner) -> None:
    """Make the folder, where its owner could reach it. Raises CollectorError."""
    for above in folder.parents:
        with suppress(FileNotFoundError):
            if not _may_enter(above.stat(), owner):
                raise _closed(above, folder, owner)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise CollectorError(sentence("folder-cannot-be-created", folder=folder)) from None


def _refuse_unwritable(place: int, name: str, owner: Owner) -> None:
    found = os.stat(name, dir_fd=place, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode) and found.st_uid != owner.uid and not os.access(name, os.W_OK, dir_fd=place):
        where = Path(f"/proc/self/fd/{place}").readlink() / name
        why = "it has a hard link" if found.st_nlink > 1 else "its owner could not be changed"
        raise CollectorError(sentence("file-not-writable", user=owner, file=where, why=why))


def hand_over(descriptor: int, owner: Owner) -> None:
    """Change the owner of what was opened (O_PATH), where it is a folder or a file with this name alone.

    One name, looked at before it is seen to be still there, is the name it was opened by. In the other order the
    owner of the folder could take a hard link away in between, and the one name would be that of a file elsewhere.
    """
    found, place = os.fstat(descriptor), Path(f"/proc/self/fd/{descriptor}")
    alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if (found.st_uid, found.st_gid) == owner or not (alone or stat.S_ISDIR(found.st_mode)):
        return
    if not str(place.readlink()).endswith(" (deleted)"):
        with suppress(OSError):
            os.chown(place, *owner)


def ours(descriptor: int) -> Iterator[tuple[int, str]]:
    """Each entry that the collector made: an open folder and a name in it. Raises OSError."""
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in WRITTEN):
                    yield here, entry.name
        for folder in FOLDERS:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.stat(folder, dir_fd=here, follow_symlinks=False)
                yield here, folder
                for _, folders, names, place in os.fwalk(folder, dir_fd=here):
                    for name in (*folders, *names):
                        yield place, name
    finally:
        os.close(here)


def _refuse_closed(folder: Path, owner: Owner, descriptor: int) -> None:
    for above in reversed(folder.parents):
        if not os.access(above, os.X_OK):
            raise _closed(above, folder, owner)
    if not os.access(f"/proc/self/fd/{descriptor}", os.W_OK | os.X_OK | os.R_OK):
        found = os.fstat(descriptor)
        whose_it_is, mode = Owner(found.st_uid, found.st_gid), stat.S_IMODE(found.st_mode)
        raise CollectorError(sentence("folder-not-writable", folder=folder, owner=whose_it_is, mode=mode, user=owner))


def _may_enter(found: os.stat_result, owner: Owner) -> bool:
    """Whether the owner may go through a folder, by its mode."""
    bit = stat.S_IXUSR if found.st_uid == owner.uid else stat.S_IXGRP if found.st_gid == owner.gid else stat.S_IXOTH
    return bool(found.st_mode & bit)


def _closed(above: Path, folder: Path, owner: Owner) -> CollectorError:
    mode = stat.S_IMODE(above.stat().st_mode)
    return CollectorError(sentence("folder-closed", folder=folder, user=owner, above=above, mode=mode))


def stop(folder: Path, asked: Asked) -> None:
    """Ask a run under way to end, and wait until it has said so and let go of the lock.

    The run holds the lock and wrote its process id there. Raises CollectorError, OSError.
    """
    go_on_as(folder, asked)
    forget(folder)
    began, asked_to = time.monotonic(), 0
    with open(folder / ".collector" / "lock", opener=files.own) as lock:
        while _held(lock.fileno()):
            # A run that has just begun may not have written its number yet: the one there is an older run's.
            process = os.pread(lock.fileno(), 20, 0).strip()
            if re.fullmatch(b"[1-9][0-9]{0,9}", process) and int(process) != asked_to and _is_a_run(int(process)):
                asked_to = int(process)
                os.kill(asked_to, signal.SIGTERM)
            if time.monotonic() - began > (WAIT_FOR_RUN if asked_to else WAIT_FOR_NUMBER):
                break  # or it is another container's
            time.sleep(0.02)


def _held(lock: int) -> bool:
    """Whether somebody else holds the lock; where nobody does it is ours until the file is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_a_run(process: int) -> bool:
    with suppress(OSError):
        return b"collector.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], os.environ))
