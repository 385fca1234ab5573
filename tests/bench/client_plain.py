"""The plain pipeline: requests, json.loads, csv.writer. It keeps no promise; it follows `next`.

    python client_plain.py ADDRESS PASSWORD CA_FILE FOLDER

A page at a time, one file a resource, lists as Python text: what the proof of concept did, less
its mistakes of one big page and the whole day in memory.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import requests


def main(address: str, password: str, ca_file: str, folder: str) -> None:
    session = requests.Session()
    session.auth = ("admin", password)
    session.verify = ca_file
    for resource in ("conference", "participant"):
        path = f"/api/admin/history/v1/{resource}/?limit=0"
        target = Path(folder) / f"{resource}.csv"
        with target.open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] | None = None
            while path:
                answer = session.get(f"https://{address}{path}", timeout=600)
                answer.raise_for_status()
                page = answer.json()
                if page["objects"] and writer is None:
                    writer = csv.DictWriter(file, list(page["objects"][0]))
                    writer.writeheader()
                if writer is not None:
                    writer.writerows(page["objects"])
                path = page["meta"]["next"]


if __name__ == "__main__":
    main(*sys.argv[1:])
