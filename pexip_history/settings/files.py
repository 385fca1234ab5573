"""Files that settings name, whatever wrote them: Windows puts a byte order mark first, or writes UTF-16."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.messages import sentence

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

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


# What is wrong with a file's bytes is said by ValueError, in words that stand behind the file's name.


def as_utf8(held: bytes) -> bytes:
    """The text without a byte order mark, in UTF-8 where that mark says UTF-16. Raises ValueError.

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


def certificates(held: bytes) -> str:
    """The certificates, as PEM in ASCII: PEM with whatever stands between, or one in DER. Raises ValueError."""
    import ssl

    if held[:1] == b"\x30" and b"-----BEGIN" not in held:  # a sequence, as DER begins
        found = [ssl.DER_cert_to_PEM_cert(held)]
    else:
        parts = as_utf8(held).decode("latin-1").split(ssl.PEM_HEADER)[1:]
        found = [ssl.PEM_HEADER + part.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER for part in parts]
    if not found:
        raise ValueError(sentence("no-certificate"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for place, pem in enumerate(found, 1):
        try:
            context.load_verify_locations(cadata=pem)
        except (ssl.SSLError, TypeError):  # TypeError: not ASCII
            raise ValueError(sentence("certificate-damaged", place=place, certificates=len(found))) from None
    return "\n".join(found)


def read_key(pem: bytes) -> EllipticCurvePrivateKey:
    """The private key, from PKCS#8 or SEC1. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # `openssl ecparam -genkey` writes the curve's name before the key.
    pem = re.sub(rb"-----BEGIN EC PARAMETERS-----.*?-----END EC PARAMETERS-----", b"", pem, flags=re.DOTALL)
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError(sentence("key-encrypted")) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(sentence("no-key")) from None
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return key
    kind = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
    raise ValueError(sentence("key-of-other-kind", kind=getattr(getattr(key, "curve", None), "name", kind)))
