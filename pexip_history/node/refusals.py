"""What an answer means that is not the one that was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from pexip_history.errors import QUOTED, NodeError, Passing, TooMany, printable
from pexip_history.messages import sentence

LONGEST_WAIT = 120.0  # seconds that a node may ask for
BUSY_WAIT = 20.0  # seconds: after a 429 that asks for none
CENTURY = 100 * 366 * 86400.0  # seconds
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def status_error(at: str, answer: Answer) -> NodeError:
    """The error for a status that means the same wherever it is met; `at` names the place."""
    status, wait = answer.status, max(seconds_ahead(answer.headers.get("Retry-After")) or 0.0, 0.0)
    patience = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
    if status == 429:
        error = sentence("too-many-requests", at=at, status=status, patience=patience)
        return Passing(error, wait) if wait else TooMany(error, BUSY_WAIT)
    if status == 408 or status >= 500:
        return Passing(sentence("node-trouble", at=at, status=status, patience=patience), wait)
    if 300 <= status < 400:
        target = printable(answer.headers.get("Location", "nowhere"), QUOTED)
        return NodeError(sentence("redirect", at=at, status=status, location=target))
    return NodeError(sentence("unlike-the-api", at=at, what=status))


def read_body(at: str, answer: Answer, reader: Callable[[bytes], T]) -> T:
    """What the reader makes of the body, which raises ValueError for what is no JSON, and NodeError for the wrong one.

    Raises Passing, NodeError: whole sentences.
    """
    try:
        return reader(answer.body)
    except NodeError as error:
        raise NodeError(sentence("unlike-the-api", at=at, what=error)) from None
    except ValueError:
        kind = printable(answer.headers.get("Content-Type", "no Content-Type"), QUOTED)
        name = "json-damaged" if "json" in kind else "no-json"
        raise Passing(sentence(name, at=at, kind=kind)) from None


def seconds_ahead(header: str | None) -> float | None:
    """How far a header lies in the future: seconds as Retry-After has them, or an HTTP date.

    None where it is neither, or no date that a clock shows.
    """
    from email.utils import parsedate_to_datetime

    if re.fullmatch("[0-9]{1,9}", header or ""):
        return float(header or 0)
    with suppress(ValueError, TypeError, OverflowError, IndexError, AttributeError):
        moment = parsedate_to_datetime(header or "")
        ahead = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return ahead if abs(ahead) < CENTURY else None
    return None
