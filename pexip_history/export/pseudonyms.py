"""Keyed pseudonyms for --hide-names: the same for the same person each time, and nobody's name without the key.

HMAC-SHA-256 (RFC 2104) of the kind of value and the value, in SQL, so that a million rows take a second.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pexip_history.errors import CollectorError
from pexip_history.folder.opening import own, own_folder
from pexip_history.folder.rewriting import new_file
from pexip_history.messages import sentence

KINDS = {
    "display_name": "name",
    "remote_alias": "alias",
    "local_alias": "alias",
    "remote_address": "address",
    "idp_uuid": "identity",
    "call_tag": "calltag",
    "conference_name": "room",
    "name": "room",
    "room": "room",
    "tag": "tag",
    "service_tag": "tag",
    "vendor": "client",
    "disconnect_reason": "reason",
}
"""By column the kind: names, aliases, and every other text that a stranger can set, as on the page."""
ANY_CASE = ("name", "alias", "address")
SIZE, BLOCK = 32, 64
DIGITS = 16


def key(data: Path) -> bytes:
    """The folder's key; a new one where there is none. Raises CollectorError, OSError."""
    folder = data / ".collector" / "export"
    own_folder(data / ".collector")
    own_folder(folder)
    path = folder / "pseudonyms.key"
    try:
        with open(path, "rb", opener=own) as file:
            found = file.read(SIZE + 1)
    except FileNotFoundError:
        found = secrets.token_bytes(SIZE)
        with new_file(path) as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(found)
    if len(found) != SIZE:
        raise CollectorError(sentence("key-damaged", file=path, size=SIZE))
    return found


def pseudonym(column: str, kind: str, secret: bytes) -> str:
    """The SQL for a column's pseudonym of that kind, such as `name-3f9ac2d41b7e0856`.

    Blanks around the value do not matter, nor does the case of a name, an alias or an address.
    """
    padded = secret.ljust(BLOCK, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in padded) for pad in (0x36, 0x5C))
    text = f"nfc_normalize(trim({column}))"
    value = f"'{kind}:' || {f'lower({text})' if kind in ANY_CASE else text}"
    digest = f"sha256({_blob(outer)} || unhex(sha256({_blob(inner)} || encode({value}))))"
    return f"CASE WHEN trim({column}) <> '' THEN '{kind}-' || left({digest}, {DIGITS}) END"


def _blob(value: bytes) -> str:
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"
