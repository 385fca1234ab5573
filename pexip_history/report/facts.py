"""What the ledger knows of the history, and what of it the page says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from pexip_history.messages import counted

from .period import A_DAY, Coverage, Span, midnight

MOST = 8
"""Entries of a list that the page shows."""


@dataclass(frozen=True)
class Facts:
    """What the ledger knows of the history, and the files do not tell; times are aware."""

    version: str
    complete_since: datetime | None = None
    reconciled: datetime | None = None
    """When the history was last compared with the node's whole list."""
    waiting: int = 0
    """Rows that are staged and not in the files yet."""
    lost: Sequence[tuple[datetime | None, int]] = ()
    """Participants that the node forgot before they came: when that was noticed, and how many."""
    gaps: Sequence[tuple[datetime, datetime]] = ()
    """Spans that the node had forgotten when it was asked, or that nobody asked for, between covered ones."""
    coverage: Sequence[tuple[datetime, datetime]] | None = None
    """Spans of which everything was taken; None where no ledger tells."""
    gaps_unknown_before: datetime | None = None
    """Set where the ledger was lost: gaps before that are unknown."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """How many rows each aggregate has, by resource (`conference`, `participant` and so on)."""
    missing: int = 0
    """Participants that collected conferences list, and that have not come yet."""


def coverage_of(facts: Facts, oldest: datetime | None, newest: datetime | None, made: datetime) -> Coverage:
    """What is covered. `oldest` and `newest` are when the first and the last record began and ended, local.

    Without a ledger it is the days from the first record to the last.
    """
    zone = made.tzinfo
    assert isinstance(zone, ZoneInfo)
    if facts.coverage is not None:
        return Coverage([(_naive(start), _naive(end)) for start, end in facts.coverage], True, zone)
    if not oldest or not newest:
        return Coverage([], False, zone)
    return Coverage([(midnight(oldest.date(), zone), midnight(newest.date() + A_DAY, zone))], False, zone)


def known_of(
    facts: Facts, sources: Sequence[str], made: datetime, oldest: datetime | None, newest: datetime | None
) -> list[tuple[str, str]]:
    """The facts, in words; times local."""

    def when(moment: datetime | None, otherwise: str = "") -> str:
        return f"{moment.astimezone(made.tzinfo):%Y-%m-%d %H:%M}" if moment else otherwise

    lost = [f"{counted(many, 'participant')} ({when(moment, 'time unknown')})" for moment, many in facts.lost if many]
    covered = [f"{when(start)} to {when(end)}" for start, end in facts.coverage or ()]
    gaps = [f"{when(start)} to {when(end)}" for start, end in facts.gaps]
    if facts.gaps_unknown_before:
        gaps.append(f"before {when(facts.gaps_unknown_before)} unknown, since the ledger was lost")
    waiting = counted(facts.waiting, "row")
    no_gap = "none known" if facts.coverage is not None else "unknown; the collector's ledger does not tell"
    rows = [
        ("Made", f"{made:%Y-%m-%d %H:%M}"),
        ("Read from", "; ".join(sources) or "no files: the data folder holds none of the history's"),
        ("First record", when(oldest, "none")),
        ("Last record", when(newest, "none")),
        ("Complete since", when(facts.complete_since, "unknown; the collector's ledger does not tell")),
        ("Covered", "; ".join(_few(covered)) or "unknown; the collector's ledger does not tell"),
        ("Gaps", "; ".join(_few(gaps)) or no_gap),
        ("Compared with the node's whole list", when(facts.reconciled, "not yet")),
        ("Waiting for the next run", f"{waiting}, not on this page" if facts.waiting else "nothing"),
        ("Participants that have not come yet", f"{facts.missing:,}" if facts.missing else "none known"),
        ("Lost for good", "; ".join(_few(lost)) or "nothing known"),
    ]
    return rows


def _few(texts: list[str]) -> list[str]:
    return texts if len(texts) <= MOST else [f"{len(texts) - MOST + 1} earlier ones", *texts[1 - MOST :]]


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def in_words(spans: Sequence[Span], zone: ZoneInfo) -> str:
    """Spans as days where they are whole ones, else to the minute; local."""
    said = []
    for start, end in spans:
        a, b = (moment.replace(tzinfo=UTC).astimezone(zone) for moment in (start, end))
        first, last = a.date(), (b - timedelta(microseconds=1)).date()
        if midnight(first, zone) == start and midnight(last + A_DAY, zone) == end:
            said.append(_days(first, last))
        else:
            said.append(f"{a:%Y-%m-%d %H:%M} to {b:%Y-%m-%d %H:%M}")
    return "; ".join(_few(said))


def _days(first: date, last: date) -> str:
    return f"{first}" if first == last else f"{first} to {last}"
