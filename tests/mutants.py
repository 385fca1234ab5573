"""The program, broken on purpose in one place at a time: the tests of the room must turn red.

    python -m tests.mutants --sample 30 --minutes 4     as .ci/run does: the same thirty each time
    python -m tests.mutants ledger/ --seed 2 --sample 50 --long     others, of one folder; all tests try those that live

A mutant is named by file, function, change and its number there, so that lines may move. Those that may live are in
CONTRIBUTING.md's table, each with its reason. Of the kept tools, mutmut looks for a mutant's tests by the calls in
pytest's own process, where nothing of the collector runs, and cosmic-ray drops no statements and has one test command.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300
"""Seconds: a mutant that never ends is found out as well."""

ROOMS = {
    "": "test_messages test_coverage_cases test_collect test_notify",
    "collector.py": "test_commands test_notify test_collect test_csv test_erasing test_coverage_cases",
    "settings/": "test_settings",
    "settings/columns.py": "test_keeping test_settings",
    "settings/files.py": "slow test_settings test_oauth2",
    "run/": "test_plan test_ledger test_coverage_cases test_ids_decide test_exactly_once test_simulation",
    "run/bad_calls.py": "test_bad_calls",
    "run/saying.py": "test_collect test_coverage_cases",
    "run/reading.py": "test_bad_calls test_exactly_once test_failures test_coverage_cases",
    "ledger/": "test_coverage_cases test_ledger test_simulation test_upgrade",
    "ledger/schema.py": "test_ledger test_planted test_coverage_cases",
    "ledger/rewritten.py": "test_editing test_keeping test_erasing",
    "archive/": "test_coverage_cases test_simulation test_crash test_csv",
    "archive/aggregates.py": "test_reading test_exactly_once test_coverage_cases test_simulation test_crash",
    "archive/belonging.py": "test_exactly_once test_coverage_cases test_upgrade test_simulation",
    "archive/comparing.py": "test_verify",
    "archive/editing.py": "test_reading test_editing test_keeping test_erasing",
    "archive/erasing.py": "test_erasing test_editing",
    "archive/keeping.py": "test_keeping test_editing",
    "archive/holdings.py": "test_editing test_erasing test_manifest",
    "archive/journal.py": "test_editing test_erasing test_keeping test_planted",
    "archive/manifest.py": "test_manifest",
    "archive/staging.py": "test_csv test_keeping test_failures",
    "archive/parquet_rows.py": "test_editing test_manifest test_keeping test_parquet",
    "folder/": "test_folder test_reading test_csv test_planted",
    "folder/people.py": "test_people test_erasing",
    "folder/mounts.py": "test_folder test_settings test_commands",
    "node/": "test_connection test_failures test_coverage_cases test_ids_decide",
    "node/answers.py": "slow test_connection test_failures test_csv test_hostile",
    "node/connection.py": "slow test_connection test_failures test_hostile",
    "node/credentials.py": "slow test_oauth2 test_failures",
    "node/certificates.py": "test_connection test_failures",
    "history/": "test_history test_report_oracle test_parquet test_export",
    "report/": "test_report_looks test_report_oracle test_report test_report_says",
    "export/": "test_export",
    "export/parquet.py": "test_parquet",
    "container/": "test_container",
    "operate/": "test_commands",
    "operate/process.py": "test_parquet test_commands test_coverage_cases",
    "operate/arguments.py": "test_commands test_export test_collect test_erasing",
    "operate/check.py": "test_commands test_settings",
    "operate/crontab.py": "test_settings",
    "operate/erase.py": "test_erasing",
    "operate/export_command.py": "test_export test_commands",
    "operate/log.py": "test_coverage_cases test_collect test_commands",
    "operate/message.py": "test_notify",
    "operate/notify.py": "test_notify",
    "operate/parquet_files.py": "test_parquet",
    "operate/plain.py": "test_notify",
    "operate/report_page.py": "test_commands test_report_says test_erasing",
    "operate/status.py": "slow test_ledger test_keeping test_coverage_cases test_commands test_upgrade",
    "operate/telling.py": "test_coverage_cases test_notify test_exactly_once",
    "operate/verify.py": "test_verify",
}
"""The tests that are to notice, quickest first, by what a file's path in pexip_history/ begins with (the longest).

Chosen by a trace of which test of `make test` runs which line: together they run nearly every line of the room that one
of those runs. `slow`: those of make test-long too, which the trace left out.
"""

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|REPLACE|PRAGMA)\b")
IN_SQL = ((" AND ", " OR "), (" < ", " <= "), (" > ", " >= "), (" <= ", " < "), (" >= ", " > "), ("NOT ", ""))
IN_SQL += (("DISTINCT ", ""), ("min(", "max("), ("max(", "min("))
QUIET = ("log", "logging", "say", "print")
"""What only tells: a call of theirs, or of a method of theirs, is left alone."""
SYMMETRIC = ("min", "max", "suppress", "os.path.samestat")
"""To which it would be the same if their arguments were swapped."""
EXITS = {"DONE": "FAILED", "FAILED": "DONE", "MISUSED": "FAILED", "BUSY": "FAILED"}
PROGRAM = "collector.py"

PYTEST = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--tb=no"]
ALL = ["-m", "slow or not slow"]


@dataclass(frozen=True)
class Mutant:
    """One place of a file's text, and what stands there instead."""

    file: str
    where: str
    change: str
    start: int
    end: int
    new: str
    line: int
    number: int = 1

    @property
    def name(self) -> str:
        return f"{self.file} {self.where}: {self.change} #{self.number}"


class Finder(ast.NodeVisitor):
    """Every mutant of a module."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text, self.found, self.where = file, text, list[Mutant](), ["module"]
        lines = text.encode().splitlines(keepends=True)
        self.starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]

    def place(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def add(self, node: ast.expr | ast.stmt, change: str, new: str | ast.AST) -> None:
        text = new if isinstance(new, str) else ast.unparse(ast.fix_missing_locations(new))
        text = f"({text})" if isinstance(new, ast.expr) else text
        start, end = self.place(node)
        self.found.append(
            Mutant(self.file, ".".join(self.where[1:]) or "module", change, start, end, text, node.lineno)
        )

    def visit(self, node: ast.AST) -> None:
        """Types and decorators are not looked at."""
        for name in ("annotation", "returns"):
            if hasattr(node, name):
                setattr(node, name, None)
        named = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        if named:
            node.decorator_list = []
            self.where.append(node.name)
        if self.look(node):
            self.generic_visit(node)
        if named:
            self.where.pop()

    def look(self, node: ast.AST) -> bool:
        """Find the mutants of the node itself. Whether what is within it is looked at."""
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return False
            case ast.If() | ast.While() | ast.IfExp():
                self.condition(node.test)
                if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return):
                    self.add(node.body[-1], "return dropped", "pass")
            case ast.comprehension():
                for test in node.ifs:
                    self.add(test, "filter dropped", "True")
            case ast.Compare():
                for place, op in enumerate(node.ops):
                    changed = copy.deepcopy(node)
                    changed.ops[place] = COMPARISONS[type(op)]()
                    self.add(node, f"{self.sign(op)} to {self.sign(changed.ops[place])}", changed)
            case ast.BoolOp():
                for place in range(len(node.values)):
                    left = copy.deepcopy(node)
                    del left.values[place]
                    self.add(node, f"part {place + 1} dropped", left if len(left.values) > 1 else left.values[0])
            case ast.BinOp(left=first, op=ast.Add() | ast.Sub() as op, right=second):
                other = ast.Sub() if isinstance(op, ast.Add) else ast.Add()
                change = "+ to -" if isinstance(op, ast.Add) else "- to +"
                self.add(node, change, ast.BinOp(first, other, second))
            case ast.BinOp(left=first, op=ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod()):
                if not isinstance(first, ast.Constant):
                    self.add(node, f"{ast.unparse(node)[:40]}: left part alone", first)
            case ast.BinOp(op=ast.LShift()):  # bytes that are read at once
                return False
            case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
                self.add(node, "minus dropped", operand)
            case ast.Return(value=ast.Name(id=code) as value) if code in EXITS:
                self.add(value, "another exit code", EXITS[code])
            case ast.Constant(value=bool(value)):
                self.add(node, f"{value} to {not value}", str(not value))
            case ast.Constant(value=int(value)):
                self.add(node, f"{value} to {value + 1}", str(value + 1))
            case ast.Constant(value=str(text)) if SQL.search(text):
                self.sql(node)
            case ast.JoinedStr():
                if SQL.search(ast.unparse(node)):
                    self.sql(node)
                return False
            case ast.Raise():  # its words are its own affair
                self.add(node, "raise dropped", "pass")
                return False
            case ast.Call():
                return self.call(node)
            case ast.Expr(value=ast.Call() as call) if not self.tells(call):
                self.add(node, f"{ast.unparse(call.func)}() dropped", "pass")
            case ast.AugAssign() | ast.Delete() | ast.Break() | ast.Continue():
                self.add(node, f"{type(node).__name__.lower()} dropped", "pass")
            case ast.Assign() if not isinstance(node.value, ast.Constant) and len(self.where) > 2:
                targets = [ast.unparse(target) for target in node.targets]
                if all("." in target or "[" in target for target in targets):
                    self.add(node, f"{targets[0]} not set", "pass")
        return True

    def condition(self, test: ast.expr) -> None:
        match test:
            case ast.Compare():  # of which the operator is changed
                return
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.add(test, "condition negated", operand)
            case _:
                self.add(test, "condition negated", ast.UnaryOp(ast.Not(), test))

    def sign(self, op: ast.cmpop) -> str:
        return ast.unparse(ast.Compare(ast.Name("a"), [op], [ast.Name("b")]))[2:-2]

    def sql(self, node: ast.expr) -> None:
        """Its operators in turn, in the text as it stands."""
        first, last = self.place(node)
        source = self.text.encode()[first:last].decode()
        for old, new in IN_SQL:
            for place in (match.start() for match in re.finditer(re.escape(old), source)):
                changed = source[:place] + new + source[place + len(old) :]
                self.add(node, f"{old.strip()} to {new.strip() or 'nothing'}", changed)

    def call(self, node: ast.Call) -> bool:
        if self.tells(node):
            return False
        node.keywords = [one for one in node.keywords if one.arg != "strict"]  # of zip: it guards, and decides nothing
        name, two = ast.unparse(node.func), [ast.unparse(arg) for arg in node.args[:2]]
        if name in SYMMETRIC and len(node.args) == 2:
            for place in (0, 1):
                self.add(node, f"{name}() dropped, part {place + 1} left", node.args[place])
        plain = all(isinstance(arg, (ast.Name, ast.Attribute)) for arg in node.args[:2])
        if name not in SYMMETRIC and plain and len(set(two)) == 2:
            swapped = ast.Call(node.func, [*node.args[1::-1], *node.args[2:]], node.keywords)
            self.add(node, f"{name}: arguments swapped", swapped)
        return True

    def tells(self, node: ast.Call) -> bool:
        return ast.unparse(node.func).split(".")[0] in QUIET


def mutants(root: Path, words: list[str]) -> list[Mutant]:
    """All of them that name one of the words (none: all), numbered within their function."""
    found = []
    for path in [root / PROGRAM, *sorted((root / "pexip_history").rglob("*.py"))]:
        file = path.relative_to(path.parent if path.name == PROGRAM else root / "pexip_history").as_posix()
        if words and not any(word in file for word in words):
            continue
        text = path.read_text(encoding="utf-8")
        finder = Finder(file, text)
        finder.visit(ast.parse(text))
        seen: Counter[tuple[str, str]] = Counter()
        for mutant in finder.found:
            seen[mutant.where, mutant.change] += 1
            fields = vars(mutant) | {"number": seen[mutant.where, mutant.change]}
            found.append(Mutant(**fields))
    return found


def may_live(root: Path) -> dict[str, str]:
    """Those in CONTRIBUTING.md's table, and why."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `([^`|]+: [^`|]+ #\d+)` \| (.+) \|$", text, re.MULTILINE))


def tests_of(root: Path, file: str) -> list[str]:
    """The tests that are to notice a change of the file, as arguments of pytest."""
    names = ROOMS[max((room for room in ROOMS if file.startswith(room)), key=len)].split()
    there = [f"tests/{name}.py" for name in names if (root / "tests" / f"{name}.py").exists()]
    return [*(ALL if "slow" in names else []), *there]


def path_of(root: Path, file: str) -> Path:
    return root / PROGRAM if file == PROGRAM else root / "pexip_history" / file


def try_one(root: Path, mutant: Mutant, long: bool) -> str:
    """`killed by ...` or `survived`, in a copy of the repository; `long`: who survives is tried by all tests."""
    path = path_of(root, mutant.file)
    text = path.read_bytes()
    path.write_bytes(text[: mutant.start] + mutant.new.encode() + text[mutant.end :])
    try:
        code, output = run_tests(root, ["-x", *tests_of(root, mutant.file)])
        if code == 0 and long:
            code, output = run_tests(root, ["-x", *ALL, "tests"], longest=12 * LONGEST)
    finally:
        path.write_bytes(text)
    if code is None:
        return "killed by its time"
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S*)", output, re.MULTILINE)
    if code == 0:
        return "survived" if " passed" in output else f"its tests were skipped: {output[-200:]}"
    if code == 3:
        return "killed by pytest's own end: a room is not to be imported so"
    if not failed:
        return f"pytest ended with {code}: {output[-300:]}"
    return f"killed by {failed[1]}" if is_green(root, failed[1]) else f"not tried: {failed[1]} is red without it"


def run_tests(root: Path, arguments: list[str], longest: int = LONGEST) -> tuple[int | None, str]:
    """pytest's exit code and what it said; no code where it took too long."""
    command = [*PYTEST, *arguments]
    output, errors = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        command, cwd=root, stdout=output, stderr=errors, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=longest)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, ""
    return process.returncode, said


@cache
def is_green(root: Path, test: str) -> bool:
    """Whether the test that a mutant turned red passes without any."""
    return run_tests(root, [*ALL, f"tests/{test.partition('[')[0]}"])[0] == 0


def try_all(some: list[Mutant], workers: int, minutes: float, long: bool) -> Iterator[tuple[Mutant, str, float]]:
    """Each with how it ended and the seconds that took; every worker has a copy of the repository.

    None is begun after so many minutes.
    """
    until, roots = time.monotonic() + minutes * 60, queue.SimpleQueue[Path]()

    def work(mutant: Mutant) -> tuple[Mutant, str, float] | None:
        began = time.monotonic()
        if began > until:
            return None
        root = roots.get()
        try:
            return mutant, try_one(root, mutant, long), time.monotonic() - began
        finally:
            roots.put(root)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(workers) as pool:
        Path(folder).chmod(0o755)  # tests become other users
        for number in range(workers):
            root = Path(folder) / str(number)
            shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache"))
            roots.put(root)
        yield from filter(None, (future.result() for future in as_completed([pool.submit(work, one) for one in some])))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="of a file's path, such as ledger/ or run/plan.py")
    parser.add_argument("--sample", type=int, help="so many of them; all where it is not given")
    parser.add_argument("--seed", default="1", help="another has another sample")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin none after that")
    parser.add_argument(
        "--long", action="store_true", help="what survives is tried by make test and make test-long whole"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="name them and try none")
    given = parser.parse_args()
    found = mutants(ROOT, given.words)
    if given.sample:
        found.sort(key=lambda one: hashlib.sha256(f"{given.seed} {one.name}".encode()).hexdigest())
        found = found[: given.sample]
    if given.list:
        print(*(f"{one.name} (line {one.line}): {' '.join(one.new.split())[:100]}" for one in found), sep="\n")
        return 0
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    files = sorted({test for one in found for test in tests_of(ROOT, one.file)})
    if subprocess.run([*PYTEST, "--collect-only", *files], cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
        print(f"Without any mutant {' '.join(files)} cannot be run: all would seem killed.", file=sys.stderr)
        return 2
    known, alive, tried = may_live(ROOT), [], 0
    for mutant, result, seconds in try_all(found, given.workers, given.minutes, given.long):
        tried += 1
        reason = known.get(mutant.name)
        print(f"{result} in {seconds:.0f} s: {mutant.name} (line {mutant.line})", flush=True)
        if not result.startswith("killed") and not reason:
            alive.append(mutant)
    print(f"{tried} of {len(found)} mutants tried, {len(alive)} alive that may not be")
    return len(alive)


if __name__ == "__main__":
    sys.exit(bool(main()))
