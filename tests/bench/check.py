"""Whether an aggregate holds each record that the node offered once: python -m tests.bench.check FILE RESOURCE COUNT"""

from __future__ import annotations

import csv
import sys
from collections import Counter

from tests.bench.records import record_id

if __name__ == "__main__":
    name, resource, count = sys.argv[1:]
    with open(name, encoding="utf-8", newline="") as aggregate:
        found = Counter(row["id"] for row in csv.DictReader(aggregate))
    if found != Counter(record_id(resource, number) for number in range(int(count))):
        sys.exit(
            f"{name}: {found.total()} rows of {len(found)} records, not each of the node's {count} {resource}s once"
        )
