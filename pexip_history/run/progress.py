"""A bar for a person who watches a run; in a log, a line a minute."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger("collector")


class Progress:
    """A bar for a person who watches; in a log, a line a minute."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def advance(self, resource: str, received: int, total: int) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None or self._bar.desc != f"{resource}s: ":
                self.close()
                self._bar = tqdm(desc=f"{resource}s", unit=" records", leave=False)
            self._bar.total, self._bar.n = total, received
            self._bar.refresh()
        elif time.monotonic() - self._said >= 60:
            self._said = time.monotonic()
            log.info("%d of %d %s records read", received, total, resource)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
