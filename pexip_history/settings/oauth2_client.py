"""The settings of an OAuth2 client: its id, its key, and the name that the node goes by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pexip_history.messages import sentence
from pexip_history.settings.files import as_utf8

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ID, KEY_FILE, AUDIENCE = "DEFAULT_MGR_CLIENT_ID", "DEFAULT_MGR_CLIENT_KEY_FILE", "DEFAULT_MGR_TOKEN_AUDIENCE"
PASSWORD = ("DEFAULT_MGR_USERNAME", "DEFAULT_MGR_SECRET", "DEFAULT_MGR_SECRET_FILE")


class Reader(Protocol):
    """What reads the environment and gathers what is wrong with it."""

    def text(self, name: str, default: str = "") -> str: ...

    def file(self, name: str, path: str) -> bytes: ...

    def problem(self, name: str, text: str) -> None: ...


@dataclass(frozen=True)
class Client:
    """What the three settings say."""

    given: bool = False
    """Whether they ask for a client: then no password is needed."""
    id: str | None = None
    key: bytes = field(default=b"", repr=False)
    audience: str | None = None
    """The node's own name, HOST or HOST:PORT, or the whole URL that it expects."""


def read_client(read: Reader, needed: bool) -> Client:
    """The client that is set, with what is missing or contradicts it as problems.

    `needed`: read and try the key too. Its bytes are PEM that `read_key` takes.
    """
    name, path, audience = read.text(ID), read.text(KEY_FILE), read.text(AUDIENCE)
    if read.text("DEFAULT_MGR_CLIENT_KEY"):
        read.problem("DEFAULT_MGR_CLIENT_KEY", sentence("key-not-read", setting=KEY_FILE))
    if not name and not path:
        if audience:
            read.problem(AUDIENCE, sentence("audience-alone", client=ID, key=KEY_FILE))
        return Client()
    if given := [setting for setting in PASSWORD if read.text(setting)]:
        ours = [setting for setting in (ID, KEY_FILE, AUDIENCE) if read.text(setting)]
        read.problem(
            ours[0],
            sentence("client-and-account", account=" and ".join(given), client=" and ".join(ours)),
        )
    if not name:
        read.problem(ID, sentence("client-id-missing", setting=KEY_FILE))
    elif not re.fullmatch("[!-~]{1,255}", name):
        read.problem(ID, sentence("not-a-client-id", value=name))
    if not path:
        read.problem(KEY_FILE, sentence("client-key-missing", setting=ID))
    if audience and not re.fullmatch("[!-~]{1,2000}", audience):
        read.problem(AUDIENCE, sentence("not-an-audience", value=audience, example=token_url("mgr.example.com")))
    return Client(True, name or None, _read_file(read, path) if path and needed else b"", audience or None)


def read_key(pem: bytes) -> EllipticCurvePrivateKey:
    """The private key, from PKCS#8 or SEC1. Raises ValueError: what is wrong and what would be right."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # `openssl ecparam -genkey` writes the curve's name before the key.
    pem = re.sub(rb"-----BEGIN EC PARAMETERS-----.*?-----END EC PARAMETERS-----", b"", pem, flags=re.DOTALL)
    if not pem.strip():
        raise ValueError(sentence("key-empty"))
    if b"-----BEGIN " not in pem:
        raise ValueError(sentence("key-not-pem"))
    if b"PRIVATE KEY-----" not in pem:
        raise ValueError(sentence("key-public"))
    try:
        key = load_pem_private_key(pem, None)
    except TypeError:
        raise ValueError(sentence("key-encrypted")) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(sentence("key-unusable")) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PrivateKey")
        raise ValueError(sentence("key-of-other-kind", kind=kind))
    if not isinstance(key.curve, SECP256R1):
        raise ValueError(sentence("key-on-other-curve", curve=key.curve.name))
    return key


def token_url(address: str) -> str:
    """Where a node gives out tokens. `address` is HOST or HOST:PORT."""
    return f"https://{address.lower().removesuffix(':443')}/oauth/token/"


def _read_file(read: Reader, path: str) -> bytes:
    if "-----" in path or len(path) > 1000:  # not shown: it would be the key
        read.problem(KEY_FILE, sentence("key-itself"))
        return b""
    try:
        pem = as_utf8(read.file(KEY_FILE, path))
        read_key(pem)
    except OSError as error:
        read.problem(KEY_FILE, f"{path!r} cannot be read ({error.strerror}); give a file that the container can read")
    except ValueError as error:
        read.problem(KEY_FILE, f"{path!r} {error}")
    else:
        return pem
    return b""
