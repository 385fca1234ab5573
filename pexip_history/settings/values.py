"""What a setting's text means. Each takes the text, which is not empty, and raises ValueError: what would be right."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pexip_history.messages import sentence

LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
YEARS = range(1970, 3000)
HOST = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*\.?")
ON, OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LARGEST_ID = 2**32 - 2  # the next one is -1 to the kernel: "leave it as it is"
NO_DATA_FOLDER = {
    *("/", "/app", "/dev", "/dev/shm", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp"),
    *("/var", "/var/lib", "/var/tmp"),
}
"""These themselves, though a folder in one of them is fine."""
SYSTEM_FOLDERS = {
    *("/app/pexip_history", "/bin", "/boot", "/dev/mqueue", "/dev/pts", "/etc", "/lib", "/lib64", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/cache", "/var/lock", "/var/log", "/var/mail", "/var/run", "/var/spool"),
}
"""These, and all that is in them."""
T = TypeVar("T")


def address(text: str) -> str:
    """HOST or HOST:PORT."""
    if text.lower().startswith("http://"):
        raise ValueError(sentence("address-plain-http", value=text))
    rest = re.sub("^https://", "", text, flags=re.IGNORECASE).removesuffix("/")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"  # an IPv6 address
    host, colon, port = re.fullmatch(r"(\[.*\]|[^:]*)(:?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if set("/@?#") & set(rest):
        raise ValueError(sentence("address-more-than-name", value=text))
    if not (_is_ipv6(host[1:-1]) if host.startswith("[") else HOST.fullmatch(host)):
        raise ValueError(sentence("not-an-address", value=text))
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(sentence("address-port", value=text))
    return rest


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address

    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def _matching(pattern: str, message: str, make: Callable[[str], T]) -> Callable[[str], T]:
    """A reader of what the pattern matches as a whole."""

    def read(text: str) -> T:
        if not re.fullmatch(pattern, text):
            raise ValueError(sentence(message, value=text))
        return make(text)

    return read


def _one_of(words: Mapping[str, T], message: str) -> Callable[[str], T]:
    """A reader of these words, in any case."""

    def read(text: str) -> T:
        if text.lower() not in words:
            raise ValueError(sentence(message, value=text))
        return words[text.lower()]

    return read


username = _matching("[^:]+", "colon-in-name", str)
client_id = _matching("[!-~]{1,255}", "not-a-client-id", str)
audience = _matching("[!-~]{1,2000}", "not-an-audience", str)
count = _matching("[0-9]{1,15}", "not-a-number", int)
mask = _matching("0?0[0-7]{2}", "not-a-mask", lambda text: int(text, 8))
flag = _one_of({**dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}, "not-a-truth-value")
report_mode = _one_of(
    {**dict.fromkeys(ON, "true"), **dict.fromkeys(OFF, ""), "monthly": "monthly"}, "not-a-report-setting"
)
level = _one_of({name.lower(): name for name in LEVELS}, "not-a-level")


def days(text: str) -> int:
    if count(text) > 36500:
        raise ValueError(sentence("more-than-a-century", value=text))
    return count(text)


def user_id(text: str) -> int:
    """What the kernel takes, written as it writes it: -1 or another zero would be another user."""
    if not re.fullmatch("0|[1-9][0-9]{0,9}", text) or int(text) > LARGEST_ID:
        raise ValueError(sentence("not-an-id", value=text, largest=LARGEST_ID))
    return int(text)


def licenses(text: str) -> dict[str, int]:
    """How many there are by type, in lower case: `port=100 audio=20`, also with commas."""
    found: dict[str, int] = {}
    for part in re.split(r"[\s,;]+", text.strip(" ,;")):
        name, _, number = part.partition("=")
        if not (name and re.fullmatch("[0-9]{1,9}", number)) or name.lower() in found:
            raise ValueError(sentence("not-licenses", value=text))
        found[name.lower()] = int(number)
    return found


def zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text.removeprefix(":"))
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(sentence("not-a-zone", value=text)) from None


def fingerprint(text: str) -> str:
    digits = re.sub("^sha-?256[^=:]*[=:]|[: ]", "", text, flags=re.IGNORECASE).lower()
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ValueError(sentence("not-a-fingerprint", value=text))
    return digits


def folder(text: str) -> Path:
    path = PurePosixPath(re.sub("^//+", "/", text))
    if not path.is_absolute() or ".." in path.parts:
        raise ValueError(sentence("not-absolute", value=text))
    if str(path) in NO_DATA_FOLDER or any(str(parent) in SYSTEM_FOLDERS for parent in (path, *path.parents)):
        raise ValueError(sentence("system-folder", value=text))
    return Path(path)


def ping_url(text: str) -> str:
    try:
        split = urlsplit(text)
        valid = split.scheme in ("http", "https") and split.hostname and (split.port is None or split.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s\0-\x1f]", text):
        raise ValueError(sentence("not-a-ping-url"))
    return text


def urls(text: str) -> tuple[str, ...]:
    """Apprise URLs, separated by white space, or by a comma or semicolon before the next one's scheme.

    Another semicolon is a part of a password: Apprise would end it there, unless it is written as %3B.
    """
    text = re.sub(r"[,;]\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)", " ", text)
    return tuple(re.sub(r";(?![\w+-]+=)", "%3B", text).split())


def password(text: str) -> bytes:
    """Byte for byte what the environment or the file has."""
    return os.fsencode(text)


def unquoted(text: str) -> str:
    """The value without the quotes that `docker run --env-file` leaves around it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    return text


def since(text: str) -> datetime:
    """A date or an ISO 8601 time, naive where it has no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(sentence("not-a-time", value=text)) from None
    if moment.year not in YEARS:
        raise ValueError(sentence("time-out-of-range", value=text, first=YEARS[0], last=YEARS[-1]))
    return moment
