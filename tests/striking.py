"""A command that is struck at each of its steps: killed, the disk full from then on, or the step not permitted."""

from __future__ import annotations

import shutil
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
