"""A CSV file copied through the csv module, row by row: `python -m tests.bench.client_copy FROM TO`."""

from __future__ import annotations

import csv
import sys

csv.field_size_limit(2**31 - 1)
with (
    open(sys.argv[1], encoding="utf-8", newline="") as source,
    open(sys.argv[2], "w", encoding="utf-8", newline="") as target,
):
    csv.writer(target, lineterminator="\r\n").writerows(csv.reader(source))
