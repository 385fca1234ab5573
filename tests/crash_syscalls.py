"""Kills and full disks at the system calls of the whole collector, SQLite's among them, by strace.

    make test-crash-syscalls            (or: python -m tests.crash_syscalls [SCENARIO ...])

For every system call that can change a file, from the start of a run to its end: SIGKILL as it is
entered, then an undisturbed run, then the comparison of tests/test_crash.py. The same with ENOSPC
as its result, then (for those that need a permission) with EACCES. COLLECTOR=...
names another collector.py. A power cut is not simulated: what the kernel was given is there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from . import test_crash as crash
from .forked import MEMORY, PROGRAM, ForkedCollector, Outcome
from .management_node import ManagementNode

# Those of Linux on any machine; strace passes over (?) the ones that this one lacks.
CHANGES = (
    "write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,"
    "ftruncate,truncate,fallocate,mkdir,mkdirat,fchmod,chmod,fchmodat,fchown,link,linkat"
)
OPENS = "open,openat,creat"
FULL = "write,pwrite64,writev,ftruncate,fallocate,fsync,fdatasync,mkdir,mkdirat"
CALL = re.compile(r"^(?:\[pid +)?(\d+)\]? +(\w+)\((.*)")
WRITING = re.compile(r"O_(WRONLY|RDWR|CREAT)")


def optional(names: str) -> str:
    return ",".join(f"?{name}" for name in names.split(","))


class Traced:
    """The collector under strace in a clock of its own."""

    def __init__(self, bench: crash.Bench, program: Path) -> None:
        self.bench, self.site, self.program = bench, bench.site, program
        self.trace = bench.site.data.parent / "trace"
        self.paths: set[str] = set()
        clock = bench.site.data.parent / "clock"
        clock.mkdir(exist_ok=True)
        seconds = (bench.moment - datetime(1970, 1, 1)).total_seconds()
        (clock / "sitecustomize.py").write_text(
            f"import time_machine\ntime_machine.travel({seconds}, tick=True).start()\n"
        )
        self.env = bench.site.env | {"PYTHONPATH": str(clock), "PYTHONDONTWRITEBYTECODE": "1"}

    def __call__(self, *options: str) -> tuple[int, str]:
        within = [option for path in sorted(self.paths) for option in ("-P", path)]
        command = [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(self.trace),
            *within,
            *options,
            sys.executable,
            str(self.program),
        ]
        done = subprocess.run(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def calls(self) -> list[tuple[str, int, str]]:
        """The calls that change the data folder: name, which of that name (from 1), the line.

        Only those on files of the folder are traced from here on, and so counted and struck:
        the message of a collector whose disk is full is heard.
        """
        watched = f"trace={optional(CHANGES + ',' + OPENS)}"
        folder = os.path.realpath(self.site.data)
        self("-y", "-e", watched)
        text = self.trace.read_text(errors="replace")
        self.paths = {folder, *re.findall(rf"{re.escape(folder)}/[^>\"]+", text)}
        self.bench.reset()
        self("-y", "-e", watched)
        seen: Counter[str] = Counter()
        found = []
        for line in self.trace.read_text(errors="replace").splitlines():
            if match := CALL.match(line):
                name, rest = match[2], match[3]
                seen[name] += 1
                if name not in OPENS.split(",") or WRITING.search(rest):
                    found.append((name, seen[name], rest.replace(folder, "")[:90]))
        return found


def run_scenario(name: str, node: ManagementNode, run: ForkedCollector, program: Path) -> tuple[int, int]:
    """How many strikes, how many went wrong."""
    with tempfile.TemporaryDirectory(prefix="crash-", dir=MEMORY) as folder:
        bench = crash.Bench(crash.prepared(crash.SCENARIOS[name], node, run, Path(folder)))
        traced = Traced(bench, program)
        bench.reset()
        calls = traced.calls()
        strikes = wrong = 0
        for fault, when in (("signal=SIGKILL", ""), ("error=ENOSPC", ""), ("error=ENOSPC", "+"), ("error=EACCES", "")):
            for call, number, line in calls:
                if fault != "signal=SIGKILL" and (call in FULL.split(",")) != (fault == "error=ENOSPC"):
                    continue
                bench.reset()
                code, said = traced("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={number}{when}")
                what = f"{name}: {fault}{when} at {call} {number} ({line}), exit {code}"
                strikes += 1
                try:
                    if fault == "signal=SIGKILL":
                        assert code in (-9, 137), f"{what}\n{said}"
                    else:
                        bench.assert_ended_by_itself(Outcome(code, said, ""), what)
                    bench.assert_recovers(what)
                except AssertionError as error:
                    wrong += 1
                    print(f"WRONG {str(error)[-1500:]}", flush=True)
                    shutil.copytree(bench.site.data, f"/tmp/crash-wrong-{os.getpid()}-{strikes}")
            print(f"  {name}: {strikes} strikes, {wrong} wrong, up to {fault}{when}", flush=True)
        return strikes, wrong


def main(names: list[str], program: Path = PROGRAM) -> int:
    if not shutil.which("strace"):
        print("strace is missing; on Debian: apt-get install strace", file=sys.stderr)
        return 2
    total = failures = 0
    with crash.days() as node, ForkedCollector(program) as run:
        for name in names or list(crash.SCENARIOS):
            began = time.monotonic()
            strikes, wrong = run_scenario(name, node, run, program)
            total, failures = total + strikes, failures + wrong
            print(f"{name}: {strikes} strikes, {wrong} wrong, {time.monotonic() - began:.0f} s", flush=True)
    print(f"{total} strikes, {failures} wrong")
    return 1 if failures or not total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
