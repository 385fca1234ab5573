"""docs/troubleshooting.md has every message of the code, with cause and fix, and none that the code lacks.

On the page a message is a list item that is code and nothing else; `…` stands for what differs. In the code a message
is a text that is raised, logged, or returned by a function that explains; what is put into it is a gap.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.conftest import COLLECTOR, ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "…"
SAY = re.compile(
    r"(\w*Error|Refused|NotFound|Passing|TooMany|TooLarge|Busy|Writing|NotAFile|error|warning|problem|set_aside|append|print|_warn)$"
)
"""Calls whose arguments a user reads; `append` where it is to problems, `print` of a WARNING."""
EXPLAIN = re.compile(r"(explain|refusal|_?why_\w+|_health|_how_stopped|_unknown|refuse_\w+|_report_after\w*)$")
"""Functions that return or build a message."""
WORDS = re.compile(r"[A-Za-z]{2,}\W+[A-Za-z]+\W+[A-Za-z]{2,}")
PASSED_ON = {
    *("nested too deep", "a journal that names another file", "the unexpected error:"),
    *("a run is under way since … UTC", "no run was due yet", "/proc/self/fd/…", "it ended with …"),
}
"""What is caught, wraps another, or is no error."""


def text_of(node: ast.expr) -> str:
    """A literal, with gaps where something is put in; nothing where it is no literal."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
        return re.sub(f"{GAP}+", GAP, "".join(map(str, parts)))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[-.0-9]*[sdf]|\{[\w:.]*\}", GAP, node.value)
    return ""


def literals(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Every text in an expression or a function, and its line; the parts of a text are no texts."""
    if isinstance(node, ast.expr) and (text := text_of(node)):
        yield text, node.lineno
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from literals(child)


def said(tree: ast.Module) -> Iterator[tuple[str, int]]:
    named = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign) if is_a_name(node)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=given) if SAY.match(name):
                if name != "append" or "problems" in ast.unparse(node.func):
                    found = [each for one in given for each in literals(named.get(getattr(one, "id", ""), one))]
                    yield from (each for each in found if name != "print" or "WARNING" in each[0])
            case ast.Tuple(elts=[_, ast.Name(id=name), sentence]) if SAY.match(name):  # a table of what may happen
                yield from literals(sentence)
            case ast.FunctionDef(name=name, args=ast.arguments(defaults=defaults)) if SAY.match(name):
                for default in defaults:
                    yield from literals(default)
            case ast.FunctionDef(name=name, body=body) if EXPLAIN.match(name):
                for statement in body[isinstance(body[0], ast.Expr) :]:
                    yield from literals(statement)


def is_a_name(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name)


@cache
def programs() -> dict[str, ast.Module]:
    files = (*(ROOT / "pexip_history").rglob("*.py"), COLLECTOR)
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def entrypoint() -> Iterator[str]:
    script = (ROOT / "entrypoint.sh").read_text(encoding="utf-8")
    for match in re.finditer(r"""stop_with ('[^']*'|"(?:[^"\\]|\\.)*")""", script):
        yield re.sub(r"\$\([^()]*\)|\$\{[^}]*\}|\$\w+", GAP, match[1][1:-1])


@cache
def messages() -> dict[str, str]:
    """Every message, placeholders as gaps, and where it stands."""
    found = {text: f"{name}:{line}" for name, tree in programs().items() for text, line in said(tree)}
    found |= dict.fromkeys(entrypoint(), "entrypoint.sh")
    return {
        text: where
        for text, where in found.items()
        if WORDS.search(text) and text not in PASSED_ON and "\\b" not in text
    }


@cache
def documented() -> list[str]:
    """The messages on the page: list items that are one code span."""
    page = PAGE.read_text(encoding="utf-8")
    return [match[2].strip() for match in re.finditer(r"^- (`+)(.+)\1$", page, re.MULTILINE)]


def in_order(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.strip().split(GAP))))


def as_item(text: str) -> str:
    return f"- `` {text} ``" if "`" in text else f"- `{text}`"


def test_the_page_has_every_message_that_the_code_has() -> None:
    page = documented()
    lacking = [(t, where) for t, where in messages().items() if not any(in_order(t).search(line) for line in page)]
    listed = [f"{as_item(text)}    ({where})" for text, where in lacking]
    assert not listed, "\n".join([f"add to {PAGE.relative_to(ROOT)}, with its cause and its fix:", *listed])


def test_the_page_has_no_message_that_the_code_lacks() -> None:
    known = [in_order(text) for text in messages() if len(text.replace(GAP, "")) > 12]
    extra = [as_item(line) for line in documented() if not any(text.search(line) for text in known)]
    assert not extra, "\n".join([f"no code says this any more; change in {PAGE.relative_to(ROOT)}:", *extra])


def test_each_message_on_the_page_is_there_once_and_has_a_cause_and_a_fix() -> None:
    assert len(set(documented())) == len(documented())
    page = PAGE.read_text(encoding="utf-8")
    unexplained = re.findall(r"^- (`+.+`+)\n+(?=#|\Z)", page, re.MULTILINE)
    assert not unexplained, "\n".join(["nothing is said about:", *unexplained])


def test_messages_are_found_in_the_code() -> None:
    """Guards the gathering itself: some that must be among what it finds."""
    for part in (
        "the connection was refused",
        "is missing; give five fields",
        "the run of",
        "participants of conference",
        "the disk is full",
        "cron needs root",
        "while publishing",
        "covers this window",
    ):
        assert any(part in text for text in messages()), part
