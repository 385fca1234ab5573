"""`parquet/<conferences|participants|streams>/<date_time>.parquet`: each dated file typed, for any engine to read.

Every file of a folder has all columns that the History API is known to have, so that engines which take the columns of
one file for all find them. Of a column that the dated file lacks the values are null; others of its own come last.
Times are timestamps in UTC. The streams within a participant are a list of structures; the files of streams, which
DATA_MEDIA_STREAMS=true writes, are a table of their own beside.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.archive.parquet_rows import FOLDER, TABLES, lacking, stem_of
from pexip_history.errors import CollectorError
from pexip_history.folder.opening import NotAFile, other_kind, own_folder
from pexip_history.folder.rewriting import sync_folder
from pexip_history.history.database import THREADS, database, workshop
from pexip_history.history.files import File, Remark, csv_options, look, opened
from pexip_history.history.schema import (
    TEXT,
    TIME,
    TRUTH,
    WHOLE,
    YEARS,
    is_guarded,
    named,
    quoted,
    type_of,
    unguarded,
    value,
)
from pexip_history.history.tables import OWN, Table, Take, add, create, unread_cells
from pexip_history.messages import sentence

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

A_RUN = 1 << 30
"""Bytes of dated files that one call takes: those of years get theirs over some runs."""
ROWS = 20_480
"""Of a row group, which is in memory until it is whole: larger ones go to disk and back, and take twice the time."""

INSTANTS = ("start_time", "end_time")
"""Times that are instants, so that engines show them in their own zone."""

_STREAM = (
    "id stream_id stream_type node participant start_time end_time rx_bitrate rx_codec rx_fps rx_packet_loss"
    " rx_packets_lost rx_packets_received rx_resolution tx_bitrate tx_codec tx_fps tx_packet_loss tx_packets_lost"
    " tx_packets_sent tx_resolution"
)
_COLUMNS = {
    "conference": "direct_media_available duration end_time id instant_message_count name participant_count"
    " participants resource_uri service_type start_time tag",
    "participant": "av_id bandwidth call_direction call_quality call_tag call_uuid conference conference_name"
    " conversation_id disconnect_reason display_name duration encryption end_time has_media id idp_uuid is_direct"
    " is_idp_authenticated is_streaming license_count license_type local_alias media_node media_streams parent_id"
    " presentation_id protocol proxy_node remote_address remote_alias remote_port resource_uri role rx_bandwidth"
    " service_tag service_type signalling_node start_time system_location transcoding_enabled tx_bandwidth vendor",
    "stream": f"participant_id {_STREAM}",
}
STREAM_FIELDS = _STREAM.split()
COLUMNS = {resource: names.split() for resource, names in _COLUMNS.items()}
"""What every file has, in the node's order."""


def make_missing(
    data: Path,
    most: int = A_RUN,
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, int, int], None] = lambda what, done, every: None,
) -> int:
    """Make the Parquet files that are missing, oldest first, and return how many were made.

    Of the dated files as many as have `most` bytes together, and at least one. Each is made whole or not at all; one
    that cannot be is named to `tell`, and the others are made. `progress` is told what is counted, how many are done,
    and how many this call makes. For the process that holds the lock.
    Raises CollectorError, OSError, duckdb.Error where the folder, the disk or the memory fails.
    """
    chosen: list[tuple[str, File]] = []
    for resource, file in _missing(data, tell):
        most -= file.path.stat().st_size
        if most < 0 and chosen:
            break
        chosen.append((resource, file))
    made = 0
    if chosen:
        with workshop(data, "parquet") as folder, database(folder) as db, ThreadPoolExecutor(THREADS) as pool:
            maker = Maker(db, data, folder, tell)
            for number, done in enumerate(pool.map(maker.make, *zip(*chosen, strict=True))):  # after an error no more
                made += done
                progress("Parquet files", number + 1, len(chosen))
    return made


def _missing(data: Path, tell: Callable[[str], None]) -> list[tuple[str, File]]:
    """The dated files that have no Parquet file, oldest first. What is none of the history's is told."""
    missing, remarks = [], list[Remark]()
    for resource, names in lacking(data).items():
        missing += [(resource, file) for file in look([data / name for name in names], resource, remarks)]
    for remark in remarks:
        tell(str(remark))
    return sorted(missing, key=lambda each: each[1].name)


class Maker:
    """Makes Parquet of dated files, some at the same time."""

    def __init__(self, db: DuckDBPyConnection, data: Path, folder: Path, tell: Callable[[str], None]) -> None:
        self.db, self.data, self.folder, self.tell = db, data, folder, tell
        self.alone = threading.Lock()

    def make(self, resource: str, file: File) -> bool:
        """Make the file's own; False where it cannot be read. Raises as `make_missing`."""
        draft = self.folder / f"{stem_of(file.name)}-{resource}.parquet"
        with self.db.cursor() as db:
            if not self._as_written(db, resource, file, draft) and not self._edited(db, resource, file, draft):
                return False
        _place(draft, self.data, TABLES[resource], stem_of(file.name))
        return True

    def _as_written(self, db: DuckDBPyConnection, resource: str, file: File, draft: Path) -> bool:
        """Make the draft straight from the file; False where it is not, to the cell, as the collector writes it."""
        from duckdb import DataError, InvalidInputException

        try:
            with opened([file]) as paths:
                _copy(db, *_typed(_columns(resource, file), file.header, paths[0]), draft)
        except (DataError, InvalidInputException, NotAFile, FileNotFoundError):
            return False
        return True

    def _edited(self, db: DuckDBPyConnection, resource: str, file: File, draft: Path) -> bool:
        """Make the draft of what can be read, and tell what cannot; False where that is nothing."""
        with self.alone:
            db.execute(f"DROP TABLE IF EXISTS {resource}")
            table = Table(resource, source=file.name)
            create(db, table, _columns(resource, file))
            add(db, table, [file], self.folder)
            for remark in (*table.remarks, *unread_cells(db, table)):
                self.tell(str(remark))
            if table.files:
                _copy(db, [_instant(name) for name in table.columns], f"FROM {resource}", draft)
            return bool(table.files)


def _typed(columns: Mapping[str, Take], header: Sequence[str], path: str) -> tuple[list[str], str]:
    """The SQL for the columns, and for the rows of the file; it fails at a cell that is not as the collector writes it.

    The formula guard is taken from all texts of a row at once, if one of them has an apostrophe: to plan an expression
    for each column would take longer than to read a small file.
    """
    cells = {name: f"c{header.index(name)}" for name in columns if name in header}
    texts = [cell for name, cell in cells.items() if is_guarded(name)]
    guarded = " OR ".join(f"contains({cell}, '''')" for cell in texts) or "false"
    plain = f"list_transform([{', '.join(texts)}]::VARCHAR[], lambda t: {unguarded('t')})"
    values = []
    for name, take in columns.items():
        if not (cell := cells.get(name)):
            found = f"NULL::{'TIMESTAMPTZ' if name in INSTANTS else take.type}"
        elif cell in texts:
            found = f"CASE WHEN contains({cell}, '''') THEN plain[{texts.index(cell) + 1}] ELSE {cell} END"
        else:
            found = _strict(name, take, cell)
        values.append(f"{found} AS {named(name)}")
    instants = {cells[name]: "TIMESTAMPTZ" for name in INSTANTS if name in cells}
    rows = f"FROM read_csv({quoted(path)}, {csv_options(len(header), False, types=instants)})"
    return values, f"FROM (SELECT *, CASE WHEN {guarded} THEN {plain} END AS plain {rows})"


def _strict(name: str, take: Take, cell: str) -> str:
    """The SQL for a value that is no text: NULL for an empty cell, an error for one that the node would not send.

    A time comes as one from the reader.
    """
    if name in INSTANTS:
        first, after = (f"TIMESTAMPTZ '{year}-01-01 00:00:00+00'" for year in (YEARS[0], YEARS[1] + 1))
        found = f"WHEN {cell} >= {first} AND {cell} < {after} THEN {cell}"
    elif take.type == WHOLE:
        found = f"WHEN {cell}::BIGINT::VARCHAR = {cell} THEN {cell}::BIGINT"
    elif take.type == TRUTH:
        found = f"WHEN {cell} = 'True' THEN true WHEN {cell} = 'False' THEN false"
    else:
        read = take.around.format(value(name, cell))
        return read if take.type == TEXT else f"coalesce({read}, CASE WHEN trim({cell}) <> '' THEN error('a cell') END)"
    return f"CASE {found} WHEN {cell} IS NOT NULL THEN error('a cell') END"


def _instant(name: str) -> str:
    return f"{name} AT TIME ZONE 'UTC' AS {name}" if name in INSTANTS else named(name)


def _copy(db: DuckDBPyConnection, values: Sequence[str], rows: str, draft: Path) -> None:
    """Write the draft."""
    options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {ROWS}, USE_TMP_FILE false"
    db.execute(f"COPY (SELECT {', '.join(values)} {rows}) TO {quoted(str(draft))} ({options})")


def _columns(resource: str, file: File) -> dict[str, Take]:
    """The known ones, and those of the file's own."""
    known = COLUMNS[resource]
    seen = {name.casefold() for name in (*known, *OWN, "")}
    more = {name.casefold(): name for name in reversed(file.header) if name.casefold() not in seen}
    return {name: typed_column(name) for name in (*known, *sorted(more.values(), key=file.header.index))}


def typed_column(name: str) -> Take:
    """The column as Parquet has it: streams nested."""
    if name != "media_streams":
        return Take(name)
    fields = {field: "TIMESTAMPTZ" if (kind := type_of(field)) == TIME else kind for field in STREAM_FIELDS}
    shape = json.dumps([fields]).replace("{", "{{").replace("}", "}}")
    columns = ", ".join(f"{named(field)} {kind}" for field, kind in fields.items())
    return Take(name, f"TRY(from_json({{}}, '{shape}'))", f"STRUCT({columns})[]")


def _place(draft: Path, data: Path, table: str, stem: str) -> None:
    """Sync the draft, and give it its name."""
    folder = data / FOLDER / table
    own_folder(data / FOLDER)
    own_folder(folder)
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    place = folder / f"{stem}.parquet"
    if other_kind(place):
        raise CollectorError(sentence("parquet-is-no-file", file=place))
    draft.replace(place)
    sync_folder(folder)
