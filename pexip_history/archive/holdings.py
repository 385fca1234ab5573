"""Which files in the data folder hold rows, under which name and of which resource, whatever became of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pexip_history.archive.parquet_rows import parquet_files
from pexip_history.folder.names import AGGREGATES, DATED, STAGED
from pexip_history.resources import BY_NAME, FILES, STREAM, Resource

ASIDE = re.compile(r"(pexHistory\w+\.csv)\.(?:set-aside|unfinished)-[\d_-]+")
DRAFT = re.compile(rf"(?:{DATED.pattern}|pexHistory\w+\.csv|{ASIDE.pattern}|[\d_-]+\.parquet)\.new")
OF_FILE = {AGGREGATES[resource.name]: resource for resource in FILES}
OF_FOLDER = {"streams": STREAM}
AGGREGATE, DATED_FILE, OTHER, WAITING, PARQUET = "aggregate", "dated", "other", "waiting", "parquet"


@dataclass(frozen=True)
class Holding:
    """A file with rows of one resource. `name` is its path in the data folder, `kind` one of the words above."""

    path: Path
    name: str
    resource: Resource
    kind: str

    @property
    def key(self) -> str:
        """The column that says whose row it is: in a file of streams, the participant's id."""
        return self.resource.key[0]


def holdings(data: Path) -> list[Holding]:
    """Every file of ours that holds rows: aggregates, dated files, files set aside, files that wait, Parquet.

    Files that wait come first: once they are published their rows are elsewhere too.
    """
    found = [*_waiting(data), *_visible(data)]
    for path in parquet_files(data):
        resource = OF_FOLDER.get(path.parent.name, BY_NAME["participant"])
        found.append(Holding(path, str(path.relative_to(data)), resource, PARQUET))
    return found


def _waiting(data: Path) -> Iterator[Holding]:
    folder = data / ".collector"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = STAGED.fullmatch(path.name)
        if match and match[1] in BY_NAME:
            yield Holding(path, f".collector/{path.name}", BY_NAME[match[1]], WAITING)


def _visible(data: Path) -> Iterator[Holding]:
    for path in sorted(data.iterdir()):
        name = path.name
        if name in OF_FILE:
            yield Holding(path, name, OF_FILE[name], AGGREGATE)
        elif match := DATED.fullmatch(name):
            yield Holding(path, name, OF_FILE[f"{match[2]}.csv"], DATED_FILE)
        elif (match := ASIDE.fullmatch(name)) and match[1] in OF_FILE:
            yield Holding(path, name, OF_FILE[match[1]], OTHER)


def remove_drafts(data: Path) -> None:
    """Remove what a rewriting that was cut left: the files themselves are whole. Raises OSError."""
    for path in (*data.glob("*.new"), *(data / "parquet").glob("*/*.new")):
        if DRAFT.fullmatch(path.name) and not path.is_dir():
            path.unlink()


def strange_files(data: Path) -> list[str]:
    """The other tables in the data folder, such as exports and copies: nobody looks into them."""
    ours = {holding.path for holding in holdings(data)}
    return sorted(
        path.name
        for path in data.iterdir()
        if path not in ours
        and path.is_file()
        and re.search(r"\.(csv|xlsx|parquet|jsonl|ods|zip)(\W|$)", path.name)
        and path.name != "manifest.jsonl"
    )
