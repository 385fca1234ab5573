"""SIGTERM and SIGINT: what is under way ends with Stopped."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

from pexip_history.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals() -> None:
    """From now on the first signal raises Stopped, and no other comes in between."""
    for number in SIGNALS:
        signal.signal(number, _stop)


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    ignore_signals()
    raise Stopped
