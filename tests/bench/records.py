"""Records by the million: two hundred shapes (names with line breaks, scripts, media streams), ids of their own."""

from __future__ import annotations

import hashlib
import random
import re
from datetime import datetime

from tests.management_node.calls import ROOT, Record, call

SHAPES = 211
LAST = datetime(2026, 11, 24, 23, 30)
ONLY_AT_ITS_ADDRESS = ("bucketed_call_quality", "historic_call_quality")


def record_id(resource: str, number: int) -> str:
    """A UUID. Ids that came in order would make a ledger's index look cheaper than it is."""
    digits = hashlib.md5(f"{resource} {number}".encode(), usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def shapes(each: int) -> tuple[list[Record], list[Record]]:
    """Conferences of so `each` participants, and participants, as lists have them, with <places> for `template`."""
    rng = random.Random(13)
    conferences, participants = [], []
    for _ in range(SHAPES):
        held, present = call(rng, LAST, participants=each)
        conferences.append(_listed(held, "conference", participants=["<participants>"]))
        participants += [_listed(one, "participant", conference=f"{ROOT}conference/<conference>/") for one in present]
    return conferences, participants


def _listed(record: Record, resource: str, **own: object) -> Record:
    own |= {"id": "<id>", "start_time": "<start>", "end_time": "<end>", "resource_uri": f"{ROOT}{resource}/<id>/"}
    return {name: value for name, value in (record | own).items() if name not in ONLY_AT_ITS_ADDRESS}


def template(text: str) -> str:
    """A record's text, to be filled in with `%`."""
    return re.sub("<(id|start|end|conference|participants)>", r"%(\1)s", text.replace("%", "%%"))
