"""Parquet, workbooks and usage of a long history, each as the command that makes it."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tests.bench import archive
from tests.bench.measure import Cost, run

A_FILE = 10_000
"""Participants of a dated file: a busy platform's day."""
COLUMNS = (
    "id,start_time,start_local,end_time,duration,display_name,remote_alias,conference_name,protocol,call_quality,"
    "system_location,disconnect_reason,license_type"
)
BYTES_EACH = 8_000
"""Of disk for each participant: the aggregate, the dated files, what DuckDB spills."""


def measure(folder: Path, participants: int, collector: Path) -> list[tuple[str, Cost, str]]:
    """What each costs for a history of that many, and what it may cost."""
    data = folder / "data"
    data.mkdir()
    archive.write(data, participants)
    split(data, "pexHistoryPart.csv")
    environment = {"DATA_DIR": str(data), "TZ": "Europe/Oslo"}

    def command(*words: str) -> Cost:
        return run([sys.executable, str(collector), *words], environment)

    (data / ".collector").mkdir()
    (data / ".collector" / "lock").touch()
    found = [("Parquet of its dated files", command("parquet"), f"{12 * participants / 1e6:.1f} s, 400 MB")]
    found.append(
        (
            "workbook of 13 columns",
            command("export", "participants", "--columns", COLUMNS, "--output", str(folder / "people.xlsx")),
            f"{90 * participants / 1e6:.1f} s, 300 MB",
        )
    )
    found.append(
        (
            "usage of all of it",
            command("export", "usage", "--partial", "--format", "csv", "--output", str(folder / "usage.csv")),
            f"{10 * participants / 1e6:.1f} s",
        )
    )
    return found


def split(data: Path, name: str) -> None:
    """Make dated files of an aggregate."""
    csv.field_size_limit(1 << 24)
    with (data / name).open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header, day = next(rows), datetime(2026, 1, 1, 0, 5)
        while some := list(itertools.islice(rows, A_FILE)):
            write(data / f"{day:%Y-%m-%d_%H-%M-%S}_{name}", [header, *some])
            day += timedelta(days=1)


def write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
