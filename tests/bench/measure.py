"""Whole processes, timed from outside."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Cost:
    """What one process took: wall and CPU (user and system) in seconds, peak memory in MB."""

    wall: float
    cpu: float
    peak: float

    @classmethod
    def median(cls, costs: Sequence[Self]) -> Self:
        """The median of each figure by itself."""
        return cls(*(statistics.median(getattr(cost, name.name) for cost in costs) for name in fields(cls)))


class FailedError(Exception):
    """A process that was to be timed ended with another exit code than 0."""


def run(command: Sequence[str], environment: dict[str, str], accept: Sequence[int] = (0,)) -> Cost:
    """Run the command to its end and say what it cost.

    The kernel counts the memory of the process that starts it in its peak, so the benchmark's own
    process stays small. Only `environment` is handed on: no proxy, no REQUESTS_CA_BUNDLE. Writes
    of earlier runs are written to disk first, so that nobody waits for another's.
    """
    os.sync()
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"]} | environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accept:
            output.seek(0)
            tail = output.read().decode(errors="replace")[-3000:]
            raise FailedError(f"{' '.join(command)}: exit {process.returncode}\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
