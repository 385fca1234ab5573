"""Parquet, workbooks and usage of a long history, each as the command that makes it."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from tests.bench.measure import Cost, run
from tests.bench.stage import write_archive

A_FILE = 10_000
"""Participants of a dated file: a busy platform's day."""
COLUMNS = (
    "id,start_time,start_local,end_time,duration,display_name,remote_alias,conference_name,protocol,call_quality,"
    "system_location,disconnect_reason,license_type"
)
BYTES_EACH = 8_000
"""Of disk for each participant: the aggregate, the dated files, what DuckDB spills."""
WORKBOOK, USAGE = ("participants", "--columns", COLUMNS), ("usage", "--partial", "--format", "csv")


def measure(folder: Path, participants: int, collector: Path) -> Iterator[tuple[str, Cost, str]]:
    """What each costs for a history of that many, and what it may cost."""
    data, millions = folder / "data", participants / 1e6
    (data / ".collector").mkdir(parents=True)
    (data / ".collector" / "lock").touch()
    write_archive(data, participants)
    split(data, "pexHistoryPart.csv")
    for what, wanted, words in (
        ("Parquet of its dated files", f"{12 * millions:.1f} s, 400 MB", ("parquet",)),
        ("workbook of 13 columns", f"{90 * millions:.1f} s, 300 MB", ("export", *WORKBOOK, "--output", "people.xlsx")),
        ("usage of all of it", f"{10 * millions:.1f} s", ("export", *USAGE, "--output", "usage.csv")),
    ):
        words = tuple(str(folder / word) if word.endswith((".xlsx", ".csv")) else word for word in words)
        cost = run([sys.executable, str(collector), *words], {"DATA_DIR": str(data), "TZ": "Europe/Oslo"})
        yield what, cost, wanted


def split(data: Path, name: str) -> None:
    """Make dated files of an aggregate."""
    csv.field_size_limit(1 << 24)
    with (data / name).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header, day = next(rows), datetime(2026, 1, 1, 0, 5)
        while some := list(itertools.islice(rows, A_FILE)):
            with (data / f"{day:%Y-%m-%d_%H-%M-%S}_{name}").open("w", encoding="utf-8", newline="") as dated:
                csv.writer(dated).writerows([header, *some])
            day += timedelta(days=1)
