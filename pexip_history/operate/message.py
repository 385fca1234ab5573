"""Whether a run calls for a message to a person, and what it says: from the rows of the run table alone.

No message knows a record: it has counts, times, the node's address and the run's own line. That line repeats what
strangers wrote (a certificate's subject, the target of a redirect), and a chat would make mentions, links and markup
of it, each service by its own rules: so it is made plain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pexip_history.errors import printable
from pexip_history.messages import counted

LONGEST_QUOTE = 600  # characters of a run's line in a message: Teams takes a thousand in all
STOPPED = "stopped on request"
SIGNS = str.maketrans(
    {"@": "(at)", "<": "‹", ">": "›", "[": "(", "]": ")", "`": "'", "*": "∗", "~": "∼", "|": "¦", "#": "♯"}
)
"""What begins a mention or markup, and what stands for it."""
LOOSE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that is not within a word, as it is in the names of settings."""
DOT = re.compile(r"[.\u3002\uff0e\uff61]")
DOTTED = re.compile(rf"[\w-]+(?:{DOT.pattern}[\w-]+)+")
IPV4 = re.compile(r"(\d+\.){3}\d+")
OUR_FILES = re.compile(r"collector\.py|.+\.(csv|html|jsonl|log|parquet|sqlite|xlsx)", re.IGNORECASE)
"""Files, whose names no service takes for a host's."""

Row = Mapping[str, object]


class Message(NamedTuple):
    title: str
    body: str


def due(runs: Sequence[Row], address: str, zone: ZoneInfo, lost: int = 0) -> Message | None:
    """The message that the newest run calls for, by the rows of the run table alone, newest first.

    A run that fails says so where none failed since the last good one, or none today (in `zone`). A good one says so
    where others failed or were killed before it, or `lost` participants were gone from the node. Runs that were
    stopped count for nothing: the one who stopped them knows.
    """
    if not runs or was_stopped(runs[0]):
        return None
    run, *earlier = (row for row in runs if not was_stopped(row))
    last_good = next((place for place, row in enumerate(earlier) if row["outcome"] == "done"), None)
    series, good = earlier[:last_good], earlier[last_good] if last_good is not None else None
    if run["outcome"] == "failed":
        spoke = next((row for row in series if row["outcome"] == "failed"), None)  # a killed one cannot
        if spoke and _started(spoke, zone).date() == _started(run, zone).date():
            return None
        return _failing(run, series, good, address, zone)
    if run["outcome"] == "done" and (series or lost):
        return _working(run, series, address, zone, lost)
    return None


def unrecorded(started: str, message: str, previous: str | None) -> list[Row]:
    """Rows for `due` where the ledger cannot be read: as if the run before (both times ISO, UTC) had failed too.

    So the first run of a day speaks. Without a schedule (`previous` None) each does.
    """
    times = [started] if previous is None else [started, previous]
    return [{"started": text, "outcome": "failed", "message": message} for text in times]


def _failing(run: Row, series: Sequence[Row], good: Row | None, address: str, zone: ZoneInfo) -> Message:
    since = f"The run of {_at(run, zone)} failed"
    if series:
        since = f"{len(series) + 1} runs in a row did not go well, since {_at(series[-1], zone)}"
    before = f"the last one that went well was that of {_at(good, zone)}" if good else "none before went well"
    return Message(
        f"{printable(address)}: collecting the Pexip history fails",
        f"{_line(run)}\n\n{since}; {before}. Each run covers the time of those before it. But the node keeps its newest"
        " 10,000 conferences only: what it forgets until then is lost.",
    )


def _working(run: Row, series: Sequence[Row], address: str, zone: ZoneInfo, lost: int) -> Message:
    title, body = [], [_line(run)]
    if series:
        title.append("collecting the Pexip history works again")
        span = _started(run, zone) - _started(series[-1], zone)
        runs = counted(len(series), "run")
        body.append(
            f"{runs} did not go well, the first {_long(span)} before this one, at {_at(series[-1], zone)}."
            f" This run covered their time: it collected {run['window_start']} to {run['window_end']} UTC,"
            f" {' and '.join(counted(int(str(run[f'{what}s'])), what) for what in ('conference', 'participant'))}."
        )
    if lost:
        title.append(counted(lost, "participant is lost", "participants are lost"))
        body.append(
            f"The node forgot {counted(lost, 'participant')} of collected conferences too early to be collected."
            " Collect more often (DATA_CRON_TIME), and take more in a run (DEFAULT_PART_LIMIT, DEFAULT_CONF_LIMIT;"
            " 0: no limit)."
        )
    return Message(f"{printable(address)}: {' but '.join(title)}", "\n\n".join(body))


def was_stopped(run: Row) -> bool:
    return run["outcome"] == "failed" and str(run["message"]).startswith(STOPPED)


def _started(run: Row, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(str(run["started"])).replace(tzinfo=UTC).astimezone(zone)


def _at(run: Row, zone: ZoneInfo) -> str:
    return f"{_started(run, zone):%Y-%m-%d %H:%M} ({zone})"


def _line(run: Row) -> str:
    text = printable(str(run["message"] or ""))
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]} ..."


def _long(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    units = ((1440, "day"), (60, "hour"))
    size, unit = next(((size, unit) for size, unit in units if minutes >= 2 * size), (1, "minute"))
    return counted(minutes // size, unit)


def plain(text: str, host: str) -> str:
    """The text without anything that a service could take for a mention, for markup, or for a link to another host.

    Lines stay lines. Names of hosts but `host`, the user's own, are written as in evil[.]example.
    """

    def defused(found: re.Match[str]) -> str:
        name = found[0]
        return DOT.sub("[.]", name) if _is_host(name) and name.lower() != host.lower() else name

    def line(text: str) -> str:
        text = LOOSE.sub("-", printable(text).translate(SIGNS)).replace("://", "[:]//")
        return DOTTED.sub(defused, text)

    return "\n".join(map(line, text.split("\n")))


def _is_host(name: str) -> bool:
    last = DOT.split(name)[-1]
    return bool(last.isalpha() or last.lower().startswith("xn--") or IPV4.fullmatch(name)) and not OUR_FILES.fullmatch(
        name
    )
