"""docs/troubleshooting.md and the code say the same messages, no more and no fewer.

On the page a message is a list item that is code and nothing else. `…` in it, or any other text where
the code has a placeholder, stands for what differs from time to time.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from pexip_history.settings.environment import VARIABLES
from tests.conftest import COLLECTOR, ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
GAP = "…"

# Whose arguments a user reads, and which one of them.
RAISED = {
    "NodeError": 0,
    "Passing": 0,
    "Refused": 0,
    "NotFound": 0,
    "TooMany": 0,
    "TooLarge": 0,
    "Writing": 0,
    "NotAFile": 0,
    "CollectorError": 0,
    "Busy": 0,
    "ArgumentTypeError": 0,
    "error": 0,  # log.error and parser.error
    "warning": 0,
    "ValueError": 0,
    "set_aside": 1,
}
RETURNED = {"explain", "_why_not_ours", "_why_not", "refusal", "_unknown"}
PRINTED = ("WARNING ",)
UNHEALTHY = "_health"
"""Returns (False, why), which is printed after `unhealthy: `."""
OF_A_SETTING = {"read_key": f"DEFAULT_MGR_CLIENT_KEY_FILE: {GAP} "}
"""What is printed before a ValueError of a function that reads a setting."""
for variable in VARIABLES:
    same = {other.name for other in VARIABLES if other.read == variable.read}
    OF_A_SETTING[variable.read.__name__] = f"{variable.name if len(same) == 1 else GAP}: "
EXITS = {"exit"}  # sys.exit with a sentence
WRAPPED = {"records.py"}
"""Rooms whose messages are completed by those that call them."""
# What is no message of its own: it is caught, or wraps another.
PASSED_ON = {
    "pinned",
    "not a ledger",
    "…nested too deep",
    "answered JSON that is not the History API's",
    "… …; is DEFAULT_MGR_ADDRESS a Management Node?",
    "… …; it was renamed to … and a new one is started",
    "… …",
}

Scope = ast.FunctionDef | ast.Module


class Gatherer(ast.NodeVisitor):
    """The messages of a module, their placeholders as gaps."""

    def __init__(self, tree: ast.Module) -> None:
        self.messages: dict[str, int] = {}
        self.scopes: list[Scope] = [tree]
        self.visit(tree)

    def visit_FunctionDef(self, function: ast.FunctionDef) -> None:
        self.scopes.append(function)
        if function.name in RETURNED:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value:
                    self.add(node.value, around=function.name != "explain")
        if function.name == UNHEALTHY:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
                    good, text = node.value.elts
                    if isinstance(good, ast.Constant) and good.value is False:
                        self.note(f"unhealthy: {self.text(text)}", node.lineno)
        self.generic_visit(function)
        self.scopes.pop()

    def visit_Tuple(self, entry: ast.Tuple) -> None:
        """An entry of a table: (what happened, the exception, the sentence)."""
        match entry.elts:
            case [_, ast.Name(id=kind), ast.Constant(value=str(sentence))] if kind in RAISED:
                self.note(f"{GAP}: {re.sub(r'{[^}]*}', GAP, sentence)}", entry.lineno)
        self.generic_visit(entry)

    def visit_Call(self, call: ast.Call) -> None:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        first = self.text(call.args[0]) if call.args else ""
        if name in RAISED and len(call.args) > RAISED[name]:
            self.add(call.args[RAISED[name]], before=self.setting(name), around=name == "set_aside")
            if first == "%s" and isinstance(call.args[-1], ast.Name):
                for value, added in self.assigned(call.args[-1].id):
                    self.add(value, before=GAP if added else "")
        elif name == "append" and ast.unparse(call.func) == "problems.append":
            self.add(call.args[0], before=GAP)
        elif name == "problem" and len(call.args) > 1:
            self.note(": ".join(self.text(argument) for argument in call.args), call.lineno)
        elif (name == "print" and first.startswith(PRINTED)) or (name in EXITS and " " in first):
            self.note(first, call.lineno)
        self.generic_visit(call)

    def setting(self, raised: str) -> str:
        """What stands before a message that is raised here."""
        if raised != "ValueError":
            return ""
        inner = self.scopes[-1]
        return OF_A_SETTING.get(inner.name, GAP) if isinstance(inner, ast.FunctionDef) else GAP

    def add(self, value: ast.expr, *, before: str = "", around: bool = False) -> None:
        if isinstance(value, ast.IfExp):
            self.add(value.body, before=before, around=around)
            value = value.orelse
        text = self.text(value)
        if around:
            text = f"{GAP} {text}{GAP}"
        self.note(before + text, value.lineno)

    def note(self, text: str, line: int) -> None:
        text = re.sub(r"%[-.0-9]*[sdf]", GAP, text)
        text = re.sub(f"({GAP})+", GAP, text)
        if text not in PASSED_ON and re.search(r"[A-Za-z]{2,}\W+[A-Za-z]{2,}", text):
            self.messages.setdefault(text, line)

    def text(self, value: ast.expr) -> str:
        """What an expression comes to, with gaps for what cannot be known here."""
        if isinstance(value, ast.Constant):
            return value.value if isinstance(value.value, str) else GAP
        if isinstance(value, ast.JoinedStr):
            return "".join(map(self.text, value.values))
        if isinstance(value, ast.FormattedValue):
            return GAP if value.conversion >= 0 else self.text(value.value)
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            return self.text(value.left) + self.text(value.right)
        if isinstance(value, ast.Name) and not value.id.startswith("__"):
            match list(self.assigned(value.id)):
                case [(ast.Constant() | ast.JoinedStr() as only, False)]:
                    return self.text(only)
                case []:
                    return constants().get(value.id, GAP)
        return GAP

    def assigned(self, name: str) -> Iterator[tuple[ast.expr, bool]]:
        """What a name gets in the innermost scope that assigns it, and whether it is added at the end."""
        for scope in reversed(self.scopes):
            values = list(_assignments(scope, name))
            if values:
                yield from values
                return


def _assignments(scope: Scope, name: str) -> Iterator[tuple[ast.expr, bool]]:
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    for node in nodes:
        if isinstance(node, ast.AugAssign) and getattr(node.target, "id", "") == name:
            yield node.value, True
        elif isinstance(node, ast.For) and getattr(node.target, "id", "") == name:
            yield ast.Constant(None), False
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if getattr(target, "id", "") == name:
                    yield node.value, False
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for part, value in zip(target.elts, node.value.elts, strict=False):
                        if getattr(part, "id", "") == name:
                            yield value, False


def entrypoint_messages() -> dict[str, int]:
    """What entrypoint.sh stops with: stop_with '...' or "..." with the shell's variables as gaps."""
    script = re.sub(r"\$\([^()]*\)", GAP, (ROOT / "entrypoint.sh").read_text(encoding="utf-8"))
    found = {}
    for match in re.finditer(r"""stop_with ('[^']*'|"(?:[^"\\]|\\.)*")""", script):
        text = re.sub(r"\$\{[^}]*\}|\$\w+", GAP, match[1][1:-1])
        if text != GAP:
            found["entrypoint: " + re.sub(r"\s+", " ", text)] = script[: match.start()].count("\n") + 1
    return found


@cache
def constants() -> dict[str, str]:
    """The texts that the rooms name for each other."""
    found = {}
    for file in (ROOT / "pexip_history").rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                    found[name] = text
    return found


@cache
def messages() -> dict[str, str]:
    """Every message, placeholders as gaps, and where it stands."""
    found = {}
    for file in (*(ROOT / "pexip_history").rglob("*.py"), COLLECTOR):
        program = Gatherer(ast.parse(file.read_text(encoding="utf-8"))).messages
        wrapped = file.name in WRAPPED
        found |= {
            f"{GAP} {text}{GAP}" if wrapped else text: f"{file.relative_to(ROOT)}:{line}"
            for text, line in program.items()
        }
    return found | {text: f"entrypoint.sh:{line}" for text, line in entrypoint_messages().items()}


@cache
def documented() -> list[str]:
    """The messages on the page: list items that are one code span."""
    page = PAGE.read_text(encoding="utf-8")
    return [match[2].strip() for match in re.finditer(r"^- (`+)(.+)\1$", page, re.MULTILINE)]


@cache
def said_by(line: str) -> str | None:
    """The message that a line of the page is: of those that fit, the one with the most words of its own."""
    fitting = [
        text for text in messages() if re.fullmatch(".*".join(map(re.escape, text.split(GAP))), line) is not None
    ]
    return max(fitting, key=lambda text: len(text.replace(GAP, "")), default=None)


def listed(what: str, lines: list[str]) -> str:
    return "\n".join([what, *lines])


def as_item(text: str) -> str:
    return f"- `` {text} ``" if "`" in text else f"- `{text}`"


def test_the_page_has_every_message_that_the_code_has() -> None:
    there = set(map(said_by, documented()))
    lacking = [f"{as_item(text)}    ({where})" for text, where in messages().items() if text not in there]
    assert not lacking, listed(f"add to {PAGE.relative_to(ROOT)}, with its cause and its fix:", lacking)


def test_the_page_has_no_message_that_the_code_lacks() -> None:
    extra = [as_item(line) for line in documented() if said_by(line) is None]
    assert not extra, listed(f"no code says this any more; remove from {PAGE.relative_to(ROOT)}:", extra)


def test_each_message_on_the_page_is_there_once_and_has_a_cause_and_a_fix() -> None:
    assert len(set(documented())) == len(documented())
    page = PAGE.read_text(encoding="utf-8")
    unexplained = re.findall(r"^- (`+.+`+)\n+(?=#|\Z)", page, re.MULTILINE)
    assert not unexplained, listed("nothing is said about:", unexplained)


def test_messages_are_found_in_the_code() -> None:
    """Guards the gathering itself: a handful that must be among what it finds."""
    found = messages()
    assert len(found) > 70
    for part in (
        "the connection was refused",
        "DATA_CRON_TIME: is missing",
        "unhealthy: the run of",
        "participants of conference",
        "the disk is full",
        "entrypoint: cron needs root",
        "stopped on request while publishing",
    ):
        assert any(part in text for text in found), part
