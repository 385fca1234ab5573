"""Runs of collector.py at 30 ms each, cut short or failing at a chosen step that touches the disk.

This process imports the collector once and forks for every run; the child counts its steps (each
opening for writing, write, half of a write, fsync, rename, unlink, truncation, ledger statement)
and, at the one that was asked for, kills itself or raises. It is spoken to in lines of JSON, by the
class below. A run that nothing is to befall can do without the fork, at a third of its time.

A command may also be given little memory, other constants, or a clock by which waiting takes no time.
"""

from __future__ import annotations

import builtins
import errno
import gc
import importlib.util
import io
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Self
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("COLLECTOR", ROOT / "collector.py"))
"""COLLECTOR=elsewhere/collector.py holds another one against the same tests."""
Fault = Literal["kill", "ENOSPC", "EACCES", "EBUSY"]

MEMORY = next((str(path) for path in [Path("/dev/shm")] if os.access(path, os.W_OK)), None)
"""Where data folders of tests are quick: a kill does not lose what the kernel was given, so a
disk would add nothing but its time. None: the usual place for temporary files."""

LONGEST = 60
"""Seconds, of a forked command."""
GROWS = ("write", "half", "mkdir", "create", "sql", "fsync")
"""The steps that a full disk does not let through."""
NEEDS_PERMISSION = ("create", "open", "rename", "unlink", "mkdir", "connect")


@dataclass
class Outcome:
    """How a command ended: exit code (negative: the signal), what it said, the steps it took.

    `slept`: seconds that it would have waited, where it was hurried. `peak`: its most memory, in bytes.
    """

    code: int
    stdout: str
    stderr: str
    steps: list[str] = field(default_factory=list)
    slept: float = 0
    peak: int = 0

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class ForkedCollector:
    """`with ForkedCollector() as run: run([], env, moment, "kill", 17)`; `program` is collector.py."""

    def __init__(self, program: Path = PROGRAM) -> None:
        self.program = program

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.program)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def __call__(
        self,
        arguments: list[str],
        env: Mapping[str, str],
        moment: datetime | None = None,
        fault: Fault | None = None,
        at: int | str = 0,
        *,
        fork: bool = True,
        hurry: bool = False,
        constants: Mapping[str, float] | None = None,
        memory: int | None = None,
    ) -> Outcome:
        """One command; its clock stands at `moment` (naive: UTC; None: the real one, running). Steps count from 1.

        ENOSPC stays from that step on, as a full disk does; EACCES and EBUSY are for that step alone. With a
        name as `at`, each opening of that file fails (EACCES, EBUSY), with "write NAME" each write to it (ENOSPC).
        `hurry`: waiting takes no time. `constants` of node/ are set otherwise, `memory` (bytes) is all that it gets.
        """
        if moment and not moment.tzinfo:
            moment = moment.replace(tzinfo=UTC)
        order = {
            "arguments": arguments, "env": dict(env), "moment": moment and moment.timestamp(), "fault": fault, "at": at,
            "hurry": hurry, "constants": dict(constants or {}), "memory": memory,
            "fork": bool(fork or fault or hurry or constants or memory),
        }  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


# In the child


class Steps:
    """Counts, and strikes at the step that was asked for."""

    def begin(self, folder: str, fault: Fault | None, at: int | str) -> None:
        self.folder, self.fault, self.at = folder, fault, at
        self.names: list[str] = []
        self.slept = 0.0

    def take(self, kind: str, what: object) -> bool:
        """One step; whether it fails. Does not return when it kills."""
        self.names.append(f"{kind} {what if kind == 'sql' else Path(str(what)).name}")
        here = self.at in (len(self.names), self.names[-1].removeprefix("open "))
        if self.fault == "kill" and here:
            if kind == "half":
                return True
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "ENOSPC" and kind in GROWS:
            return len(self.names) >= self.at if isinstance(self.at, int) else here
        return self.fault in ("EACCES", "EBUSY") and here and kind in NEEDS_PERMISSION

    def fail(self, what: object) -> None:
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, str(self.fault))
        raise OSError(number, os.strerror(number), str(what))

    def ours(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.realpath(path).startswith(self.folder)


def hook(steps: Steps) -> None:
    """Puts the counting around everything that the collector reaches the disk with."""

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            view = memoryview(data).cast("B")
            if steps.take("write", self.name):
                steps.fail(self.name)
            if steps.take("half", self.name):
                super().write(view[: len(view) // 2])
                steps.fail(self.name)
            return super().write(view)

        def truncate(self, size: int | None = None) -> int:
            steps.take("truncate", self.name)
            return super().truncate(size)

    real_open = io.open

    def opening(file: Any, mode: str = "r", *rest: Any, **named: Any) -> IO[Any]:
        if not set(mode) & set("wax+") or not steps.ours(file):
            return real_open(file, mode, *rest, **named)
        if steps.take("open" if Path(file).exists() else "create", file):
            steps.fail(file)
        raw = File(file, mode.replace("b", "").replace("t", ""), opener=named.get("opener"))
        raw.name = os.fspath(file)
        if (*rest, named.get("buffering"))[0] == 0:
            return raw  # type: ignore[return-value]
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered  # type: ignore[no-any-return]
        text = dict(zip(("buffering", "encoding", "errors", "newline"), rest, strict=False)) | named
        return io.TextIOWrapper(buffered, text.get("encoding"), text.get("errors"), text.get("newline"))

    def around(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(what: Any, *rest: Any, **named: Any) -> Any:
            path = f"/proc/self/fd/{what}" if isinstance(what, int) else what
            if steps.ours(path) and steps.take(kind, os.path.realpath(path)):
                steps.fail(path)
            return real(what, *rest, **named)

        return call

    class Connection(sqlite3.Connection):
        """Of a transaction its begin, its first change and its commit are steps: what is between
        is in memory. Scratch tables (a plain BEGIN) hold nothing that outlives the run."""

        ours = 0

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            word = sql.split(None, 1)[0].upper()
            self.ours = 1 if sql.startswith("BEGIN IMMEDIATE") else self.ours and self.ours + 1
            if self.ours in (1, 2) or (self.ours and word == "COMMIT"):
                self._count(sql)
            if word in ("COMMIT", "ROLLBACK"):
                self.ours = 0
            return super().execute(sql, *values)

        def executescript(self, sql: str) -> sqlite3.Cursor:
            self._count(sql)
            return super().executescript(sql)

        def _count(self, sql: str) -> None:
            if steps.take("sql", " ".join(sql.split())[:40]):
                if self.in_transaction:  # as SQLite does of itself when the disk is full
                    super().execute("ROLLBACK")
                raise sqlite3.OperationalError("database or disk is full")

    real_connect = sqlite3.connect

    def connecting(path: Any, *rest: Any, **named: Any) -> sqlite3.Connection:
        file = unquote(urlsplit(path).path) if str(path).startswith("file:") else path
        if not steps.ours(file):
            return real_connect(path, *rest, **named)
        if steps.take("connect", file):
            raise sqlite3.OperationalError("unable to open database file")
        return real_connect(path, *rest, factory=Connection, **named)

    io.open = builtins.open = opening
    sqlite3.connect = connecting
    for kind, names in {
        "fsync": ("fsync", "fdatasync"),
        "rename": ("replace", "rename", "link"),
        "unlink": ("unlink", "remove", "rmdir"),
        "mkdir": ("mkdir",),
        "truncate": ("truncate", "ftruncate"),
        "chmod": ("chmod",),
    }.items():
        for name in names:
            setattr(os, name, around(kind, getattr(os, name)))


def hasten(steps: Steps) -> None:
    """Waiting takes no time, and nothing else does by the clock that runs steadily."""
    began = time.monotonic()

    def sleep(seconds: float) -> None:
        steps.slept += seconds

    time.sleep = sleep
    time.monotonic = lambda: began + steps.slept


def run(order: dict[str, Any], steps: Steps) -> int:
    """The exit code."""
    import time_machine

    import collector

    steps.begin(os.path.realpath(order["env"].get("DATA_DIR", "/nowhere")), order["fault"], order["at"])
    sys.argv[1:] = order["arguments"]
    os.environ.clear()
    os.environ.update(order["env"])
    for room in ("api", "connection") if order["constants"] else ():
        vars(importlib.import_module(f"pexip_history.node.{room}")).update(order["constants"])
    if order["hurry"]:
        hasten(steps)
    if order["memory"]:
        resource.setrlimit(resource.RLIMIT_DATA, (order["memory"],) * 2)
    code = 70
    try:
        moment = order["moment"]  # the same run is the same to the byte
        with time_machine.travel(moment, tick=False) if moment is not None else nullcontext():
            code = collector.main(order["arguments"], order["env"])
    except SystemExit as exit:
        code = int(exit.code or 0)
    except BaseException:  # noqa: BLE001  as the interpreter would at its end
        traceback.print_exc()
    sys.stdout.flush()  # a forked child ends without
    return code


def run_here(order: dict[str, Any], steps: Steps) -> int:
    """Nothing of it goes on when this returns."""
    code = run(order, steps)
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join()
    if code:
        gc.collect()  # what it left open
    return code


def run_forked(order: dict[str, Any], steps: Steps, report: IO[bytes]) -> tuple[int, int]:
    """The exit code, and the most memory in bytes."""
    if pid := os.fork():
        _, ended, used = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(ended), used.ru_maxrss * 1024
    signal.alarm(LONGEST)
    code = run(order, steps)
    os.write(report.fileno(), json.dumps([steps.names, steps.slept]).encode())
    os._exit(code)


def serve(program: str) -> None:
    sys.path.insert(0, str(Path(program).parent))  # another version brings its own rooms
    sys.argv[0] = program
    spec = importlib.util.spec_from_file_location("collector", program)
    assert spec
    assert spec.loader
    sys.modules["collector"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["collector"])
    for name in (
        "time_machine",
        "requests",
        "tenacity",
        "msgspec",
        "cronsim",
        "email.utils",
        "tqdm",
        "duckdb",
        "pexip_history.operate.check",
        "pexip_history.operate.status",
        "pexip_history.operate.health",
        "pexip_history.operate.notify",
        "pexip_history.operate.report_page",
    ):
        with suppress(ImportError):  # of a version that has other rooms
            __import__(name)
    steps = Steps()
    steps.begin("/nowhere", None, 0)
    hook(steps)
    gc.freeze()  # spares the children copies of these pages
    with os.fdopen(os.dup(1), "w") as answers, ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        for descriptor in (1, 2):
            os.dup2(files[descriptor - 1].fileno(), descriptor)
        for line in sys.stdin:
            for file in files:
                file.seek(0)
                file.truncate()
            order, peak = json.loads(line), 0
            if order["fork"]:
                code, peak = run_forked(order, steps, files[2])
            else:
                code = run_here(order, steps)
            texts = []
            for file in files:
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
            names, slept = json.loads(texts[2] or "[[], 0]") if order["fork"] else (steps.names, 0)
            outcome = Outcome(code, texts[0], texts[1], names, slept, peak)
            print(json.dumps(asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
