"""Whatever is opened in the data folder is opened through pexip_history/folder: no link, FIFO or device, bounded.

This reads the program: every other way to open, list, copy or hand on a path is found here, and stands below with the
reason why it is none of the data folder's, or cannot do harm.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "pexip_history"
OPENS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "fdopen", "FileIO"}
LISTS = {"glob", "rglob", "iterdir", "scandir", "listdir", "walk", "fwalk"}
COPIES = {"copy", "copy2", "copyfile", "copytree", "move", "symlink_to", "hardlink_to", "link", "symlink"}
LIBRARIES = {"sqlite3.connect", "duckdb.connect", "Workbook", "load_verify_locations", "load_cert_chain"}
LIBRARIES |= {"TemporaryDirectory", "mkstemp"}
MODULES = {"os", "io", "path"}
SQL = re.compile(r"\b(read_csv|read_csv_auto|read_parquet|read_json|ATTACH|COPY)\b")

REASONS = {
    "lists names; what it finds is opened through the door": "report/output.py: glob; archive/aggregates.py: glob;"
    " archive/archive.py: iterdir, os.scandir; archive/holdings.py: iterdir, glob; archive/manifest.py: glob;"
    " archive/parquet_rows.py: iterdir, glob; history/database.py: glob; history/files.py: iterdir;"
    " operate/erase.py: glob; operate/verify.py: iterdir",
    "in a folder that was just made, which nobody else can enter": "export/parquet.py: SQL COPY, os.open;"
    " export/workbook.py: Workbook; history/database.py: SQL ATTACH;"
    " history/files.py: open; archive/comparing.py: sqlite3.connect",
    "of a file that was opened through the door, or into one": "archive/parquet_rows.py: SQL read_parquet, SQL COPY;"
    " export/parquet.py: SQL read_csv; history/files.py: SQL read_csv; history/tables.py: SQL read_csv;"
    " export/formats.py: SQL COPY",
    "with O_EXCL: nothing had that name": "report/output.py: os.open, open; export/output.py: os.open, open",
    "in memory": "archive/parquet_rows.py: duckdb.connect; history/database.py: duckdb.connect;"
    " operate/verify.py: duckdb.connect; settings/files.py: load_verify_locations; archive/journal.py: sqlite3.connect",
    "the door itself": "folder/opening.py: os.open",
    "files that settings name, where links are followed, FIFOs are not": "settings/files.py: os.open, open",
    "with O_PATH, or O_DIRECTORY": "container/errands.py: os.open; operate/running.py: os.open;"
    " history/database.py: os.open; folder/rewriting.py: os.open; container/errands.py: os.scandir",
    "which follows no link": "container/errands.py: os.fwalk",
    "of /proc": "folder/mounts.py: open; container/errands.py: read_bytes; operate/log.py: open",
    "the program's own": "report/page.py: read_text; messages.py: read_text",
    "which opens through the door (its method _open)": "operate/log.py: FileHandler",
    "behind refuse_other_kinds; SQLite opens its journal by name": "ledger/schema.py: sqlite3.connect",
}
ALLOWED = {
    (file, way)
    for places in REASONS.values()
    for file, ways in (place.split(": ") for place in places.split("; "))
    for way in ways.split(", ")
}
ROOMS = sorted([*PACKAGE.rglob("*.py"), ROOT / "collector.py"])


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def through_the_door(call: ast.Call) -> bool:
    return any(word.arg == "opener" and dotted(word.value).split(".")[-1] == "own" for word in call.keywords)


def ways(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each other way to a file in a module: what is called, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := SQL.search(node.value)):
            yield f"SQL {found[0]}", node.lineno
        if isinstance(node, ast.ClassDef) and any("FileHandler" in dotted(base) for base in node.bases):
            yield "FileHandler", node.lineno
        if not isinstance(node, ast.Call):
            continue
        whole = dotted(node.func)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else whole
        if name in OPENS | LISTS and not through_the_door(node):
            owner = whole.rpartition(".")[0]
            yield f"{owner}.{name}" if owner in MODULES else name, node.lineno
        if {name, whole} & LIBRARIES:
            yield whole if whole in LIBRARIES else name, node.lineno
        if (name in COPIES and whole.startswith(("shutil.", "os."))) or name in ("symlink_to", "hardlink_to"):
            yield whole, node.lineno


def in_room(room: Path) -> dict[tuple[str, str], int]:
    place = room.relative_to(PACKAGE).as_posix() if room.is_relative_to(PACKAGE) else room.name
    return {(place, way): line for way, line in ways(ast.parse(room.read_text(encoding="utf-8")))}


def test_what_is_opened_is_opened_through_the_one_door() -> None:
    found = {way: line for room in ROOMS for way, line in in_room(room).items()}
    others = [f"{place}:{line} {way}" for (place, way), line in found.items() if (place, way) not in ALLOWED]
    assert others == [], "open it with opener=own, or with open_rows, or say in REASONS why not"
    assert found.keys() >= ALLOWED, "what is allowed is still there"


OTHER_WAYS = """open(path)
open(path, opener=other)
path.open('rb')
path.read_text()
os.open(path, 0)
data.glob('*')
list(data.iterdir())
sqlite3.connect(path)
shutil.copy2(a, b)
db.execute('SELECT * FROM read_csv(?)')
class A(logging.handlers.RotatingFileHandler): pass"""


def test_other_ways_are_found_and_the_door_is_none() -> None:
    assert [line for line in OTHER_WAYS.splitlines() if not list(ways(ast.parse(line)))] == []
    assert not list(ways(ast.parse("open(path, 'rb', opener=own); open(p, opener=files.own); open_rows(path)")))
