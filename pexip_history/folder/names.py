"""The names of the files in the data folder."""

from __future__ import annotations

import re
from datetime import datetime

from pexip_history.resources import FILES

AGGREGATES = {resource.name: f"{resource.stem}.csv" for resource in FILES}
"""By the resource's name: conference, participant, stream and so on."""
STEM = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
"""What a dated file's name begins with, `<date_time>` of design.md: local time."""
DATED = re.compile(
    rf"({STEM.pattern})_(pexHistory(?:{'|'.join(r.stem.removeprefix('pexHistory') for r in FILES)}))\.csv"
)
"""Groups: the stem, and the resource's (`pexHistoryConf`)."""

STAGED = re.compile(r"\d+-(\w+)\.csv")
"""A file that waits in `.collector`; group: the resource's name."""


def staged_name(reading: int, resource: str) -> str:
    return f"{reading}-{resource}.csv"


def dated_name(stem: str, resource: str) -> str:
    """The dated file's name, by its stem and the resource's name."""
    return f"{stem}_{AGGREGATES[resource]}"


def format_stem(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d_%H-%M-%S}"
