"""Rows of our Parquet files found, emptied or left out; a file is rewritten whole, or stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pexip_history.errors import CollectorError
from pexip_history.folder.names import AGGREGATES, DATED, STEM
from pexip_history.folder.opening import own
from pexip_history.folder.rewriting import new_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLDER = "parquet"
TABLES = {"conference": "conferences", "participant": "participants", "stream": "streams"}
"""By resource the folder of its files."""
LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "256MB",
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
GROUP = 16_384
"""Rows of a row group: it is held in memory until it is whole, and a row with its streams can have kilobytes."""
ROWS = 1000
"""Fetched at once."""


class Unreadable(CollectorError):
    """The file is no Parquet file."""


def parquet_files(data: Path) -> Iterator[Path]:
    """Every Parquet file of ours, by name. A folder that is a link is nobody's."""
    root = data / FOLDER
    if root.is_symlink() or not root.is_dir():
        return
    for folder in sorted(root.iterdir()):
        if not folder.is_symlink():  # a file has nothing in it
            yield from sorted(p for p in folder.glob("*.parquet") if STEM.fullmatch(p.name.removesuffix(".parquet")))


def lacking(data: Path) -> dict[str, set[str]]:
    """By resource the names of the dated files that have no Parquet file; a resource without any is left out."""
    found, there = {}, _names(data)
    for resource, folder in TABLES.items():
        made = {name.removesuffix(".parquet") for name in _names(data / FOLDER / folder) if name.endswith(".parquet")}
        dated = (name for name in there if name.endswith(f"_{AGGREGATES[resource]}") and stem_of(name) not in made)
        if names := set(filter(DATED.fullmatch, dated)):
            found[resource] = names
    return found


def _names(folder: Path) -> list[str]:
    """What is in the folder: after each run, and there may be files of years."""
    with suppress(OSError):
        return [path.name for path in folder.iterdir()]
    return []


def stem_of(name: str) -> str:
    """A dated file's `<date_time>`."""
    return name.partition("_pexHistory")[0]


def key_of(path: Path) -> str:
    """The column that holds the participant's or the record's id."""
    return "participant_id" if path.parent.name == "streams" else "id"


@contextmanager
def open_parquet(path: Path) -> Iterator[tuple[DuckDBPyConnection, str, dict[str, str]]]:
    """A connection, the table's name in SQL, and its columns with their types. Raises Unreadable, NotAFile, OSError."""
    import duckdb

    with open(path, "rb", opener=own) as file, duckdb.connect(config=LIMITS) as db:
        try:
            table = f"read_parquet('/proc/self/fd/{file.fileno()}')"
            columns = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()}
            yield db, table, columns
        except duckdb.Error as error:
            raise Unreadable(f"{path.name} cannot be read ({str(error).splitlines()[0]})") from None


def parquet_cells(path: Path, wanted: Sequence[str]) -> tuple[list[str], Iterator[list[str]]]:
    """Of these columns those that the file has, and its rows under them, as text. Raises what `open_parquet` does."""
    with open_parquet(path) as (_, _, columns):
        there = [name for name in wanted if name in columns]

    def rows() -> Iterator[list[str]]:
        if not there:
            return
        with open_parquet(path) as (db, table, columns):
            cells = ", ".join(_text(name, kind) for name in there for kind in [columns[name]])
            found = db.execute(f"SELECT {cells} FROM {table}")
            while some := found.fetchmany(ROWS):
                yield from map(list, some)

    return there, rows()


def empty_cells(path: Path, cells: dict[str, list[str]]) -> int:
    """Empty columns in the rows with these ids: by column. How many rows were changed. Raises what `_rewrite` does."""

    def query(db: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> tuple[str, int]:
        key, replaced, changed = _quoted(key_of(path)), [], []
        for number, (name, ids) in enumerate(cells.items()):
            if name in columns and key_of(path) in columns:
                db.execute(f"CREATE TEMP TABLE ids{number} AS SELECT unnest(?::VARCHAR[]) AS id", [ids])
                within = f"{key}::VARCHAR IN (SELECT id FROM ids{number})"
                replaced.append(f"CASE WHEN {within} THEN NULL ELSE {_quoted(name)} END AS {_quoted(name)}")
                changed.append(f"({within} AND coalesce({_quoted(name)}::VARCHAR, '') <> '')")
        if not changed:
            return "", 0
        count = _one(db, f"SELECT count(*) FROM {table} WHERE {' OR '.join(changed)}")
        return f"SELECT * REPLACE ({', '.join(replaced)}) FROM {table}", count

    return _rewrite(path, query)


def leave_out_before(path: Path, moment: str, times: Sequence[str]) -> int:
    """Leave out the rows of which the first of these times that they have lies before the moment; how many."""

    def query(db: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> tuple[str, int]:
        there = [_time(name, columns[name]) for name in times if name in columns]
        if not there:
            return "", 0
        old = f"coalesce(coalesce({', '.join(there)}) < TIMESTAMP '{moment}', false)"
        return f"SELECT * FROM {table} WHERE NOT {old}", _one(db, f"SELECT count(*) FROM {table} WHERE {old}")

    return _rewrite(path, query)


def _rewrite(path: Path, query: Callable[[DuckDBPyConnection, str, Mapping[str, str]], tuple[str, int]]) -> int:
    """Raises Unreadable, NotAFile, OSError; the file is as it was then."""
    with open_parquet(path) as (db, table, columns):
        sql, count = query(db, table, columns)
        if count:
            open(path, "r+b", opener=own).close()  # where a program has it open, that is found out here
            with new_file(path) as target:
                _copy(db, sql, target)
    return count


def _copy(db: DuckDBPyConnection, sql: str, target: IO[bytes]) -> None:
    import duckdb

    try:
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP}, USE_TMP_FILE false"
        db.execute(f"COPY ({sql}) TO '/proc/self/fd/{target.fileno()}' ({options})")
    except duckdb.IOException as error:
        raise OSError(28 if "space" in str(error) else 5, str(error).splitlines()[0], target.name) from None


def _one(db: DuckDBPyConnection, sql: str) -> int:
    [(number,)] = db.execute(sql).fetchall()
    return int(number)


def _time(name: str, kind: str) -> str:
    """As a time in UTC without a zone. To cast an instant to one would take the zone of the process."""
    of = _quoted(name)
    return f"make_timestamp(epoch_us({of}))" if kind.startswith("TIMESTAMP") else f"TRY_CAST({of} AS TIMESTAMP)"


def _text(name: str, kind: str) -> str:
    """As text; a time as the node writes it; empty where there is none."""
    if kind.startswith("TIMESTAMP"):
        return f"coalesce(replace({_time(name, kind)}::VARCHAR, ' ', 'T'), '')"
    return f"coalesce({_quoted(name)}::VARCHAR, '')"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
