"""What is measured beside the collector, and what looks at its rows, each a process: python client.py WHAT ARGUMENTS.

floor ADDRESS PASSWORD CA_FILE content|raw   downloads, and looks at nothing but where the next page is; `content`
                                             reads a body as most programs do, `raw` as urllib3 hands it over, which
                                             is the least that an answer read with requests can cost
plain ADDRESS PASSWORD CA_FILE FOLDER        requests, json.loads, csv.writer, a page at a time: it keeps no promise
copy FROM TO                                 a CSV file copied through the csv module, row by row
keep FOLDER DAYS                             DATA_KEEP_HISTORY_DAYS applied to a data folder as a run does
check FILE RESOURCE COUNT                    whether an aggregate holds each record that the node offers once
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

NEXT = re.compile(rb'"next": "([^"]*)"')
HEAD = 600
"""Bytes of a body that hold its meta."""
FIRST = "/api/admin/history/v1/{}/?limit=0"
RESOURCES = ("conference", "participant")


def session(password: str, ca_file: str) -> requests.Session:
    import requests

    made = requests.Session()
    made.auth, made.verify = ("admin", password), ca_file
    return made


def floor(address: str, password: str, ca_file: str, way: str) -> None:
    node = session(password, ca_file)
    for path in map(FIRST.format, RESOURCES):
        while path:
            answer = node.get(f"https://{address}{path}", stream=way == "raw", timeout=600)
            answer.raise_for_status()
            body = answer.raw.read(decode_content=True) if way == "raw" else answer.content
            following = NEXT.search(body, 0, HEAD)
            path = following[1].decode() if following else ""


def plain(address: str, password: str, ca_file: str, folder: str) -> None:
    node = session(password, ca_file)

    def pages(path: str) -> Iterator[list[dict[str, object]]]:
        while path:
            answer = node.get(f"https://{address}{path}", timeout=600)
            answer.raise_for_status()
            page = answer.json()
            yield page["objects"]
            path = page["meta"]["next"]

    for resource in RESOURCES:
        with Path(folder, f"{resource}.csv").open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] | None = None
            for rows in pages(FIRST.format(resource)):
                if rows and not writer:
                    writer = csv.DictWriter(file, list(rows[0]))
                    writer.writeheader()
                if writer:
                    writer.writerows(rows)


def copy(source: str, target: str) -> None:
    csv.field_size_limit(2**31 - 1)
    with open(source, encoding="utf-8", newline="") as read, open(target, "w", encoding="utf-8", newline="") as written:
        csv.writer(written, lineterminator="\r\n").writerows(csv.reader(read))


def keep(folder: str, days: str) -> None:
    from pexip_history.archive.archive import Archive
    from pexip_history.archive.belonging import open_ledger
    from pexip_history.archive.keeping import forget_old
    from pexip_history.settings.environment import read_settings
    from tests.bench.records import LAST

    environment = {"DATA_DIR": folder, "DATA_KEEP_HISTORY_DAYS": days}
    archive, now = Archive(read_settings(environment, node=False)), LAST.replace(tzinfo=UTC)
    with archive.lock(), closing((ledger := open_ledger(archive, now)).db):
        forget_old(archive, ledger, now)


def check(name: str, resource: str, count: str) -> None:
    from tests.bench.records import record_id

    with open(name, encoding="utf-8", newline="") as aggregate:
        found = Counter(row["id"] for row in csv.DictReader(aggregate))
    if found != Counter(record_id(resource, number) for number in range(int(count))):
        sys.exit(f"{name}: {found.total()} rows of {len(found)} records, not the node's {count} {resource}s once each")


if __name__ == "__main__":
    {"floor": floor, "plain": plain, "copy": copy, "keep": keep, "check": check}[sys.argv[1]](*sys.argv[2:])
