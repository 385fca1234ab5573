"""What an export can be asked for, as the command line has it."""

from __future__ import annotations

TABLES = {
    "conferences": "a row for each conference, with all its columns",
    "participants": "a row for each participant, with all its columns",
    "streams": "a row for each media stream (DATA_MEDIA_STREAMS=true)",
    "usage": "minutes and licenses by day, service tag, room, type, protocol and location: what a bill is made from",
    "calls": "a row for each connection with what support asks: who, where, quality, losses, reason",
    "rooms": "a row for each room: tag, first and last used, conferences, minutes, most at the same time",
}
FORMATS = ("xlsx", "csv", "parquet", "jsonl")
QUALITIES = {
    "good": ("1_good",),
    "ok": ("2_ok",),
    "bad": ("3_bad", "4_terrible"),
    "terrible": ("4_terrible",),
    "unknown": ("0_unknown",),
}
"""By the word for --quality: bad is what the page counts as bad."""
