"""Where the page goes: whole or not at all, and never in the place of something else."""

from __future__ import annotations

import os
from pathlib import Path

from pexip_history.errors import CollectorError
from pexip_history.folder.names import AGGREGATES, DATED
from pexip_history.folder.opening import KINDS, other_kind, own
from pexip_history.history.database import clear
from pexip_history.messages import sentence

SIGNS = (b'content="pexip-history-collector', b"<title>Call history, ")
"""A page of ours has one of these at its beginning, one of version 1.1 the second."""
BEGINNING = 8192
"""Bytes."""
OWN = frozenset({*AGGREGATES.values(), "data_collector.log", "manifest.jsonl", "ledger.sqlite"})
"""Names that the history's own files have."""


def check_output(output: Path, data: Path) -> None:
    """Raise CollectorError unless nothing is there, or an empty file, or a page of ours."""
    if output.name in OWN or DATED.fullmatch(output.name) or _inside(output, data):
        raise CollectorError(sentence("output-is-the-historys", file=output))
    if output.is_symlink():
        return  # it is replaced, and not followed
    if kind := other_kind(output):
        said = next((name for sign, name in KINDS.items() if kind & 0o170000 == sign), "no file")
        raise CollectorError(sentence("output-is-odd", file=output, kind=said))
    try:
        with open(output, "rb", opener=own) as file:
            start = file.read(BEGINNING)
    except FileNotFoundError:
        return
    if start and not any(sign in start for sign in SIGNS):
        raise CollectorError(sentence("output-is-no-report", file=output))


def _inside(output: Path, data: Path) -> bool:
    """Whether it is in a folder of the collector's own."""
    parent = Path(os.path.realpath(output.parent))
    root = Path(os.path.realpath(data))
    return any(parent == root / name or root / name in parent.parents for name in (".collector", "parquet"))


def write(output: Path, page: str) -> None:
    """A draft beside it takes its place; a link there is replaced, never followed. Raises OSError."""
    clear(path for path in output.parent.glob(".*.new") if path.name.startswith(f".{output.name}."))
    draft = output.parent / f".{output.name}.{os.getpid()}.new"
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(page.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def where(output: Path) -> str:
    """The place in words for an error; a relative one with the folder that it starts from."""
    if output.is_absolute():
        return f"{output}"
    return f"{output} (from {Path.cwd()}, the folder in which the command was called; give an absolute path)"
