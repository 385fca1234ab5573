"""How the C library keeps a run's memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
KEPT = 16 << 20
"""Bytes: what a page's answer and its rows take. What is freed of so many is used again by the next page."""


def keep_freed_memory() -> None:
    """Have glibc keep what is freed: by itself it returns a page's memory to the system, and gets it again.

    That takes a tenth of a run's CPU. One arena for all threads, of which one works at a time. Elsewhere nothing.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, KEPT), (M_MMAP_THRESHOLD, KEPT)):
            mallopt(name, value)
