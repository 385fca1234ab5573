"""Files in a folder that others may have put something into: what is opened is a file, and no link.

A FIFO would keep a run waiting forever, and a link would have it write elsewhere. Both are found out before a byte
is read or written.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from pexip_history.errors import CollectorError
from pexip_history.messages import sentence

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class NotAFile(CollectorError):
    """Something else has the name of a file of ours."""


def own(path: str | os.PathLike[str], flags: int) -> int:
    """For open(..., opener=own): a regular file that is no link. Raises NotAFile, OSError."""
    refuse_other_kinds(Path(path))
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):  # changed since it was looked at
            refuse_other_kinds(Path(path))
        raise
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_a_file(Path(path), mode)
    return descriptor


def refuse_other_kinds(path: Path) -> None:
    """A regular file, or nothing, is all that may be there: for what SQLite opens by itself. Raises NotAFile."""
    if kind := other_kind(path):
        raise _not_a_file(path, kind)


def other_kind(path: Path) -> int:
    """The mode of what is there and is no regular file (a link is none); 0 for a file, or nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return 0
    return 0 if stat.S_ISREG(mode) else mode


def own_folder(path: Path) -> None:
    """Make the folder where there is none. Raises NotAFile where something else has its name, OSError."""
    with suppress(FileExistsError):
        path.mkdir(parents=True)
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "a file")
        raise NotAFile(sentence("planted-folder", folder=path, kind=kind))


def behind_link(path: Path) -> Path:
    """Where an aggregate is: the path, or what a link that the user made there leads to. Raises NotAFile.

    A user may keep an aggregate on another volume. Their link is one that belongs to him (the user who collects),
    to root, or to the folder's owner, the same that the kernel follows in /tmp (fs.protected_symlinks). Root
    follows none: what collects for itself alone has no need to.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    if not stat.S_ISLNK(found.st_mode):
        return path
    trusted = {0} if os.geteuid() == 0 else {os.geteuid(), 0, path.parent.stat().st_uid}
    if found.st_uid not in trusted:
        raise NotAFile(sentence("strangers-link", file=path, owner=found.st_uid, user=os.geteuid()))
    return Path(os.path.realpath(path))


def _not_a_file(path: Path, mode: int) -> NotAFile:
    kind = KINDS.get(stat.S_IFMT(mode), "not a file")
    return NotAFile(sentence("planted-file", file=path, kind=kind))
