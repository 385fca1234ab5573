"""The CSV files, as tables in DuckDB: only the columns that the page needs, whatever was done to the files.

`parallel = false` throughout. Several readers of one file guess where a row begins from the middle of a
quoted text, and a display name of some lines can be made to look like rows.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.errors import CollectorError, printable

from .blocks import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LONGEST = 1 << 23
"""Of a row, in bytes: a conference of ten thousand lists the address of each."""
SPARE = 24
"""Cells beyond the header that a row may have where a user edited the file."""
NEEDED = ("start_time", "end_time")
DATED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:[_-]\d+)?_(pexHistory(?:Conf|Part|Stream)\.csv)")
TIME = "TIMESTAMP"
# What the page counts. A Virtual Reception's caller is counted in the room that they are put through to.
RULES = """
CREATE MACRO meeting(service) AS service IS DISTINCT FROM 'two_stage_dialing';
CREATE MACRO person(protocol, service) AS coalesce(protocol, '') NOT IN ('API', 'BACKPLANE') AND meeting(service);
"""

# Of each table its columns: name, type, the file's column. A time is UTC, and of this century.
TABLES: dict[str, tuple[str, dict[str, tuple[str, str]]]] = {
    "conference": (
        "pexHistoryConf.csv",
        {
            "starts": (TIME, "start_time"),
            "ends": (TIME, "end_time"),
            "duration": ("BIGINT", "duration"),
            "room": ("VARCHAR", "name"),
            "service": ("VARCHAR", "service_type"),
        },
    ),
    "participant": (
        "pexHistoryPart.csv",
        {
            "starts": (TIME, "start_time"),
            "ends": (TIME, "end_time"),
            "duration": ("BIGINT", "duration"),
            "room": ("VARCHAR", "conference_name"),
            "service": ("VARCHAR", "service_type"),
            "protocol": ("VARCHAR", "protocol"),
            "quality": ("VARCHAR", "call_quality"),
            "reason": ("VARCHAR", "disconnect_reason"),
            "location": ("VARCHAR", "system_location"),
            "node": ("VARCHAR", "media_node"),
            "vendor": ("VARCHAR", "vendor"),
            "license": ("VARCHAR", "license_type"),
            "licenses": ("INTEGER", "license_count"),
        },
    ),
    "stream": (
        "pexHistoryStream.csv",
        {
            "participant": ("UBIGINT", "participant_id"),
            "kind": ("VARCHAR", "stream_type"),
            "received": ("DOUBLE", "rx_packet_loss"),
            "sent": ("DOUBLE", "tx_packet_loss"),
        },
    ),
}


@dataclass
class Reading:
    """What was found: by table the columns that some file had, and sentences on what could not be read."""

    columns: dict[str, set[str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def has(self, table: str, *columns: str) -> bool:
        return set(columns) <= self.columns.get(table, set())


def load(db: DuckDBPyConnection, data: Path, progress: Callable[[str], None]) -> Reading:
    """Make the tables, each from its aggregate or else from the dated files.

    Raises CollectorError where a file is there and is none of ours.
    """
    archive = Reading()
    db.execute(RULES)
    dated: dict[str, list[Path]] = {}
    for path in sorted(data.iterdir()):
        if match := DATED.fullmatch(path.name):
            dated.setdefault(match[1], []).append(path)
    streams = (data / "pexHistoryStream.csv").is_file() or "pexHistoryStream.csv" in dated
    for table, (name, wanted) in TABLES.items():
        columns = dict(wanted)
        if table == "participant" and streams:
            columns["id"] = ("UBIGINT", "id")
        db.execute(f"CREATE TABLE {table} ({', '.join(f'{own} {kind}' for own, (kind, _) in columns.items())})")
        aggregate = (data / name).is_file()
        paths = [data / name] if aggregate else dated.get(name, [])
        if not paths:
            continue
        archive.sources[table] = name if aggregate else f"{len(paths)} dated files (there is no {name})"
        size = sum(path.stat().st_size for path in paths) / 1e6
        for header, alike in _by_header(paths, table).items():
            places = {text: f"c{place}" for place, text in reversed(list(enumerate(header)))}
            there = {own: (kind, places[source]) for own, (kind, source) in columns.items() if source in places}
            archive.columns.setdefault(table, set()).update(there)
            with _told(db, progress, f"reading {archive.sources[table]}, {size:,.0f} MB"):
                refused = _insert(db, table, there, alike, len(header))
            if refused:
                archive.remarks.append(
                    f"{name}: {counted(refused, 'row')} left out that no program could read; the rest is here."
                )
    return archive


@contextmanager
def _told(db: DuckDBPyConnection, progress: Callable[[str], None], what: str) -> Iterator[None]:
    """Tells what is done, and while that takes longer than a second how far it is; then from a thread."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1):
            if (percent := db.query_progress()) > 0:
                progress(f"{what}, {percent:.0f} %")

    progress(what)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _by_header(paths: Iterable[Path], table: str) -> dict[tuple[str, ...], list[Path]]:
    """The files by their columns: dated files of before and after an upgrade differ."""
    needed = {"participant_id", "stream_type"} if table == "stream" else set(NEEDED)
    found: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        header = _header(path)
        if not header:
            continue  # nothing was ever written to it
        if not needed <= set(header):
            raise CollectorError(f"{printable(path.name)} {_why_not(path, header)}")
        found.setdefault(tuple(header), []).append(path)
    return found


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except csv.Error:
        return ["?"]


def _why_not(path: Path, header: Sequence[str]) -> str:
    with path.open("rb") as file:
        first = file.readline(1 << 16)
    fix = "restore it, or move it away so that the report reads the dated files"
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"was saved as UTF-16; save it as CSV UTF-8 with commas, {fix}"
    for sign, kind in ((b";", "semicolons"), (b"\t", "tabs")):
        if first.count(sign) > first.count(b","):
            return f"was saved with {kind}; save it as CSV UTF-8 with commas, {fix}"
    missing = ", ".join(name for name in NEEDED if name not in header)
    return f"has no header with the columns of the history ({missing or 'participant_id'} missing); {fix}"


def _insert(
    db: DuckDBPyConnection, table: str, columns: dict[str, tuple[str, str]], paths: list[Path], width: int
) -> int:
    """Read the files into the table; how many rows were refused.

    A file as we write it is read strictly. One that was edited is read again, its short rows padded and the
    cells beyond the header dropped; what is no row even so (or not UTF-8) is refused.
    """
    from duckdb import InvalidInputException

    names = ", ".join(columns)
    values = ", ".join(_value(kind, source) for kind, source in columns.values())
    insert = f"INSERT INTO {table} ({names}) SELECT {values} FROM read_csv(?, {_options(width)}"
    files = [str(path) for path in paths]
    try:
        db.execute("BEGIN")
        db.execute(f"{insert})", [files])
        db.execute("COMMIT")
        return 0
    except InvalidInputException:
        db.execute("ROLLBACK")
    db.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")
    tolerant = f"{insert.removesuffix(_options(width))}{_options(width + SPARE)}"
    db.execute(
        f"{tolerant}, strict_mode = false, null_padding = true, store_rejects = true, rejects_limit = 0)", [files]
    )
    row = db.execute("SELECT count(DISTINCT (file_id, line)) FROM reject_errors").fetchone()
    return int(row[0]) if row else 0


def _options(width: int) -> str:
    columns = ", ".join(f"'c{place}': 'VARCHAR'" for place in range(width))
    return (
        "header = true, delim = ',', quote = '\"', escape = '\"', auto_detect = false, parallel = false, "
        f"max_line_size = {LONGEST}, buffer_size = {2 * LONGEST}, columns = {{{columns}}}"
    )


def _value(kind: str, source: str) -> str:
    """The SQL that makes a cell (text) a value; NULL where it is empty or cannot be read."""
    if kind == TIME:
        moment = f"TRY_CAST({source} AS TIMESTAMP)"
        return f"CASE WHEN year({moment}) BETWEEN 2000 AND 2100 THEN {moment} END"
    if kind == "VARCHAR":
        # The apostrophe that keeps a spreadsheet from running the text (DATA_CSV_ESCAPE_FORMULAS) goes again.
        plain = f"CASE WHEN starts_with({source}, '''') THEN regexp_replace({source}, '^''([=@\\t\\r+-])', '\\1')"
        return f"nullif({plain} ELSE {source} END, '')"
    if kind == "UBIGINT":
        return f"hash({source})"
    return f"TRY_CAST({source} AS {kind})"
