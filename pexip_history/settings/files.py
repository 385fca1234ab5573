"""Files that settings name, whatever wrote them: Windows puts a byte order mark first, or writes UTF-16."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from pathlib import Path

from pexip_history.messages import sentence

LARGEST_SECRET = 1 << 20
"""Bytes that a file which a setting names may hold: a password, a key, a bundle of certificates."""


def read_file(path: Path) -> bytes:
    """What a file that a setting names holds; links are followed, as Kubernetes makes them. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        held = file.read(LARGEST_SECRET + 1)
    if len(held) > LARGEST_SECRET:
        raise OSError(errno.EFBIG, f"it is larger than {LARGEST_SECRET} bytes", str(path))
    return held


def as_utf8(held: bytes) -> bytes:
    """The file's text without a byte order mark, in UTF-8 where that mark says UTF-16. Raises ValueError.

    Windows PowerShell writes UTF-16 with `>`, and its editors a mark before UTF-8.
    """
    if held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            held = held.decode("utf-16").encode()
        except UnicodeError:
            raise ValueError(sentence("utf-16-damaged")) from None
    if b"\0" in held:
        raise ValueError(sentence("not-text"))
    return held.removeprefix(codecs.BOM_UTF8)


def in_pem(held: bytes) -> str:
    """The certificates that a file holds, as PEM in ASCII: PEM with whatever stands between, or one in DER.

    Raises ValueError: what is wrong with it.
    """
    import ssl

    if held[:1] == b"\x30" and b"-----BEGIN" not in held:  # a sequence, as DER begins
        found = [ssl.DER_cert_to_PEM_cert(held)]
    else:
        pattern = b"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----"
        found = [pem.decode() for pem in re.findall(pattern, as_utf8(held))]
        if len(found) < held.replace(b"\0", b"").count(b"-----BEGIN CERTIFICATE-----"):
            raise ValueError("a certificate in it is damaged")
    if not found:
        raise ValueError("there is no certificate in it" if held.strip() else "it is empty")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for place, pem in enumerate(found, 1):
        try:
            context.load_verify_locations(cadata=pem)
        except ssl.SSLError:
            raise ValueError(f"certificate {place} of {len(found)} in it is damaged") from None
    return "\n".join(found)
