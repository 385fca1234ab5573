"""Files that settings name."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LARGEST_SECRET = 1 << 20
"""Bytes that a file which a setting names may hold: a password, a key, a bundle of certificates."""


def read_file(path: Path) -> bytes:
    """What a file that a setting names holds; links are followed, as Kubernetes makes them. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        held = file.read(LARGEST_SECRET + 1)
    if len(held) > LARGEST_SECRET:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST_SECRET} bytes", str(path))
    return held
