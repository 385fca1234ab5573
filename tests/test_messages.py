"""Every message has one place, messages.toml, from which the program and docs/troubleshooting.md take it."""

from __future__ import annotations

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from pexip_history.errors import explain
from pexip_history.messages import counted, sentence, table
from tests.conftest import COLLECTOR, ROOT
from tests.troubleshooting import PAGE, page

PROGRAM = [*(ROOT / "pexip_history").rglob("*.py"), COLLECTOR]
ENTRYPOINT = (ROOT / "entrypoint.sh").read_text(encoding="utf-8")
TEXTS = {name: text for group in table()["group"] for name, text in group.get("messages", {}).items()}
SHELL = {name: text for group in table()["group"] for name, text in group.get("entrypoint", {}).items()}
RAISED = re.compile(r"(\w*Error|Refused|NotFound|Passing|TooMany|TooLarge|Busy|Writing|NotAFile|Misused)$")
WORDS = re.compile(r"[A-Za-z]{2,}\W+[A-Za-z]+\W+[A-Za-z]{2,}\W+[A-Za-z]{2,}.*;")
"""More than a few words, and a fix behind them: a message, not a part of one."""


def gaps(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in PROGRAM:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def literals(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def test_each_name_is_once_in_the_table() -> None:
    groups = [group.get(kind, {}) for group in table()["group"] for kind in ("messages", "entrypoint")]
    assert len(TEXTS | SHELL) == sum(map(len, groups))


def test_what_the_program_says_is_in_the_table_with_the_same_gaps() -> None:
    wrong = []
    for where, call in calls():
        if called(call) != "sentence" or any(keyword.arg is None for keyword in call.keywords):
            continue
        filled = {keyword.arg for keyword in call.keywords}
        for name in filter(re.compile(r"[a-z0-9]+(-[a-z0-9]+)*").fullmatch, literals(call.args[0])):
            if name not in TEXTS or gaps(TEXTS[name]) - filled:
                wrong.append(f"{where}: {name}")
    assert not wrong


def test_no_message_of_the_table_is_said_by_nobody() -> None:
    used = {text for file in PROGRAM for text in literals(ast.parse(file.read_text(encoding="utf-8")))}
    assert not set(TEXTS) - used


def test_no_error_is_raised_and_no_warning_logged_beside_the_table() -> None:
    beside = []
    for where, call in calls():
        if RAISED.match(called(call)) or called(call) in ("warning", "error", "problem"):
            beside += [f"{where}: {text}" for text in literals(call) if WORDS.search(text)]
    assert not beside


@pytest.mark.parametrize("name", SHELL)
def test_the_entrypoint_says_what_the_table_has(name: str) -> None:
    parts = [re.escape(text) for text, *_ in Formatter().parse(SHELL[name])]
    assert re.search("[^\n]*".join(parts), ENTRYPOINT)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_that_is_used_up_is_a_full_disk(number: int) -> None:
    assert explain(OSError(number, "why", "where"), Path("data")) == sentence("disk-full", where="where")


def test_the_page_is_made_of_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make troubleshooting writes it again"


def test_what_is_counted_has_its_word_for_one_and_for_several() -> None:
    assert [counted(number, "row") for number in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    reached = {"setting": "X", "limit": 5, "resource": "conference"}
    for number, waits in ((1, "1 conference record waits"), (2, "2 conference records wait")):
        assert f"reached: {waits} for" in sentence("limit-reached", records=number, **reached)
