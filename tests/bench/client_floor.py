"""The floor: download both resources with requests, look at nothing but where the next page is.

    python client_floor.py ADDRESS PASSWORD CA_FILE (content|raw)

`content` reads a body as most programs do; `raw` as urllib3 hands it over, which is the least
that an answer read with requests can cost.
"""

from __future__ import annotations

import re
import sys

import requests

NEXT = re.compile(rb'"next": "([^"]*)"')
HEAD = 600
"""Bytes of a body that hold its meta."""


def main(address: str, password: str, ca_file: str, way: str) -> None:
    session = requests.Session()
    session.auth = ("admin", password)
    session.verify = ca_file
    for resource in ("conference", "participant"):
        path = f"/api/admin/history/v1/{resource}/?limit=0"
        while path:
            answer = session.get(f"https://{address}{path}", stream=way == "raw", timeout=600)
            answer.raise_for_status()
            body = answer.raw.read(decode_content=True) if way == "raw" else answer.content
            following = NEXT.search(body, 0, HEAD)
            path = following[1].decode() if following else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
