"""A command that is struck at each of its steps: killed, the disk full from then on, or the step not permitted.

STRIKE=calls (make test-crash-syscalls): at each system call of its whole process, SQLite's among them, by strace.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator

from .forked import GROWS, NEEDS_PERMISSION, Fault, Outcome
from .harness import Site

FAULTS: dict[Fault, set[str] | None] = {
    "kill": None,
    "ENOSPC": set(GROWS) - {"write", "mkdir"},  # a half write is the worse one
    "EACCES": set(NEEDS_PERMISSION),
}
"""The steps that each can strike; None: all."""


class Struck:
    """`command` is given `fault`, `at` and `code`; it is run undisturbed first, from the folder as it is."""

    def __init__(self, site: Site, command: Callable[..., Outcome]) -> None:
        self.site, self.command = site, command
        self.copy = site.data.parent / "kept"
        shutil.copytree(site.data, self.copy)
        self.steps = command(fork=True).steps

    def reset(self) -> None:
        shutil.rmtree(self.site.data)
        shutil.copytree(self.copy, self.site.data)

    def strikes(self, fault: Fault, begin: str = "") -> Iterator[tuple[Outcome, str]]:
        """The folder has just been struck: how the command ended, and what happened in words.

        From the step on that has `begin` in it. Of steps alike in a row only the first is struck.
        """
        first = next(number for number, step in enumerate(self.steps) if begin in step)
        assert len(self.steps) - first > 40
        kinds, before = FAULTS[fault], ""
        for at, step in enumerate(self.steps[first:], first + 1):
            repeated, before = step == before, step
            if repeated or (kinds and step.split()[0] not in kinds):
                continue
            self.reset()
            outcome = self.command(fault=fault, at=at, code=None)
            what = f"{fault} at step {at}: {step}"
            assert outcome.code in ((-9,) if fault == "kill" else (0, 1)), f"{what}\n{outcome.output}"
            yield outcome, what


OPENS = ("open", "openat", "creat")
CHANGES = (
    *("write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("ftruncate", "truncate", "fallocate", "mkdir", "mkdirat", "fchmod", "chmod", "fchmodat", "fchown", "link"),
)
FULL = {"write", "pwrite64", "writev", "ftruncate", "fallocate", "fsync", "fdatasync", "mkdir", "mkdirat"}
CALL = re.compile(r"^(?:\[pid +)?(?:\d+)\]? +(\w+)\((.*)", re.MULTILINE)


class StruckAtCalls(Struck):
    """At the system calls that change the data folder, those of the kernel of any machine."""

    def __init__(self, site: Site, command: Callable[..., Outcome]) -> None:
        super().__init__(site, command)
        self.moment, self.within = site.moment, list[str]()
        folder = os.path.realpath(site.data)
        for _ in range(2):  # the second counts those on files of the folder alone, so that what is said is heard
            self.reset()
            watched = ",".join(f"?{name}" for name in (*CHANGES, *OPENS))
            self.traced("-y", "-e", f"trace={watched}")
            text = (site.data.parent / "trace").read_text(errors="replace")
            self.within = [f"-P{path}" for path in sorted({folder, *re.findall(rf"{re.escape(folder)}/[^>\"]+", text)})]
        seen: Counter[str] = Counter()
        self.calls = []
        """Those that change something: name, which of that name (from 1), what it was given."""
        for name, given in CALL.findall(text):
            seen[name] += 1
            if name in CHANGES or re.search(r"O_(WRONLY|RDWR|CREAT)", given):
                self.calls.append((name, seen[name], given.replace(folder, "")[:90]))

    def traced(self, *options: str) -> Outcome:
        assert self.moment
        self.site.at(self.moment)
        strace = ("strace", "-f", "-qq", "-o", str(self.site.data.parent / "trace"), *self.within, *options)
        with self.site.start(under=strace) as process:
            said = process.communicate(timeout=120)
        return Outcome(process.returncode, *said)

    def strikes(self, fault: Fault, begin: str = "") -> Iterator[tuple[Outcome, str]]:
        how = "signal=SIGKILL" if fault == "kill" else f"error={fault}"
        for name, number, given in self.calls:
            if fault != "kill" and (name in FULL) != (fault == "ENOSPC"):
                continue
            for when in ("", "+") if fault == "ENOSPC" else ("",):
                self.reset()
                outcome = self.traced("-e", f"trace={name}", "-e", f"inject={name}:{how}:when={number}{when}")
                what = f"{fault} at call {number}{when} of {name}({given}"
                assert fault != "kill" or outcome.code in (-9, 137), f"{what}\n{outcome.output}"
                yield outcome, what


MACHINE = StruckAtCalls if os.environ.get("STRIKE") == "calls" else Struck
