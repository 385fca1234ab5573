"""The rooms: which there are, who may use whom, how large they are. Their order is the table in docs/design.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import COLLECTOR, ROOT

PACKAGE = ROOT / "pexip_history"
DESIGN = ROOT / "docs" / "design.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LONGEST_ROOM, LONGEST_FUNCTION = 350, 40
FILES = [COLLECTOR, *sorted(PACKAGE.rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROGRAM = "collector"

each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


@cache
def table() -> dict[str, list[str]]:
    """The folders, lowest first, with their rooms, as docs/design.md lists them; a file at the top is its own."""
    text = DESIGN.read_text(encoding="utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", text, re.MULTILINE)
    return {name.removesuffix(".py").rstrip("/"): re.findall(r"`([^`]+)`", rooms) for name, rooms in rows}


def module(file: Path) -> str:
    """Its name as `import` has it; that of a package's __init__.py is the package's."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder(name: str) -> str:
    """The folder that a module is in; the name of a file at the top."""
    return name.removeprefix("pexip_history.").partition(".")[0]


def ours(name: str) -> bool:
    return name == PROGRAM or name.split(".")[0] == "pexip_history"


@cache
def imports(file: Path) -> list[tuple[str, str, int]]:
    """(module, name, line) of everything that is imported of ours, wherever in the file it stands; "" for a module."""
    package = module(file).split(".")[: -1 if file.name != "__init__.py" else None]
    known = {module(other) for other in FILES}
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.append((inner, "", node.lineno) if inner in known else (source, alias.name, node.lineno))
    return [entry for entry in found if ours(entry[0])]


def uses(file: Path) -> set[str]:
    """The folders that it imports from besides its own."""
    return {folder(name) for name, *_ in imports(file)} - {folder(module(file)), "pexip_history"}


def private(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of what it uses of another room that is private there."""
    bound = {}
    for name, what, line in imports(file):
        if what.startswith("_") and not what.startswith("__") and name != module(file):
            yield line, f"{name}.{what}"
        if not what:
            bound[name.rpartition(".")[2]] = name
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=ast.Name(id=of), attr=name) if of in bound and re.match("_(?!_)", name):
                yield node.lineno, f"{bound[of]}.{name}"


def test_the_table_has_every_room_and_the_program_at_the_end() -> None:
    modules = {module(file) for file in FILES} - {"pexip_history"}
    there = {folder(name): [] for name in modules} | {
        folder(name): sorted(other.split(".")[2] for other in modules if other.startswith(f"{name}."))
        for name in modules
        if name.count(".") == 1
    }
    assert {name: sorted(rooms) for name, rooms in table().items()} == there
    assert list(table())[-1] == PROGRAM


@each_file
def test_a_room_uses_none_that_is_above_it(file: Path) -> None:
    own, order = folder(module(file)), list(table())
    below = order[: order.index(own)] if own in order else []
    assert uses(file) <= set(below)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module(file): {name for name, *_ in imports(file)} - {"pexip_history"} for file in FILES}
    TopologicalSorter(graph).prepare()  # raises CycleError


@each_file
def test_a_room_and_each_of_its_functions_can_be_read_at_once(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_ROOM
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("file", [*FILES, *TESTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_uses_what_is_private_to_a_room_without_saying_why(file: Path) -> None:
    """A test may, with `private:` and a reason in a comment on the line or the one above."""
    lines = file.read_text(encoding="utf-8").splitlines()
    said = {n for n, _ in private(file) if "# private: " in f"{lines[n - 2]}\n{lines[n - 1]}" and file in TESTS}
    assert [(line, name) for line, name in private(file) if line not in said] == []


def test_the_guide_names_every_folder_and_only_what_is_there() -> None:
    guide = CONTRIBUTING.read_text(encoding="utf-8").partition("## Where what is")[2].partition("\nThe node of")[0]
    assert [name for name in table() if not re.search(rf"\b{name}\b", guide)] == []
    rows = [line.split("|")[2:4] for line in guide.splitlines() if line.startswith("| ")][2:]
    for rooms, tests in rows:
        for room in re.findall(r"`([\w/.]+)`", rooms):
            assert any(
                (root / f"{room.rstrip('/')}{end}").exists() for root in (PACKAGE, ROOT) for end in ("", ".py")
            ), room
        for test in re.findall(r"`([\w/]+)`", tests):
            assert any((ROOT / "tests" / f"{test}{end}").exists() for end in ("", ".py")), test


def test_a_step_upwards_a_circle_and_a_private_name_are_found() -> None:
    """Guards the reading itself."""
    assert uses(PACKAGE / "node" / "records.py") == {"errors", "messages", "resources", "values"}
    assert uses(COLLECTOR) >= {"ledger", "operate"}
    assert "pexip_history.settings.environment" in {name for name, *_ in imports(PACKAGE / "operate" / "notify.py")}, (
        "also where only types are read"
    )
