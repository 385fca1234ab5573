"""An export, from the files to a file: rows selected, perhaps under pseudonyms, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.errors import CollectorError
from pexip_history.export import formats
from pexip_history.export.output import draft, explained, refuse
from pexip_history.export.pseudonyms import KINDS, key, pseudonym
from pexip_history.export.tables import Selected, Tables
from pexip_history.export.wanted import Wanted
from pexip_history.export.workbook import write_workbook
from pexip_history.history.database import database, workshop
from pexip_history.history.schema import named
from pexip_history.messages import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "160MB"
"""For DuckDB; the rest of what an export takes is Python's."""


@dataclass
class Exported:
    """How many rows were written, what a person should know of them, and for usage the sums."""

    rows: int = 0
    remarks: list[str] = field(default_factory=list)
    sums: dict[str, int] = field(default_factory=dict)


def export(
    data: Path,
    output: Path,
    wanted: Wanted,
    *,
    zone: ZoneInfo,
    escape: bool = True,
    known: dict[str, int] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Write what was asked for to `output`. `known` are the ledger's rows by resource; `progress` is told each step.

    Raises Misused where what was asked for cannot be, CollectorError where there is nothing or the disk or a file
    fails.
    """
    with explained(output):
        refuse(data, output)
        with workshop(data, "export") as folder, database(folder, MEMORY) as db:
            tables = Tables(db, data, folder, wanted, zone, known or {}, progress)
            selected = tables.select()
            done = Exported(remarks=_remarks(tables))
            sql = _final(selected, wanted, data)
            if not db.execute(f"SELECT 1 FROM ({selected.sql}) LIMIT 1").fetchone():
                raise CollectorError(_nothing(db, tables, wanted))
            progress(f"writing {output}")
            with draft(data, output) as file:
                _write(db, file, sql, wanted, folder, escape, done)
            if wanted.table == "usage":
                done.sums = _sums(db, selected)
        return done


def _remarks(tables: Tables) -> list[str]:
    """What could not be read, and what the ledger knows and no file holds."""
    read = [str(remark) for table in tables.loaded for remark in table.remarks]
    return read + [
        f"{table.resource}: {counted(table.missing, 'row')} that the ledger knows, and no file has"
        for table in tables.loaded
        if table.missing
    ]


def _final(selected: Selected, wanted: Wanted, data: Path) -> str:
    """The SQL for the columns that were asked for, under pseudonyms where they are."""
    secret = key(data) if wanted.hide_names else b""
    columns = [
        f"{pseudonym(named(name), KINDS[name], secret)} AS {named(name)}" if secret and name in KINDS else named(name)
        for name in selected.columns
    ]
    order = f" ORDER BY {selected.order}" if selected.order else ""
    return f"SELECT {', '.join(columns)} FROM ({selected.sql}){order}"


def _nothing(db: DuckDBPyConnection, tables: Tables, wanted: Wanted) -> str:
    """Why there is no row, and what there is."""
    spans = " UNION ALL ".join(f"SELECT start_time AS t FROM {table.resource}" for table in tables.loaded)
    [(low, high)] = db.execute(f"SELECT local(min(t))::DATE, local(max(t))::DATE FROM ({spans})").fetchall()
    period = f" of {wanted.period}" if wanted.period else ""
    held = f"the files have what began from {low} to {high}" if low else "the data folder holds no rows"
    return f"no row of {wanted.table}{period} is as asked for; {held}"


def _write(
    db: DuckDBPyConnection, file: IO[bytes], sql: str, wanted: Wanted, folder: Path, escape: bool, done: Exported
) -> None:
    columns = formats.columns_of(db, sql)
    rows = _counted(formats.rows_of(db, sql), done)
    match wanted.format:
        case "csv":
            formats.write_csv(file, columns, rows, wanted.delimiter, escape)
        case "jsonl":
            formats.write_jsonl(file, columns, rows)
        case "parquet":
            done.rows = formats.write_parquet(db, file, sql, columns)
        case _:
            if cut := write_workbook(file, folder, wanted.table, columns, rows):
                texts = counted(cut, "text was", "texts were")
                done.remarks.append(f"{texts} cut to the 32,767 characters of a cell, whole in the other formats")


def _counted(rows: Iterator[tuple[object, ...]], done: Exported) -> Iterator[Sequence[object]]:
    for row in rows:
        done.rows += 1
        yield row


def _sums(db: DuckDBPyConnection, selected: Selected) -> dict[str, int]:
    names = ("participants", "seconds", "minutes")
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
    [found] = db.execute(f"SELECT {sums} FROM ({selected.sql})").fetchall()
    return {name: int(value) for name, value in zip(names, found, strict=True)}
