"""A dated file in the making."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from pexip_history.archive.editing import Change, edit, emptied
from pexip_history.errors import NodeError
from pexip_history.folder.cells import CHUNK, UNGUARDED, cells, encode, guard, header_line
from pexip_history.folder.opening import own
from pexip_history.folder.reading import MOST
from pexip_history.folder.rewriting import new_file, rewrite
from pexip_history.messages import sentence
from pexip_history.node.answers import MOST_FIELDS, Columns
from pexip_history.settings.environment import Settings


def follow_omitted(path: Path, omit: Collection[str]) -> None:
    """Empty the columns in a file that waits, which an earlier run wrote before the setting named them."""

    def changing(columns: list[str]) -> Change:
        places = {columns.index(name) for name in omit if name in columns}
        return lambda row: emptied(row, places)

    edit(path, changing)


class Stage:
    """A dated file in the making: rows of one resource under columns that may still grow.

    The columns that DATA_OMIT_COLUMNS names stay empty.
    """

    def __init__(self, path: Path, columns: Sequence[str], settings: Settings) -> None:
        self.path, self.columns = path, list(columns)
        self.bom, self.escape, self.omit = settings.csv_bom, settings.escape_formulas, settings.omit_columns
        self.rows = 0
        self._widened = False
        self._file = open(path, "wb", opener=own)  # noqa: SIM115
        self._file.write(header_line(self.columns, self.bom) if columns else b"")

    def write(self, columns: Columns) -> None:
        """Append rows, by the names of their fields; new names become new last columns."""
        if self.escape:  # a node may name its fields as it likes
            columns = {guard(name): values for name, values in columns.items()}
        self.grow([name for name in columns if name not in self.columns])
        count = len(next(iter(columns.values()), ()))
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            blank = [""] * size
            texts = [
                cells(columns[name][start : start + size], self.escape and name not in UNGUARDED)
                if name in columns and name not in self.omit
                else blank
                for name in self.columns
            ]
            lines = list(map(",".join, zip(*texts, strict=True)))
            text = encode("\r\n".join((*lines, "")))
            if len(text) > MOST and any(len(encode(line)) > MOST for line in lines):
                raise NodeError(sentence("row-too-large", megabytes=MOST >> 20))
            self._file.write(text)
            self.rows += size

    def grow(self, names: Sequence[str]) -> None:
        """Add new last columns. Raises NodeError where there are too many."""
        if names and not self.columns:
            self._file.write(header_line(names, self.bom))
        elif names:
            self._widened = True
        self.columns += names
        if names and len(self.columns) > MOST_FIELDS:
            raise NodeError(sentence("too-many-columns", columns=len(self.columns)))

    def finish(self) -> int:
        """Give every row every column, sync, and return where the rows begin (bytes)."""
        self._file.flush()
        if self._widened:
            with new_file(self.path) as target:
                rewrite(self.path, target, self.columns, self.columns, self.bom)
        else:
            os.fsync(self._file.fileno())
        self._file.close()
        return len(header_line(self.columns, self.bom))

    def abandon(self) -> None:
        """Remove the file: nothing was to be written."""
        self._file.close()
        self.path.unlink()
