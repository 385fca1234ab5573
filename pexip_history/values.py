"""Ids and times as text: ISO 8601 in UTC without a zone, as the node writes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime


def utc_times(values: Iterable[object]) -> list[str]:
    """Times as the node usually writes them, UTC without a zone, which sort as they follow in time.

    Z and offsets are taken into account; what is no time stays as it is.
    """
    texts = [str(value or "") for value in values]
    joined = "".join(texts)
    if not joined.isascii():
        texts = list(map(as_text, texts))
    if joined.count("-") <= 2 * len(texts) and not any(sign in joined for sign in "Zz+ "):
        return texts
    return [_utc(text) for text in texts]


def _utc(text: str) -> str:
    moment = read_time(text)
    return format_time(moment) if moment else text


def read_time(text: str) -> datetime | None:
    """The moment (UTC) of an ISO 8601 time, UTC where it has no offset; None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """UTC as the node writes it: no zone, no fraction where there is none."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def parse_time(text: str | None) -> datetime | None:
    """The moment (UTC) that `format_time` wrote."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def as_text(value: object) -> str:
    """An id as the ledger knows it; half of a surrogate pair, which UTF-8 cannot hold, becomes `?`."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
