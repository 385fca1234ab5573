"""Stand-in of the branch notify; the lead's own takes its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Settings:
    address: str = "mgr.example.com"
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    ping_url: str | None = field(default=None, repr=False)
    notify_urls: tuple[str, ...] = field(default=(), repr=False)
