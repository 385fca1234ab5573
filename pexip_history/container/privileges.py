"""Root never writes into another's folder, and what a run keeps in memory stays there.

Everything here happens in the process itself: a program that is started again could be looked into by anyone who
has the same user id (`/proc/PID/environ`, ptrace), and so could be read by the data folder's owner.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pexip_history.errors import CollectorError, SettingsError
from pexip_history.messages import sentence
from pexip_history.settings.environment import FILES, IMAGE_DATA, read_variable
from pexip_history.settings.files import read_file
from pexip_history.settings.values import unquoted

SOMEONE = 1000 if Path(__file__).is_relative_to(IMAGE_DATA.parent) else 0
"""Who collects where the data folder is root's: in the image the user to whom its own folder belongs, else root."""

# linux/prctl.h, linux/capability.h
PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 8, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = range(64)
CAP_CHOWN = 1 << 0
LIBC = ctypes.CDLL(None)

Asked = tuple[int | None, int | None]
"""PUID and PGID, None where they are not set."""


class Owner(NamedTuple):
    """A user and a group, by their numbers."""

    uid: int
    gid: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}"


def protect_memory() -> None:
    """No other process may look into this one, no core dump, no TLS keys in a file. To be called first of all."""
    _prctl(PR_SET_DUMPABLE, 0)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.pop("SSLKEYLOGFILE", None)


def owner_of(folder: Path, asked: Asked) -> Owner | None:
    """Who a run of root's becomes: PUID:PGID, else the data folder's owner; None to stay root, which PUID=0 asks for.

    A folder of root's, or one that is yet to be made, is in the image for user 1000. Raises OSError.
    """
    uid, gid = asked
    try:
        found = folder.stat()
        owner, group = found.st_uid, found.st_gid
    except (FileNotFoundError, NotADirectoryError):
        owner, group = 0, 0
    if uid is None:
        uid = owner or SOMEONE
    if gid is None:
        gid = group if group and owner == uid else uid
    return Owner(uid, gid) if uid else None


def become_owner(environ: Mapping[str, str]) -> dict[str, bytes]:
    """Go on as the data folder's owner, and tell what the files hold that settings name and root could read before.

    By the variable that names the file: `{"DEFAULT_MGR_SECRET_FILE": b"..."}`. What root cannot read, without
    DAC_OVERRIDE, is left for its owner, and so is every other file. Where PUID, PGID or DATA_DIR are wrong nothing
    changes: the settings cannot be read then. Raises CollectorError, OSError.
    """
    held = {}
    for name in FILES if os.geteuid() == 0 else ():
        with suppress(OSError, ValueError):
            held[name] = read_file(Path(unquoted(environ.get(name, ""))))
    try:
        folder, asked = whose(environ)
    except SettingsError:
        return held
    go_on_as(folder, asked)
    for needed in (os.__file__, __file__, sys.prefix):  # most of the program is yet to be imported
        if not os.access(needed, os.R_OK):
            raise CollectorError(sentence("program-not-readable", user=os.geteuid(), file=needed))
    return held


def whose(environ: Mapping[str, str]) -> tuple[Path, Asked]:
    """The data folder, and who is to collect into it. Raises SettingsError."""
    folder, uid, gid = (read_variable(environ, name) for name in ("DATA_DIR", "PUID", "PGID"))
    return folder, (uid, gid)


def go_on_as(folder: Path, asked: Asked) -> None:
    """Become the folder's owner, without any capability and without a way to gain one.

    Another user than root stays that user. Raises CollectorError, OSError.
    """
    if os.geteuid() == 0:
        refuse_links(folder)
        owner = owner_of(folder, asked)
        if owner is None:
            refuse_shared(folder)
            return
        become(owner)
    give_up_capabilities()
    protect_memory()


def become(owner: Owner) -> None:
    """Root becomes another user, whole: real, effective and saved ids, no group besides. Raises CollectorError."""
    uid, gid = owner
    for capability in CAPABILITIES:  # while that is still allowed; compose.yaml does not allow it
        _prctl(PR_CAPBSET_DROP, capability)
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise CollectorError(sentence("cannot-become-user", user=owner, why=error.strerror)) from None


def become_with_chown(owner: Owner) -> None:
    """Root becomes another user who may still change owners, where root may. Raises CollectorError."""
    _prctl(PR_SET_KEEPCAPS, 1)
    become(owner)
    if not set_capabilities(CAP_CHOWN):
        set_capabilities(0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    protect_memory()


def give_up_capabilities() -> None:
    """Every set but the bounding one becomes empty, and no program that is started could fill one."""
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    set_capabilities(0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_capabilities(low: int) -> bool:
    """Have these of the first 32 (a mask), and no others; False where that is more than there are."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    return int(LIBC.capset(header, struct.pack("=6I", low, low, 0, 0, 0, 0))) == 0


def refuse_links(folder: Path, descriptor: int | None = None) -> None:
    """Root goes over no link: anyone who may write a folder on the way could lead to any other.

    With a descriptor it is what was opened that must have the folder's name. Raises CollectorError.
    """
    real = os.path.realpath(folder) if descriptor is None else str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if real != str(folder):
        raise CollectorError(sentence("folder-behind-link", folder=folder, real=real))


def refuse_shared(folder: Path) -> None:
    """Root writes only where nobody else may put a link or another file in its way. Raises CollectorError.

    As ssh does with its keys: the folder and `.collector` have to be root's and writable by root alone, and so
    have the folders above, except that those may be sticky, as /tmp is.
    """
    for path in (folder / ".collector", folder, *folder.parents):
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        above = path in folder.parents
        if found.st_uid:
            raise CollectorError(sentence("folder-of-another", folder=path, user=found.st_uid))
        if found.st_mode & 0o022 and not (above and found.st_mode & stat.S_ISVTX):
            raise CollectorError(sentence("folder-open-to-others", folder=path, mode=stat.S_IMODE(found.st_mode)))


def _prctl(option: int, value: int) -> bool:
    """prctl(2); False where the kernel refuses."""
    return int(LIBC.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))) == 0
