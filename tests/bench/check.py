"""Whether an aggregate holds each record that the node offered once, in constant memory.

python -m tests.bench.check FILE RESOURCE COUNT
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from tests.bench.history import index_of

LINE_END = b"\r\n"
"""Ends a row; no text of the benchmark's records has it inside."""
CHUNK = 1 << 20


def rows_after(path: Path, offset: int) -> int:
    """How many rows begin at or after the offset, which is the start of one."""
    count = 0
    before = b""
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(CHUNK):
            count += chunk.count(LINE_END) + (before == b"\r" and chunk[:1] == b"\n")
            before = chunk[-1:]
    return count


def main(path: Path, resource: str, count: int) -> None:
    seen = bytearray(count)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            index = index_of(row["id"], resource)
            if index is None or index >= count:
                sys.exit(f"{path}: {row['id']} is no {resource} of the node's")
            if seen[index]:
                sys.exit(f"{path}: {row['id']} is there twice")
            seen[index] = 1
    if missing := seen.count(0):
        sys.exit(f"{path}: {missing} of {count} {resource}s are missing")


if __name__ == "__main__":
    csv.field_size_limit(1 << 24)
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
