"""Rows to a file: CSV, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING

from pexip_history.folder.cells import BOM, UNGUARDED, guard
from pexip_history.history.schema import named

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FETCHED = 1000
BATCH = 10_000
"""Rows of a Parquet row group: wide ones are held until one is whole."""
KINDS = {"TIMESTAMP": "time", "DATE": "date", "BOOLEAN": "truth", "VARCHAR": "text"}
LOCAL = "_local"

Columns = Sequence[tuple[str, str]]
"""Names and kinds: time, date, truth, text, number."""


def columns_of(db: DuckDBPyConnection, sql: str) -> Columns:
    """The columns of a query."""
    rows = db.execute(f"DESCRIBE {sql}").fetchall()
    return [(name, KINDS.get(kind, "number")) for name, kind, *_ in rows]


def rows_of(db: DuckDBPyConnection, sql: str) -> Iterator[tuple[object, ...]]:
    """The rows of a query, as they come."""
    found = db.execute(sql)
    while some := found.fetchmany(FETCHED):
        yield from some


def write_csv(
    file: IO[bytes], columns: Columns, rows: Iterable[Sequence[object]], delimiter: str, escape: bool
) -> None:
    """RFC 4180 but for the delimiter, UTF-8; with `;` a byte order mark, by which Excel knows UTF-8 on a double click.

    With `escape` text that a spreadsheet would run gets an apostrophe, as in the history's own files.
    """
    if delimiter == ";":
        file.write(BOM)
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=False)
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([guard(name) if escape else name for name, _ in columns])
    guarded = [escape and kind == "text" and name not in UNGUARDED for name, kind in columns]
    for row in rows:
        writer.writerow(
            guard(cell) if guarded[place] and isinstance(cell, str) else cell for place, cell in enumerate(row)
        )
    text.flush()
    text.detach()


def write_jsonl(file: IO[bytes], columns: Columns, rows: Iterable[Sequence[object]]) -> None:
    """An object a line; times in UTC end with Z, local ones have no zone."""
    import msgspec

    encoder = msgspec.json.Encoder()
    names = [name for name, _ in columns]
    utc = [place for place, (name, kind) in enumerate(columns) if kind == "time" and not name.endswith(LOCAL)]
    for row in rows:
        cells = list(row)
        for place in utc:
            moment = cells[place]
            if isinstance(moment, datetime):
                cells[place] = moment.replace(tzinfo=UTC)
        file.write(encoder.encode(dict(zip(names, cells, strict=True))) + b"\n")


def write_parquet(db: DuckDBPyConnection, file: IO[bytes], sql: str, columns: Columns) -> int:
    """Times in UTC as instants, local ones as they are; zstd. Returns how many rows there were."""
    instants = [
        f"{named(name)} AT TIME ZONE 'UTC' AS {named(name)}"
        if kind == "time" and not name.endswith(LOCAL)
        else named(name)
        for name, kind in columns
    ]
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {BATCH}, USE_TMP_FILE false"
    select = f"SELECT {', '.join(instants)} FROM ({sql})"
    [(rows,)] = db.execute(f"COPY ({select}) TO '/proc/self/fd/{file.fileno()}' ({options})").fetchall()
    return int(rows)
