"""The files of a resource as one typed table in DuckDB: each id once, and what could not be read counted and named.

`parallel = false` throughout. Several readers of one file guess where a row begins from the middle of a
quoted text, and a display name of some lines can be made to look like rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.errors import CollectorError, printable
from pexip_history.history.database import THREADS, told
from pexip_history.history.files import PIECE, File, Remark, ahead, as_utf8, csv_options, find, opened, pieces
from pexip_history.history.schema import NESTED, TEXT, TIME, checked, converted, named, quoted, type_of
from pexip_history.messages import counted, sentence
from pexip_history.resources import BY_NAME

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

AT_ONCE = 200
"""Files that are open at the same time."""
OWN = ("_file", "_key", "_unread")
"""Columns of every table besides those of the files: the place in `Table.files`, a hash of the key, and a bit for
each column of `Table.typed` whose cell holds what is no value of its type."""


@dataclass(frozen=True)
class Take:
    """A column to read: the files' column, the SQL around its value, and the type if that makes another.

    `plain`: the text as it stands, where no formula can be; of another type no count of what cannot be read.
    """

    source: str
    around: str = "{}"
    kind: str = ""
    plain: bool = False

    @property
    def type(self) -> str:
        return self.kind or type_of(self.source)

    @property
    def nested(self) -> bool:
        """Whether the value is made of the text of a list, which can be none."""
        return bool(self.kind) and self.source in NESTED


@dataclass
class Table:
    """A table that was made, with the resource's name."""

    resource: str
    columns: dict[str, Take] = field(default_factory=dict)
    """All columns of the table but OWN, in their order."""
    there: set[str] = field(default_factory=set)
    """Those of them that some file had."""
    files: list[File] = field(default_factory=list)
    source: str = ""
    """What was read, in words; empty where there was nothing."""
    rows: int = 0
    """Each id once."""
    twice: int = 0
    """Rows that were left out because their id had come before in the same file or among the dated files."""
    known: int = 0
    """Rows that the aggregate has, as the ledger says."""
    short: bool = False
    """The aggregate holds fewer than that, or is missing, or is none of ours."""
    remarks: list[Remark] = field(default_factory=list)
    read: float = 0  # MB of the files that are being added

    @property
    def typed(self) -> list[str]:
        """The columns whose values are no text, in the order of the bits of _unread."""
        return [name for name, take in self.columns.items() if take.type != TEXT and not take.plain]

    @property
    def missing(self) -> int:
        """Rows that the ledger knows, and no file holds."""
        return max(self.known - self.rows, 0)


def load(
    db: DuckDBPyConnection,
    data: Path,
    resource: str,
    folder: Path,
    *,
    columns: Mapping[str, Take] | None = None,
    known: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Table:
    """Make the table `resource` of the data folder's files: the aggregate, and the dated files where it is short.

    `columns` are the wanted ones by the name that they get; without, all that the files have, by their own.
    `known` is how many rows the aggregate has as the ledger says, `folder` a workshop for copies. `progress` is told
    each step, and of a long one each second how far it is (from a thread).
    Raises OSError, duckdb.Error where the disk or the memory fails; never because of a row, or of a file.
    """
    found = find(data, resource)
    aggregate = [found.aggregate] if found.aggregate else []
    table = Table(resource, known=known, remarks=found.remarks)
    create(db, table, columns or _all([*aggregate, *found.dated]))
    if aggregate:
        table.source = aggregate[0].name
        add(db, table, aggregate, folder, progress)
    table.short = not aggregate or table.rows < known
    if table.short and found.dated:
        dated = counted(len(found.dated), "dated file")
        table.source = f"{table.source} and {dated}" if table.source else dated
        add(db, table, found.dated, folder, progress)
    table.remarks += unread_cells(db, table)
    return table


def add(
    db: DuckDBPyConnection,
    table: Table,
    files: Sequence[File],
    folder: Path,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Read these files into the table, and leave out ids that it has. Raises as `load`."""
    first = len(table.files)
    alike: dict[tuple[str, ...], list[File]] = {}
    for file in files:
        alike.setdefault(file.header, []).append(file)
    table.read, size = 0.0, _size(files)
    with told(progress, f"reading {table.source or table.resource}, {size:,.0f} MB", lambda: table.read / (size or 1)):
        for each in alike.values():
            for start in range(0, len(each), AT_ONCE):
                _read(db, table, each[start : start + AT_ONCE], folder)
    table.twice += _once(db, table, first)
    if first:
        _once(db, table, 0)
    [(table.rows,)] = db.execute(f"SELECT count(*) FROM {table.resource}").fetchall()


def _all(files: Sequence[File]) -> dict[str, Take]:
    """All columns of the files. DuckDB knows names without regard to case: of two alike the first."""
    found: dict[str, Take] = {}
    seen = {"", *OWN}
    for file in files:
        for name in file.header:
            if name.casefold() not in seen:
                seen.add(name.casefold())
                found[name] = Take(name)
    return found


def create(db: DuckDBPyConnection, table: Table, columns: Mapping[str, Take]) -> None:
    table.columns = dict(columns)
    own = [f"{named(name)} {take.type}" for name, take in columns.items()]
    db.execute(f"CREATE TABLE {table.resource} ({', '.join([*own, '_file INTEGER, _key UBIGINT, _unread BIGINT'])})")


def _size(files: Sequence[File]) -> float:
    """Together, MB."""
    return sum(file.path.stat().st_size for file in files if file.path.exists()) / 1e6


def _read(db: DuckDBPyConnection, table: Table, files: Sequence[File], folder: Path) -> None:
    """Files of one header, strictly as the collector writes them; where that fails each by itself."""
    from duckdb import DataError, InvalidInputException, OutOfMemoryException

    try:
        _insert(db, table, files, folder)
        return
    except OutOfMemoryException:
        _insert(db, table, files, folder, cut=True)
        return
    except (InvalidInputException, DataError, CollectorError, FileNotFoundError) as error:
        if len(files) > 1:
            for file in files:
                _read(db, table, [file], folder)
            return
        (file,) = files
        if isinstance(error, CollectorError):
            table.remarks.append(Remark(printable(file.name), f"not read: {error}"))
            return
        if isinstance(error, FileNotFoundError):
            if file.path.exists():
                raise  # what is missing is a copy of ours
            return  # DATA_KEEP_DAYS has removed it since
    _read_edited(db, table, file, folder)


def _read_edited(db: DuckDBPyConnection, table: Table, file: File, folder: Path) -> None:
    """A file that was not read as ours: its lines as UTF-8, its short rows padded, the cells beyond dropped."""
    from duckdb import DataError, InvalidInputException

    name = printable(file.name)
    copy, changed = as_utf8(file, folder)
    if changed:
        fix = "read as Windows-1252; save the file as CSV UTF-8"
        table.remarks.append(Remark(name, f"{counted(changed, 'line that is', 'lines that are')} not UTF-8, {fix}"))
    try:
        refused = _insert(db, table, [copy], folder, tolerant=True)
    except (InvalidInputException, DataError) as error:
        said = printable(str(error).partition("\n")[0], 200)
        table.remarks.append(Remark(name, f"not read: {said}; restore it"))
        return
    finally:
        if copy is not file:
            copy.path.unlink()
    if refused:
        lines = ", ".join(f"{line:,}" for line in refused[:5]) + (" and so on" if len(refused) > 5 else "")
        rows = counted(len(refused), "row")
        table.remarks.append(Remark(name, f"{rows} left out that no program could read (line {lines})"))


def _insert(
    db: DuckDBPyConnection,
    table: Table,
    files: Sequence[File],
    folder: Path,
    *,
    tolerant: bool = False,
    cut: bool = False,
) -> list[int]:
    """Read files of one header into the table, all or none; the lines that were refused, which is none unless tolerant.

    Some pieces at a time, with `cut`, where a file by itself is large, and where they are together and have long texts.
    Raises NotAFile, FileNotFoundError, duckdb.InvalidInputException and duckdb.DataError where a file is not as wanted.
    """
    header, place = files[0].header, len(table.files)
    there = {name for name, take in table.columns.items() if take.source in header}
    nested = any(table.columns[name].source in NESTED for name in there)
    large = _size(files) > 2 * PIECE / 1e6
    cut = cut or (large and not tolerant and (nested or len(files) == 1))
    db.execute("BEGIN")
    try:
        if cut:
            for number, file in enumerate(files):
                for together in ahead(pieces(file, folder, THREADS)):
                    _copy(db, table, together, place + number, cut=True)
        else:
            _copy(db, table, files, place, tolerant=tolerant)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    table.files += files
    table.there |= there
    if not tolerant:
        return []
    rows = db.execute("SELECT DISTINCT line FROM reject_errors ORDER BY line").fetchall()
    db.execute("DROP TABLE reject_errors; DROP TABLE reject_scans")
    return [line for (line,) in rows]


def _copy(
    db: DuckDBPyConnection,
    table: Table,
    files: Sequence[File],
    place: int,
    *,
    tolerant: bool = False,
    cut: bool = False,
) -> None:
    """Read files of one header into the table; `cut`: pieces of one file, the one at that place in Table.files."""
    with opened(files) as paths:
        select = _select(table, files[0], paths, place, tolerant=tolerant, cut=cut)
        db.execute(f"INSERT INTO {table.resource} ({', '.join([*map(named, table.columns), *OWN])}) {select}")
    table.read += _size(files)


def _select(table: Table, first: File, paths: Sequence[str], place: int, *, tolerant: bool, cut: bool) -> str:
    """The SQL for the table's rows of files with the first one's header; `place` is that one's in Table.files."""
    header = first.header
    cells = {name: f"c{number}" for number, name in reversed(list(enumerate(header)))}
    # Steps of their own, since DuckDB computes again what an expression of CASE names again.
    steps: tuple[list[str], list[str]] = (["*"], ["*"])
    values, bits = [], []
    place_of = {name: number for number, name in enumerate(table.typed)}
    for number, (name, take) in enumerate(table.columns.items()):
        if not (cell := cells.get(take.source)):
            values.append("NULL")
            continue
        if take.plain and type_of(take.source) == TEXT:
            values.append(take.around.format(cell))
            continue
        steps[0].append(f"{converted(take.source, cell)} AS f{number}")
        found, around = checked(take.source, f"f{number}"), take.around
        if take.nested:  # it is what is around it that reads it
            found, around = around.format(found), "{}"
        steps[1].append(f"{found} AS v{number}")
        values.append(around.format(f"v{number}"))
        if name in place_of:
            bits.append(f"CASE WHEN v{number} IS NULL AND trim({cell}) <> '' THEN {1 << place_of[name]} ELSE 0 END")
    key = [cells.get(name, "NULL") for name in BY_NAME[table.resource].key]
    there = " AND ".join(f"{cell} <> ''" for cell in key)
    several, texts = len(paths) > 1 and not cut, ", ".join(map(quoted, paths))
    file = f"{place}" if not several else f"{place - 1} + list_position([{texts}], filename)"
    values += [file, f"CASE WHEN {there} THEN hash({', '.join(key)}) END", " + ".join(bits) or "0"]
    options = csv_options(len(header), tolerant, first.line_end if cut else "")
    reading = f"FROM read_csv([{texts}], {options}{', filename = true' if several else ''})"
    if tolerant:
        reading += f" WHERE concat({', '.join(f'c{number}' for number in range(len(header)))}) <> ''"
    for step in steps:
        reading = f"FROM (SELECT {', '.join(step)} {reading})"
    return f"SELECT {', '.join(values)} {reading}"


def _once(db: DuckDBPyConnection, table: Table, first: int) -> int:
    """Of rows of one key in the files from `first` on keep the first; how many were left out."""
    name = table.resource
    mine = f"{name} WHERE _file >= {first} AND _key IS NOT NULL"
    [(every, distinct)] = db.execute(f"SELECT count(*), count(DISTINCT _key) FROM {mine}").fetchall()
    if every > distinct:
        db.execute(f"""
            DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM (
                SELECT rowid, row_number() OVER (PARTITION BY _key ORDER BY _file, rowid) AS place FROM {mine})
                WHERE place > 1)""")
    return int(every - distinct)


def unread_cells(db: DuckDBPyConnection, table: Table) -> list[Remark]:
    """Cells that hold what is no value of their column's type, by file and column."""
    found = []
    if not (typed := table.typed):
        return []
    counts = ", ".join(f"count(*) FILTER (_unread & {1 << number} <> 0)" for number in range(len(typed)))
    rows = db.execute(
        f"SELECT _file, {counts} FROM {table.resource} WHERE _unread <> 0 GROUP BY _file ORDER BY _file"
    ).fetchall()
    for place, *each in rows:
        for name, count in zip(typed, each, strict=True):
            if count:
                take = table.columns[name]
                kind = "list in JSON" if take.nested else "time" if take.type == TIME else "value"
                what = sentence("cells-unreadable", count=count, column=take.source, kind=kind)
                found.append(Remark(printable(table.files[place].name), what))
    return found
