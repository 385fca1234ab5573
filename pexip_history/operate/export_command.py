"""`export TABLE`: what the options mean, what the ledger says of the period, and what is told at the end."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from pexip_history.errors import DONE, MISUSED, printable
from pexip_history.export.choices import FORMATS
from pexip_history.export.wanted import Misused, Wanted, uncovered
from pexip_history.messages import counted, sentence
from pexip_history.operate.arguments import month
from pexip_history.operate.status import peek
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

FEW = 3
"""Spans that a sentence names."""


def export_table(settings: Settings, asked: argparse.Namespace) -> int:
    """Write the table, and say where it is; exit 2 where what is asked for cannot be. Raises CollectorError."""
    try:
        return _export(settings, asked)
    except Misused as error:
        print(printable(str(error)), file=sys.stderr)
        return MISUSED


def _export(settings: Settings, asked: argparse.Namespace) -> int:
    from pexip_history.export.exporting import export

    wanted, told = read_wanted(asked), peek(settings)
    output = asked.output or settings.data_dir / f"{default_name(wanted)}.{wanted.format}"
    lacking = _uncovered(settings, wanted, told, asked.partial)
    done = export(
        settings.data_dir,
        output,
        wanted,
        zone=settings.zone,
        escape=settings.escape_formulas,
        known={name: rows for name, rows, *_ in told["resources"]},
        progress=_progress,
    )
    waiting = f"not in it: {counted(told['staged'], 'row')}, to be written by the next run"
    for remark in (*done.remarks, *([lacking] if lacking else []), *([waiting] if told["staged"] else [])):
        print(printable(remark), file=sys.stderr)
    print(f"{output}: {counted(done.rows, 'row')}{_sums(wanted, done.sums)}")
    return DONE


def read_wanted(asked: argparse.Namespace) -> Wanted:
    """What the options mean together. Raises Misused."""
    named = asked.output.suffix.lower().lstrip(".") if asked.output else ""
    form = asked.format or (named if named in FORMATS else "csv" if asked.delimiter else FORMATS[0])
    if asked.delimiter and form != "csv":
        raise Misused(sentence("delimiter-without-csv", format=form))
    if (asked.round_up or asked.partial) and asked.table != "usage":
        raise Misused(
            sentence("for-usage-alone", option="round-up" if asked.round_up else "partial", table=asked.table)
        )
    if asked.table == "usage" and not (asked.first and asked.last) and not asked.partial:
        raise Misused(sentence("usage-without-period"))
    others = {field.name: getattr(asked, field.name) for field in fields(Wanted)}
    return Wanted(**{**others, "format": form, "delimiter": asked.delimiter or ","})


def default_name(wanted: Wanted) -> str:
    """`usage-2026-11`, `calls-2026-11-16-to-2026-11-20`, `rooms`."""
    named = wanted.first.isoformat()[:7] if wanted.first else ""
    if named and (wanted.first, wanted.last) == month(named):
        return f"{wanted.table}-{named}"
    return f"{wanted.table}-{wanted.period}".replace(" ", "-").removesuffix("-")


def _uncovered(settings: Settings, wanted: Wanted, told: dict[str, Any], partial: bool) -> str:
    """What of the period is not covered, in words. Raises Misused for usage that was not asked for as partial."""
    now = datetime.now(UTC).replace(tzinfo=None)
    spans = uncovered(told["coverage"], wanted, settings.zone, now)
    if not spans or not (wanted.period or told["coverage"]):
        return ""
    texts = [f"{format_time(a.replace(tzinfo=UTC))} to {format_time(b.replace(tzinfo=UTC))}" for a, b in spans]
    more = f" and {len(texts) - FEW} more" if len(texts) > FEW else ""
    said = f"not wholly covered: no run asked for {', '.join(texts[:FEW])}{more} (UTC), or the node had forgotten it"
    if wanted.table == "usage" and not partial:
        raise Misused(sentence("period-partial", what=said))
    return f"the period is {said}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(printable(text), file=sys.stderr)


def _sums(wanted: Wanted, sums: dict[str, int]) -> str:
    if not sums:
        return ""
    minutes, seconds = divmod(sums["seconds"], 60)
    lasted = counted(sums["minutes"], "whole minute") if wanted.round_up else f"{minutes:,} min {seconds} s"
    return f", {counted(sums['participants'], 'participant')}, {lasted}"
