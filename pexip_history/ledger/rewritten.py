"""What the ledger knows of an aggregate stays right when the file is rewritten: its size, and how many rows it has.

The file gets its new name and the ledger its new figures at two moments. Between them a note says what the file
becomes; by its size it is known afterwards on which side a crash came.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pexip_history.folder.opening import behind_link
from pexip_history.ledger.ledger import Ledger
from pexip_history.resources import FILES


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
                db.execute(
                    "UPDATE resource SET bytes = ?, rows = max(0, rows - ?) WHERE name = ?", (size, gone, resource.name)
                )


def _fact(resource: str) -> str:
    return f"rewriting_{resource}"
