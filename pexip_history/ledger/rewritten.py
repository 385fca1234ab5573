"""What the ledger knows of an aggregate stays right when the file is rewritten: its size, and how many rows it has.

The file gets its new name and the ledger its new figures at two moments. Between them a note says what the file
becomes; by its size it is known afterwards on which side a crash came.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from pexip_history.folder.opening import behind_link, own
from pexip_history.ledger.ledger import Known, Ledger
from pexip_history.resources import FILES

TAIL = 4096
"""Bytes by whose hash the end of an aggregate is known again."""


def as_it_is(path: Path, size: int | None = None) -> Known:
    """What to know of an aggregate up to this byte, or to its end. Raises NotAFile, OSError."""
    with open(behind_link(path), "rb", opener=own) as file:
        size = file.seek(0, os.SEEK_END) if size is None else size
        file.seek(max(0, size - TAIL))
        return Known(size, hashlib.sha256(file.read(min(size, TAIL))).hexdigest())


def begin_rewriting(ledger: Ledger, resource: str, size: int, gone: int) -> None:
    """Note that the aggregate is about to become a file of so many bytes that lacks so many of its rows."""
    ledger.note(**{_fact(resource): f"{size} {gone}"})


def settle_rewriting(ledger: Ledger, path_of: Callable[[str], Path]) -> None:
    """Hold the note, where there is one, to the file that is there. Can be repeated. Raises OSError."""
    for resource in FILES:
        if not (noted := ledger.fact(_fact(resource.name))):
            continue
        size, gone = map(int, noted.split())
        path = behind_link(path_of(resource.name))
        there = path.stat().st_size if path.exists() else None
        with ledger.transaction() as db:
            ledger.note(**{_fact(resource.name): None})
            if there == size:
                ledger.know_aggregate(resource.name, as_it_is(path, size))
                db.execute("UPDATE resource SET rows = max(0, rows - ?) WHERE name = ?", (gone, resource.name))


def _fact(resource: str) -> str:
    return f"rewriting_{resource}"
