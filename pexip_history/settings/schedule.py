"""Cron's five fields: valid for Debian's cron, next, last, in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pexip_history.messages import sentence

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS = {"minute": 59, "hour": 23, "day-of-month": 31, "month": 12, "day-of-week": 7}
"""Each with the largest number in it."""
NAMED = {
    "month": ["-", "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    "day-of-week": ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
}
"""Each at the place of its number."""


@dataclass(frozen=True)
class Schedule:
    """When cron starts a run: five fields, in a zone."""

    line: str
    zone: ZoneInfo

    def next(self, moment: datetime) -> datetime:
        """The next time (UTC) after the moment that cron starts a run."""
        from cronsim import CronSim

        return next(CronSim(self.line, moment.astimezone(self.zone))).astimezone(UTC)

    def last(self, moment: datetime) -> datetime:
        """The last time (UTC) at or before the moment that cron started a run, or five years before it.

        Found by walking on, as cron does: backwards, cronsim differs where the clocks change.
        """
        for days in (1 / 24, 1, 32, 5 * 366):
            found, due = None, self.next(moment - timedelta(days=days))
            while due <= moment:
                found, due = due, self.next(due)
            if found:
                return found
        return moment - timedelta(days=days)

    def in_words(self) -> str:
        from cronsim.explain import explain

        return str(explain(self.line))


def five_fields(value: str) -> str:
    """Five fields that Debian's cron runs; the aliases except @reboot are expanded. Raises ValueError."""
    from cronsim import CronSim, CronSimError

    fields = ALIASES.get(value.lower(), value).split()
    if value.startswith("@") and len(fields) != 5:
        hint = "; DATA_RUN_ON_START=true collects at the start" if value == "@reboot" else ""
        raise ValueError(sentence("not-a-macro", value=value, known=", ".join(ALIASES), hint=hint))
    if len(fields) != 5:
        raise ValueError(sentence("not-five-fields", value=value))
    for (title, most), given in zip(FIELDS.items(), fields, strict=True):
        # What cronsim knows and Debian's cron does not: last days, n-th weekdays, steps from a number.
        steps = map(int, re.findall(r"/(\d+)", given))
        if re.search(r"#|(^|[,/\d])L|LW|(^|,)\d+/", given.upper()) or any(step > most for step in steps):
            raise ValueError(sentence("field-not-debians", value=value, given=given, title=title))
        if hint := _upwards(title, given):
            raise ValueError(sentence("range-reversed", value=value, given=given, title=title, instead=hint))
    try:
        CronSim(" ".join(fields), datetime.now(UTC))
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        raise ValueError(sentence("field-invalid", value=value, field=wrong)) from None
    return " ".join(fields)


def _upwards(title: str, given: str) -> str:
    """For a range that goes over the end of its field, as in sat-sun, what cron takes for it; else nothing."""
    words, least = NAMED.get(title, []), 1 if title in ("day-of-month", "month") else 0
    for first, last in re.findall(r"(?<![^,])(\w+)-(\w+)(?![^,])", given.upper()):
        try:
            begin, end = (words.index(text) if text in words else int(text) for text in (first, last))
        except ValueError:
            continue  # said below
        most = 6 if title == "day-of-week" else FIELDS[title]
        if least <= end < begin <= most:
            spans = ((begin, most), (least, end))
            return given.upper().replace(
                f"{first}-{last}", ",".join(f"{low}-{high}" if low < high else str(low) for low, high in spans)
            )
    return ""
