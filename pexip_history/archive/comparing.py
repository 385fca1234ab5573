"""An aggregate beside the dated files that it is made of: the same rows, or which are not."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pexip_history.folder.opening import behind_link, own
from pexip_history.folder.reading import cell_of, open_rows, place_of
from pexip_history.resources import BY_NAME

PIECE = 1 << 20


@dataclass(frozen=True)
class Compared:
    """Rows: of the dated files that an aggregate lacks, or has otherwise; that it has more than once."""

    missing: int = 0
    other: int = 0
    twice: int = 0

    @property
    def same(self) -> bool:
        return not (self.missing or self.other or self.twice)


def compare(aggregate: Path, resource: str, dated: Sequence[Path], folder: Path) -> Compared:
    """Compare, in bounded pieces; `dated` are in the order of their names.

    Rows that the aggregate alone has are no difference: DATA_KEEP_DAYS removes dated files. Where the bytes differ (a
    column was added, somebody saved the file) rows are compared by what they say, with a table in `folder`.
    Raises CollectorError, OSError, sqlite3.Error.
    """
    if ends_with(aggregate, dated):
        return Compared()
    with closing(sqlite3.connect(folder / "comparing.sqlite")) as db:
        db.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32000;")
        for table, paths in (("held", [aggregate]), ("dated", dated)):
            db.execute(f"CREATE TABLE {table} (key BLOB, said BLOB)")
            for path in paths:
                db.executemany(f"INSERT INTO {table} VALUES (?, ?)", _hashes(path, resource))
            db.execute(f"CREATE INDEX {table}_key ON {table} (key)")
        (missing,) = db.execute("SELECT count(*) FROM dated WHERE key NOT IN (SELECT key FROM held)").fetchone()
        (other,) = db.execute(
            "SELECT count(*) FROM dated WHERE key IN (SELECT key FROM held)"
            " AND NOT EXISTS (SELECT 1 FROM held WHERE held.key = dated.key AND held.said = dated.said)"
        ).fetchone()
        (twice,) = db.execute("SELECT count(*) - count(DISTINCT key) FROM held").fetchone()
    return Compared(missing, other, twice)


def ends_with(aggregate: Path, dated: Sequence[Path]) -> bool:
    """Whether the aggregate ends with the dated files' rows, byte for byte, under the same columns."""
    with open(behind_link(aggregate), "rb", opener=own) as held:
        head = held.readline(PIECE)
        bodies = []
        for path in dated:
            with open(path, "rb", opener=own) as file:
                if file.readline(PIECE) != head:
                    return False
                bodies.append(os.fstat(file.fileno()).st_size - len(head))
        place = held.seek(0, os.SEEK_END) - sum(bodies)
        if place < len(head):
            return False
        held.seek(place)
        for path in dated:
            with open(path, "rb", opener=own) as file:
                file.seek(len(head))
                while piece := file.read(PIECE):
                    if held.read(len(piece)) != piece:
                        return False
    return True


def _hashes(path: Path, resource: str) -> Iterator[tuple[bytes, bytes]]:
    """Of each row the key, and all that it says, whatever the order of the columns; empty cells say nothing."""
    with open_rows(path) as rows:
        keys = [place_of(rows.header, name) for name in BY_NAME[resource].key]
        for row in rows:
            said = sorted(f"{name}\1{cell}" for name, cell in zip(rows.header, row, strict=False) if cell)
            yield _hash("\0".join(cell_of(row, place) for place in keys)), _hash("\0".join(said))


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
