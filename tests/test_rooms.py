"""The rooms: which there are, who may use whom, how large they are. Their order is the table in docs/design.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import COLLECTOR, ROOT

PACKAGE = ROOT / "pexip_history"
DESIGN = ROOT / "docs" / "design.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
LONGEST, LONGEST_ABOVE = 450, 600
FILES = [COLLECTOR, *sorted(PACKAGE.rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROGRAM = "collector"


@cache
def order() -> list[str]:
    """The rooms, lowest first, as docs/design.md lists them."""
    table = DESIGN.read_text(encoding="utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    return [name.removesuffix(".py").rstrip("/") for name in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)]


def module(file: Path) -> str:
    """Its name as `import` has it; that of a package's __init__.py is the package's."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """The room that a module is in; the report is one."""
    return name.removeprefix("pexip_history.").partition(".")[0]


def ours(name: str) -> bool:
    return name == PROGRAM or name.split(".")[0] == "pexip_history"


@cache
def imports(file: Path) -> list[tuple[str, str, int]]:
    """(module, name, line) of everything that is imported of ours, wherever in the file it stands; "" for a module."""
    package = module(file) if file.name == "__init__.py" else module(file).rpartition(".")[0]
    known = {module(other) for other in FILES}
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "", node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.append((inner, "", node.lineno) if inner in known else (source, alias.name, node.lineno))
    return [entry for entry in found if ours(entry[0])]


def uses(file: Path) -> set[str]:
    """The rooms that it imports besides its own."""
    return {room(name) for name, *_ in imports(file)} - {room(module(file)), "pexip_history"}


def private(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of what it uses of another room that is private there."""
    text = file.read_text(encoding="utf-8")
    bound = {}
    for name, what, line in imports(file):
        if what.startswith("_") and not what.startswith("__") and room(name) != room(module(file)):
            yield line, f"{name}.{what}"
        if not what:
            bound[name.rpartition(".")[2]] = name
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id=of), attr=name) if of in bound and re.match("_(?!_)", name):
                yield node.lineno, f"{bound[of]}.{name}"


def test_the_table_of_rooms_has_every_room_and_the_program_at_the_end() -> None:
    assert sorted(order()) == sorted({room(module(file)) for file in FILES} - {"pexip_history"})
    assert order()[-1] == PROGRAM
    assert {"utils", "helpers", "common", "misc", "util"} & {
        part for f in FILES for part in f.with_suffix("").parts
    } == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_uses_none_that_is_above_it(file: Path) -> None:
    own = room(module(file))
    below = order()[: order().index(own)] if own in order() else []
    assert uses(file) <= set(below)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module(file): {name for name, *_ in imports(file)} - {"pexip_history"} for file in FILES}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " > ".join((*way, name))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_is_not_too_long_to_read(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= (LONGEST_ABOVE if file == COLLECTOR else LONGEST)


@pytest.mark.parametrize("file", [*FILES, *TESTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_nobody_uses_what_is_private_to_a_room_without_saying_why(file: Path) -> None:
    """A test may, with `private:` and a reason in a comment on the line or the one above."""
    lines = file.read_text(encoding="utf-8").splitlines()
    said = {n for n, _ in private(file) if "# private: " in f"{lines[n - 2]}\n{lines[n - 1]}" and file in TESTS}
    assert [(line, name) for line, name in private(file) if line not in said] == []


def test_the_picture_and_the_guide_name_every_room() -> None:
    picture = DESIGN.read_text(encoding="utf-8").partition("## The rooms")[2].partition("```")[2].partition("```")[0]
    guide = CONTRIBUTING.read_text(encoding="utf-8")
    for name in order():
        assert re.search(rf"\b{name}\b", picture), name
        assert re.search(rf"\b{name}\b", guide), name


def test_a_step_upwards_a_circle_and_a_private_name_are_found() -> None:
    """Guards the reading itself."""
    lower = PACKAGE / "records.py"
    assert uses(lower) == {"errors"}
    assert uses(COLLECTOR) >= {"ledger", "operate"}
    assert ("pexip_history.report", "write_report") in {
        (name, what) for name, what, _ in imports(PACKAGE / "operate.py")
    }
    assert "pexip_history.settings.environment" in {name for name, *_ in imports(PACKAGE / "notify.py")}, (
        "also where only types are read"
    )
